"""An operation holds what its own action needs, and nothing of another's."""

from typing import Any

import pytest
from pydantic import ValidationError

from mcp_backups.actions import create, prune
from mcp_backups.operations.operation import DeleteDetails, Operation, RestoreDetails

from .made import operation


def test_what_is_special_about_another_action_cannot_be_asked_for() -> None:
    with pytest.raises(TypeError, match="delete_backup has no RestoreDetails"):
        operation("delete_backup").of(RestoreDetails)


@pytest.mark.parametrize("field", ["safety_operation", "facts", "no_such_field"])
def test_a_field_that_its_action_does_not_have_cannot_be_changed(field: str) -> None:
    with pytest.raises(TypeError, match=f"delete_backup has no {field}"):
        operation("delete_backup").updated(**{field: "x"})


def test_its_own_fields_and_those_of_its_details_are_changed_alike() -> None:
    changed = operation("delete_backup").updated(server_name="web-01", good_left=3)
    assert (changed.server_name, changed.of(DeleteDetails).good_left) == ("web-01", 3)


@pytest.mark.parametrize("document", [[], "delete_backup", 7, None])
def test_what_is_no_object_is_no_operation(document: Any) -> None:
    with pytest.raises(ValidationError):
        Operation.model_validate(document)


@pytest.mark.anyio
async def test_a_prune_sends_nothing_by_itself() -> None:
    """Each of its deletes is an operation of its own, with the guards of one."""
    with pytest.raises(TypeError, match="is sent by its deletes"):
        await prune.send(None, operation("prune_backups"))  # type: ignore[arg-type]


def test_nobody_is_asked_before_a_backup_is_made() -> None:
    with pytest.raises(TypeError, match="making a backup needs no consent"):
        create.question(operation("create_backup", "sending"))
