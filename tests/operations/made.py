"""Backups and operations for the tables of these tests."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from mcp_backups.actions import ACTIONS, delete, prune, restore
from mcp_backups.actions.safety import Waiting
from mcp_backups.clock import Moment
from mcp_backups.models import Backup
from mcp_backups.operations import (
    EFFECTIVE,
    ApprovedBy,
    Context,
    Entries,
    Facts,
    Operation,
    Question,
    Reply,
    Result,
    new_id,
)
from mcp_backups.operations.policy import policy_digest
from mcp_backups.settings import Settings
from tests.stage import NOW

USUAL_RULES = policy_digest(Settings())
MOMENT = Moment(wall=NOW, ticks=1000.0, boot="first boot")


async def silent(*_: object) -> None:
    """Tells nobody that it goes on."""


async def wanted() -> bool:
    """The caller is still there."""
    return True


AT_ONCE = Waiting(0, silent, wanted)
"""How a call waits that is answered at once."""


def backup(number: int = 501, hours: float = 48, **fields: Any) -> Backup:
    """A good backup of server 12345, so old."""
    known: dict[str, Any] = {
        "created_at": NOW - timedelta(hours=hours),
        "server_id": 12345,
        "server_name": "web-server-01",
        "type": "manual",
        "status": "completed",
        "size_mb": 100.0,
        "expires_at": None,
        "description": "",
    }
    return Backup(id=number, **known | fields)


def operation(action: str = "delete_backup", status: str = "planned", **fields: Any) -> Operation:
    """An operation; its fields and those of its details are given together."""
    known: dict[str, Any] = {"id": new_id(), "arguments": {"backup_id": 501}, "server_id": 12345, "created": MOMENT}
    known["policy"] = USUAL_RULES
    if status not in {"planned", "declined", "expired", "refused"}:
        known["approved_by"] = "plan"
    if status in EFFECTIVE:
        known["sent"] = fields.get("created", MOMENT)
    given = {"action": action, "status": status} | known | fields
    own = {name: value for name, value in given.items() if name in Operation.model_fields}
    details = {name: value for name, value in given.items() if name not in own}
    return Operation.model_validate(own | {"details": {"kind": own["action"]} | details})


def begun(action: str = "delete_backup", status: str = "approved", **fields: Any) -> Operation:
    """One that somebody consented to, so that the chain tells of it."""
    return operation(action, status, **fields)


def ago(ticking: float = 0, **span: float) -> Moment:
    """A moment so long before now by the wall clock, and `ticking` seconds before by the other."""
    return Moment(wall=NOW - timedelta(**span), ticks=MOMENT.ticks - ticking, boot=MOMENT.boot)


def facts_of(operation: Operation) -> Facts:
    """What an answer would tell of it, made to be shown."""
    return ACTIONS[operation.action].facts(Result(operation), NOW)


def question_of(operation: Operation) -> Question:
    """What a person is asked about a plan."""
    words = {"delete_backup": delete.question, "restore_server": restore.question, "prune_backups": prune.question}
    return words[operation.action](operation)


async def execute_plan(context: Context, plan: Operation, approved_by: ApprovedBy) -> Result:
    """Carry out a plan to delete or restore that was consented to."""
    if plan.action == "delete_backup":
        return await delete.execute_delete(context, plan, approved_by)
    return await restore.execute_restore(AT_ONCE, context, plan, approved_by)


class Nobody:
    """The user behind a client that offers no way to ask them."""

    can_be_asked = False
    answers_about = ""

    async def ask(self, operation_id: str, question: Question) -> Reply:
        raise AssertionError(f"{operation_id}: nobody is to be asked: {question.text}")


def under(context: Context, **rules: Any) -> Context:
    """The same context under other rules: `under(context, approval="flag")`."""
    return replace(context, settings=context.settings.model_copy(update=rules))


def saving(*operations: Operation) -> Callable[[Entries], None]:
    """What records them, in one transaction."""

    def save(entries: Entries) -> None:
        for each in operations:
            entries.save(each)

    return save


async def record_all(context: Context, operations: Iterable[Operation]) -> None:
    """Many operations at once, for they are durable one by one only slowly."""
    await context.ledger.write(saving(*operations))


async def as_recorded(context: Context, operation: Operation) -> Operation:
    """The operation as the ledger has it by now."""
    found = await context.ledger.read(lambda entries: entries.get(operation.id))
    assert found is not None
    return found


def spoil_a_row(content: Any) -> None:
    """Make one row of a list unreadable, for `Fault.edited`: the list is then incomplete."""
    content["results"][-1]["id"] = True
