"""Who consents to a destructive operation, and what a person is asked."""

import json
from datetime import timedelta
from typing import Literal, NamedTuple, Protocol

from mcp_backups.errors import DeclinedError
from mcp_backups.models import Backup
from mcp_backups.operations.operation import ApprovedBy, Approver, Operation
from mcp_backups.settings import Approval
from mcp_backups.text import age, seen, size, stamp

Consent = Literal["", "plan", "flag", "ask", "approver"]
"""Nobody consents yet, the caller does that was shown the plan, the caller's flag does, the user must be asked,
or an approver outside the chat."""

ANSWER_TIME = timedelta(minutes=5)
"""How long a person may think; an answer after that counts as none."""


_MOST_TYPED = 64
"""Characters of a name that a person is asked to type; for a longer one it is the server's id."""


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
    """
    if not confirm:
        return ""
    who = approver(approval, can_ask=can_ask)
    if who != "caller":
        return "ask" if who == "person" else who
    if shown:
        return "plan"
    return "flag" if approval == "flag" else ""


def approver(approval: Approval, *, can_ask: bool) -> Approver:
    """Who is to approve a plan that the caller was shown."""
    if approval in {"auto", "human"} and can_ask:
        return "person"
    return "approver" if approval in {"human", "operator"} else "caller"


def is_enough(approved_by: ApprovedBy, approval: Approval) -> bool:
    """Whether the consent that an operation has counts now: another process may have had a weaker rule."""
    enough: dict[Approval, set[ApprovedBy]] = {"human": {"person", "approver"}, "operator": {"approver"}}
    return bool(approved_by) and approved_by in enough.get(approval, {approved_by})


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


def can_be_typed(name: str) -> bool:
    """Whether a person can be expected to type a server's name; one that was cut does not even show to its end."""
    return bool(seen(name)) and len(name) <= _MOST_TYPED and not name.endswith("…")


def backup_line(backup: Backup) -> str:
    """A backup on one line; in quotes what others wrote, so that it cannot pass for our words."""
    described = f" {_quoted(backup.description)}" if backup.description else ""
    return f"{backup.id} of {stamp(backup.created_at)}, {size(backup.size_mb)}{described}"


def target_lines(operation: Operation) -> list[str]:
    """What it is about; in quotes what others wrote, so that it cannot pass for our words."""
    lines = [server_line(operation)]
    if backup := operation.backup:
        made = f"{stamp(backup.created_at)}, age {age(backup.created_at, operation.created.wall)}"
        kind = f"type {_quoted(backup.type)}, status {_quoted(backup.status)}"
        lines.append(f"Backup: made {made}, size {size(backup.size_mb)}, {kind}")
        if backup.description:
            lines.append(f"Its description: {_quoted(backup.description)}")
    return lines


def server_line(operation: Operation) -> str:
    """The server that an operation is about, on one line."""
    return f"Server: {operation.server_id} {_quoted(operation.server_name)}".removesuffix(' ""')


def _quoted(foreign: str) -> str:
    return json.dumps(foreign, ensure_ascii=False)
