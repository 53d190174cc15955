"""Who consents to a destructive operation, and what a person is asked."""

import json
from datetime import timedelta
from typing import Literal, NamedTuple, Protocol

from mcp_backups.errors import DeclinedError
from mcp_backups.models import COMPLETED, FAILED, IN_PROGRESS, MANUAL
from mcp_backups.operations.operation import ApprovedBy, Approver, Operation
from mcp_backups.settings import Approval
from mcp_backups.text import age, seen, size, stamp

Consent = Literal["", "plan", "flag", "ask", "approver"]
"""Nobody consents yet, the caller does that was shown the plan, the caller's flag does, the user must be asked,
or an approver outside the chat."""

ANSWER_TIME = timedelta(minutes=5)
"""How long a person may think; an answer after that counts as none."""


_BY_ITSELF = "A client without a person at it does so by itself."
_TELL = "Tell the user what came back. Do not try again unless the user asks for it."
NO = {
    "accept": ("The question was answered, and the answer did not confirm it.", _TELL),
    "decline": (f"The client answered no to the question. {_BY_ITSELF}", _TELL),
    "cancel": (f"The client dismissed the question without an answer. {_BY_ITSELF}", _TELL),
    "none": ("The question was put, and no answer came in time.", _TELL),
    "unreadable": ("The client was to ask the user, but brought no answer back; they may not have been asked.", _TELL),
}
"""What each reply but a yes means, as far as can be told: a no looks the same whoever gave it."""

MOST_IN_LINE = 99
"""Characters of a line of a question."""

_WORD = 10
"""Characters of a word in it that nobody knows."""

_KNOWN_WORDS = frozenset({MANUAL, "automatic", COMPLETED, IN_PROGRESS, FAILED})

_MOST_TYPED = 64
"""Characters of a name that a person is asked to type; for a longer one it is the server's id."""


class Question(NamedTuple):
    """What a person is asked before a destructive operation.

    Attributes:
        text: At most 4 lines of under 100 characters, since a client may show no more: what would be done and to what;
            what is lost; the way back, or what is left; the backup.
        field: The name of the one field of the answer.
        label: What the field asks for.
        expected: The one value that is a yes.
        more: What else there is to know, for the field's description.
    """

    text: str
    field: str
    label: str
    expected: bool | str | int
    more: str = ""

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
        DeclinedError: They did not, or nobody knows; says what came back, and who may have said it.
    """
    if reply.action == "accept" and asked.is_confirmed_by(reply.content):
        return
    if reply.action == "accept" and asked.is_left_blank_by(reply.content):
        raise DeclinedError(
            "The client says that the user accepted, but passed on nothing of what they filled in: that is no consent.",
            "Do not try again with this client. Tell the user that it did not pass their answer on.",
        )
    raise DeclinedError(*NO[reply.action])


def can_be_typed(name: str) -> bool:
    """Whether a person can be expected to type a server's name; one that was cut does not even show to its end."""
    return bool(seen(name)) and len(name) <= _MOST_TYPED and not name.endswith("…")


def question_text(*lines: str) -> str:
    """The lines of a question; one that is too long, through a number that no account has, is cut."""
    return "\n".join(line if len(line) <= MOST_IN_LINE else f"{line[: MOST_IN_LINE - 1]}…" for line in lines)


def fitting(before: str, foreign: str, after: str = "") -> str:
    """A line of a question with what others wrote in quotes, cut to what fits, so that it cannot pass for our words."""
    rest, told = foreign, _quoted(foreign)
    while rest and len(before) + len(told) + len(after) > MOST_IN_LINE:
        rest = rest[:-1]
        told = _quoted(f"{rest}…")
    return f"{before}{told}{after}" if rest else f"{before.rstrip()}{after}"


def backup_line(operation: Operation) -> str:
    """The backup that an operation is about, as a line of a question."""
    backup = operation.backup
    if backup is None:
        return f"Backup: {operation.backup_id}"
    words = f"{_word(backup.type)}, {_word(backup.status)}, {size(backup.size_mb)}"
    made = f"made {stamp(backup.created_at)}, age {age(backup.created_at, operation.created.wall)}"
    return fitting(f"Backup: {words}, {made} ", backup.description)


def in_full(operation: Operation) -> str:
    """The names that a line may have had to cut; in quotes what others wrote."""
    described = operation.backup.description if operation.backup else ""
    named = {"The server's name": operation.server_name, "The backup's description": described}
    return " ".join(f"{what}: {_quoted(foreign)}." for what, foreign in named.items() if foreign)


def _word(told: str) -> str:
    """A type or status: a word that nobody knows in quotes, and not all of it where it is long."""
    if told in _KNOWN_WORDS:
        return told
    return _quoted(told if len(told) <= _WORD else f"{told[: _WORD - 1]}…")


def _quoted(foreign: str) -> str:
    return json.dumps(foreign, ensure_ascii=False)
