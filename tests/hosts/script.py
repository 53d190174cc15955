"""What the scripted model does in every host: 18 calls of tools, and what it must be told by each."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

_OPERATION = re.compile(r"op_[a-z2-7]{16}")


class Step(NamedTuple):
    """One call.

    Attributes:
        tool: Its name.
        arguments: `op:N` stands for the operation's id in what step N was told.
        expects: A pattern in what the host hands on, be it the text or the structured content; `op:N` as above.
    """

    tool: str
    arguments: dict[str, Any]
    expects: str


STEPS = (
    Step("list_backups", {}, r"\b501\b"),
    Step("list_backups", {"server_name": "web", "limit": 3}, "web-server-01"),
    Step("check_backups", {}, r"\b12360\b"),
    Step("check_backups", {"server_id": 12345}, r"\b501\b"),
    Step("create_backup", {"server_id": 12346, "description": "Before the upgrade"}, "accepted"),
    Step("create_backup", {"server_id": 12346, "description": "Before the upgrade"}, "op:5"),
    Step("get_operation", {"operation_id": "op:5", "wait_seconds": 20}, "succeeded"),
    Step("delete_backup", {"backup_id": 499}, "needs_confirmation"),
    Step("delete_backup", {"backup_id": 499, "confirm": True, "operation_id": "op:8"}, "succeeded"),
    Step("delete_backup", {"backup_id": 499, "confirm": True, "operation_id": "op:8"}, "replayed"),
    Step("delete_backup", {"backup_id": 447}, "policy_denied"),
    Step("delete_backup", {"backup_id": 501, "confirm": True, "operation_id": "op:8"}, "confirmation_invalid"),
    # Gemini CLI checks by the schema itself, and says so in its own words.
    Step("list_backups", {"limit": 500}, "limit must be (an integer from 1 to 100|<= 100)"),
    Step("list_backups", {"server_name": "no such server"}, "not_found"),
    Step("restore_server", {"server_id": 12345, "backup_id": 501}, "needs_confirmation"),
    Step(
        "restore_server",
        {"server_id": 12345, "backup_id": 501, "confirm": True, "operation_id": "op:15"},
        "preparing|accepted",
    ),
    Step("get_operation", {"operation_id": "op:15", "wait_seconds": 5}, "preparing|accepted"),
    Step("prune_backups", {"server_id": 12345, "keep_last": 1}, "needs_confirmation"),
)


def call_after(told: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
    """The tool to call, and its arguments, once so many answers are in; None at the end."""
    if len(told) >= len(STEPS):
        return None
    step = STEPS[len(told)]
    return step.tool, {name: _filled(value, told) for name, value in step.arguments.items()}


def faults(told: Sequence[str]) -> list[str]:
    """Each step that was not told what it must be, by its number from 1, with what it was told."""
    missing = [f"{number}: no answer" for number in range(len(told) + 1, len(STEPS) + 1)]
    return [
        f"{number}: {answer[:200]!r}"
        for number, (step, answer) in enumerate(zip(STEPS, told, strict=False), 1)
        if not re.search(_filled(step.expects, told), answer)
    ] + missing


def _filled(value: Any, told: Sequence[str]) -> Any:
    if not isinstance(value, str) or not value.startswith("op:"):
        return value
    found = _OPERATION.search(told[int(value[3:]) - 1])
    return found[0] if found else "op_aaaaaaaaaaaaaaaa"
