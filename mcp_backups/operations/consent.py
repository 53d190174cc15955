"""Who consents to a destructive operation, and what a person is asked."""

import json
from datetime import timedelta
from typing import Literal, NamedTuple, Protocol

from mcp_backups.errors import DeclinedError
from mcp_backups.models import Backup
from mcp_backups.operations.operation import Approver, Operation
from mcp_backups.settings import Approval
from mcp_backups.text import age, plural, seen, size, stamp

Consent = Literal["", "plan", "flag", "ask"]
"""Nobody consents yet, the caller does that was shown the plan, the caller's flag does, a person must be asked."""

ANSWER_TIME = timedelta(minutes=5)
"""How long a person may think; an answer after that counts as none."""


_MOST_TYPED = 64
"""Characters of a name that a person is asked to type; for a longer one it is the server's id."""

_NAMED = 10
"""Backups of a prune that a question names; the operation shows them all."""


class Question(NamedTuple):
    """What a person is asked before a destructive operation.

    Attributes:
        text: A few lines: what would be done, to what, what is left, what is lost.
        field: The name of the one field of the answer.
        label: What the field asks for.
        expected: The one value that is a yes.
    """

    text: str
    field: str
    label: str
    expected: bool | str | int

    def is_confirmed_by(self, content: object) -> bool:
        """Whether what a person filled in is a yes: the very value, of the very type, and nothing else.

        Text is compared as people see it, since keyboards and systems spell the same letters in several ways; and JSON
        has one kind of number, in which 2.0 is 2.
        """
        if not isinstance(content, dict) or set(content) != {self.field}:
            return False
        given, expected = content[self.field], self.expected
        if isinstance(given, float) and given.is_integer():
            given = int(given)
        if isinstance(given, str) and isinstance(expected, str):
            return seen(given) == seen(expected)
        return type(given) is type(expected) and given == expected

    def is_left_blank_by(self, content: object) -> bool:
        """Whether nothing came of what a person filled in: some clients drop it on the way."""
        return not content or (
            isinstance(content, dict) and set(content) == {self.field} and content[self.field] is None
        )


class Reply(NamedTuple):
    """What came back from the person.

    Attributes:
        action: What was done with the question; `none` when no answer came in time, `unreadable` when something else
            than an answer came.
        content: What was filled in, when it was accepted.
    """

    action: Literal["accept", "decline", "cancel", "none", "unreadable"]
    content: object = None


class Person(Protocol):
    """The user behind the client that calls, so far as the client lets us speak to them."""

    @property
    def can_be_asked(self) -> bool:
        """Whether the client can put a question to its user."""
        ...

    @property
    def answers_about(self) -> str:
        """The operation that the question was about which this call answers; empty when it answers none."""
        ...

    async def ask(self, operation_id: str, question: Question) -> Reply:
        """Put a question about an operation to the user."""
        ...


def consent(approval: Approval, *, confirm: bool, shown: bool, can_ask: bool) -> Consent:
    """Whose consent a call carries, or needs.

    Args:
        approval: The operator's setting.
        confirm: The caller's `confirm`; without it nobody consents.
        shown: Whether the caller named the plan that it was shown.
        can_ask: Whether the client can put a question to its user.

    Raises:
        DeclinedError: Only a person may consent, and none can be asked.
    """
    if not confirm:
        return ""
    if approval in {"auto", "human"} and can_ask:
        return "ask"
    if approval == "human":
        raise DeclinedError("Here a person must consent, and this client offers no way to ask one.")
    if shown:
        return "plan"
    return "flag" if approval == "flag" else ""


def approver(approval: Approval, *, can_ask: bool) -> Approver:
    """Who is to approve a plan that the caller was shown."""
    if approval in {"auto", "human"} and can_ask:
        return "person"
    return "nobody" if approval == "human" else "caller"


def question(operation: Operation) -> Question:
    """What to ask about a plan: the same words as long as the plan is the same."""
    if operation.action == "restore_server":
        name = operation.server_name
        which, expected = ("name", name) if _can_be_typed(name) else ("id", str(operation.server_id))
        label = f"Type the server's {which} to restore it"
        return Question(_restore_text(operation), f"server_{which}", label, expected)
    if operation.action == "prune_backups":
        label = "Type the number of backups to delete"
        return Question(_prune_text(operation), "count", label, int(operation.facts["to_delete"]))
    return Question(_delete_text(operation), "delete", "Yes, delete this backup for good", True)


def _can_be_typed(name: str) -> bool:
    """Whether a person can be expected to type a server's name; one that was cut does not even show to its end."""
    return bool(seen(name)) and len(name) <= _MOST_TYPED and not name.endswith("…")


def warnings(operation: Operation) -> list[str]:
    """What else a delete would take: a sentence for each restore that needs the backup."""
    said = {
        "way_back_of": "It is the way back from the server's last restore, {}, which then cannot be undone.",
        "being_restored_by": "The restore {} puts it back on the server, and may not be done with it.",
    }
    return [sentence.format(operation.facts[name]) for name, sentence in said.items() if name in operation.facts]


def check_reply(asked: Question, reply: Reply) -> None:
    """Whether the person agreed.

    Raises:
        DeclinedError: They did not; says what they did.
    """
    if reply.action == "accept" and asked.is_confirmed_by(reply.content):
        return
    if reply.action == "accept" and asked.is_left_blank_by(reply.content):
        raise DeclinedError(
            "The client says that the user accepted, but passed on nothing of what they filled in: that is no consent.",
            "Do not try again with this client. Tell the user that it did not pass their answer on.",
        )
    what = {
        "accept": "The user was asked, and the answer did not confirm it.",
        "decline": "The user was asked, and said no.",
        "cancel": "The user was asked, and gave no answer: the question was dismissed.",
        "none": "The user was asked, and did not answer in time.",
        "unreadable": "The client was to ask the user, but brought no answer back; the user may not have been asked.",
    }
    raise DeclinedError(what[reply.action])


def _delete_text(operation: Operation) -> str:
    left = int(operation.facts["good_backups_left"])
    which = "; the newest is {newest_good_left} of {newest_good_left_created_at}" if left else ""
    if "all_left_expire_by" in operation.facts:
        which += "; all of these expire by {all_left_expire_by}"
    lines = [
        f"Delete backup {operation.backup_id} for good? This cannot be undone.",
        *_target_lines(operation),
        f"Left on the server: {plural(left, 'good backup')}{which.format_map(operation.facts)}",
    ]
    return "\n".join([*lines, *warnings(operation)])


def _restore_text(operation: Operation) -> str:
    return "\n".join(
        [
            f"Restore server {operation.server_id} to backup {operation.backup_id}?",
            *_target_lines(operation),
            f"Lost: {operation.facts['lost']}",
            f"Safety backup of the server as it is now: {operation.facts['safety_backup']}",
            "It can be undone by restoring that backup; only what was written after it stays lost."
            if operation.facts["can_be_undone"]
            else "It cannot be undone.",
        ]
    )


def _prune_text(operation: Operation) -> str:
    goes = [item.backup for item in operation.items if item.fate == "delete"]
    counts = {name.replace("_", "-"): count for name, count in operation.arguments.items() if name != "server_id"}
    rules = [f"{name} {count}" for name, count in counts.items() if count]
    ends = operation.facts.get("all_left_expire_by")
    others = "automatic backups are left alone" + (f"; all good backups left expire by {ends}" if ends else "")
    return "\n".join(
        [
            f"Delete {len(goes)} of {plural(len(operation.items), 'manual backup')} for good? This cannot be undone.",
            _server_line(operation),
            f"Deleted: what no rule keeps, from {stamp(goes[-1].created_at)} to {stamp(goes[0].created_at)}",
            *(f"- {_backup_line(backup)}" for backup in goes[:_NAMED]),
            *([f"- and {plural(len(goes) - _NAMED, 'older backup')}"] if len(goes) > _NAMED else []),
            f"Kept: {operation.facts['to_keep']}, by the rules {', '.join(rules)}; {others}",
        ]
    )


def _backup_line(backup: Backup) -> str:
    described = f" {_quoted(backup.description)}" if backup.description else ""
    return f"{backup.id} of {stamp(backup.created_at)}, {size(backup.size_mb)}{described}"


def _target_lines(operation: Operation) -> list[str]:
    """What it is about; in quotes what others wrote, so that it cannot pass for our words."""
    lines = [_server_line(operation)]
    if backup := operation.backup:
        made = f"{stamp(backup.created_at)}, age {age(backup.created_at, operation.created.wall)}"
        kind = f"type {_quoted(backup.type)}, status {_quoted(backup.status)}"
        lines.append(f"Backup: made {made}, size {size(backup.size_mb)}, {kind}")
        if backup.description:
            lines.append(f"Its description: {_quoted(backup.description)}")
    return lines


def _server_line(operation: Operation) -> str:
    return f"Server: {operation.server_id} {_quoted(operation.server_name)}".removesuffix(' ""')


def _quoted(foreign: str) -> str:
    return json.dumps(foreign, ensure_ascii=False)
