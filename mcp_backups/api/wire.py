"""VPS.org's JSON, read strictly: the one place where it becomes our models, and where foreign text is made safe.

What is not documented is accepted where it does no harm (more fields, new words for status and type); what is
documented must be as documented. One row that is not costs that row, never the list.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from mcp_backups.models import COMPLETED, IN_PROGRESS, MANUAL, Account, Backup, Id, Server
from mcp_backups.text import safe_text

from .classify import BodyCutError, BodyUnreadableError

KNOWN_WORDS = frozenset({COMPLETED, IN_PROGRESS, MANUAL, "automatic"})
SENT_FIELDS = ("server_id", "backup_id", "description", "backup_type")
"""Every field that we ever send, and so may name in a message."""

_KEEP = "[keep]"
_MARK = re.compile(r"op_[a-z2-7]{16}")

Model = TypeVar("Model")


def _moment(raw: object) -> datetime:
    """A time with its zone, as UTC. Rows are checked as Python objects, where strict pydantic takes no str for it."""
    if not isinstance(raw, str):
        raise ValueError("not a time")  # noqa: TRY004  pydantic turns only ValueError into a bad row
    try:
        moment = datetime.fromisoformat(raw)
        if moment.tzinfo is None:
            raise ValueError("no zone")
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("out of range") from None


def _word(raw: str) -> str:
    """A status or type, known or not. One that only cleaning makes a known word is refused, not believed."""
    word = safe_text(raw)
    if not word or (word != raw and word in KNOWN_WORDS):
        raise ValueError("not a word")
    return word


def _or_empty(raw: object) -> object:
    return "" if raw is None else raw


Moment = Annotated[datetime, BeforeValidator(_moment)]
Word = Annotated[str, AfterValidator(_word)]
RawText = Annotated[str, BeforeValidator(_or_empty)]
Text = Annotated[str, BeforeValidator(_or_empty), AfterValidator(safe_text)]
Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, defer_build=True)


class _ServerOfBackup(_Strict):
    id: Id
    name: Text = ""


class _BackupRow(_Strict):
    id: Id
    server: _ServerOfBackup
    backup_type: Word
    status: Word
    size_mb: Size | None = None
    created_at: Moment
    expires_at: Moment | None = None
    description: RawText = ""


class _ServerRow(_Strict):
    id: Id
    name: Text = ""
    status: Word


class _Token(_Strict):
    name: Text = ""
    permissions: list[Text]


class _AccountAnswer(_Strict):
    token: _Token


class _Envelope(_Strict):
    results: list[Any]
    count: Any = None
    next: Any = None


_LIST: TypeAdapter[_Envelope | list[Any]] = TypeAdapter(_Envelope | list[Any])
_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


@dataclass(frozen=True)
class Page:
    """One page of a list, its rows not yet read.

    Attributes:
        count: How many rows VPS.org says the whole list has; None if it does not say.
        next: Where it says the next page is; empty if there is none.
        missing: What of this could not be read, one clause each.
    """

    rows: list[Any]
    count: int | None = None
    next: str = ""
    missing: tuple[str, ...] = ()


def read_page(body: bytes) -> Page:
    """A list answer: the documented envelope, with or without pages, or a bare list.

    Raises:
        BodyCutError: It ends too early.
        BodyUnreadableError: It is no list.
    """
    answer = _read(_LIST, body, "holds no results")
    if isinstance(answer, list):
        return Page(answer)
    missing = []
    count, following = answer.count, answer.next
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
        count = None
        missing.append("the count of all rows could not be read")
    if following is not None and not isinstance(following, str):
        following = None
        missing.append("the address of the next page could not be read")
    return Page(answer.results, count, following or "", tuple(missing))


def read_backup(body: bytes) -> Backup:
    """The backup that an answer consists of. Raises as `read_page`."""
    row = backup_row(_read(_OBJECT, body, "is no backup"))
    if row is None:
        raise BodyUnreadableError("is no backup as documented")
    return row


def read_account(body: bytes) -> Account:
    """What `GET /account/me/` says of the token. Raises as `read_page`."""
    token = _read(TypeAdapter(_AccountAnswer), body, "is no account as documented").token
    return Account(token_name=token.name, permissions=tuple(token.permissions))


def nothing(_body: bytes) -> None:
    """For answers whose body does not matter."""


def rejected_fields(body: bytes) -> tuple[str, ...]:
    """Which of our own field names a validation answer has as keys. Raises as `read_page`."""
    answer = _read(_OBJECT, body, "is no object")
    return tuple(name for name in SENT_FIELDS if name in answer)


def backup_row(raw: Any) -> Backup | None:
    """One row of the list of backups; None if it is not as documented."""
    row = _checked(_BackupRow.model_validate, raw)
    if row is None:
        return None
    shown = safe_text(row.description)
    marks = _MARK.findall(row.description)
    return Backup(
        id=row.id,
        server_id=row.server.id,
        server_name=row.server.name,
        type=row.backup_type,
        status=row.status,
        size_mb=row.size_mb,
        created_at=row.created_at,
        expires_at=row.expires_at,
        description=shown,
        # Also as shown: who sees [keep] there relies on it.
        keep=_KEEP in row.description.lower() or _KEEP in shown.lower(),
        # The last: the mark is put at the end, and whoever asked for the backup may have written another before it.
        mark=marks[-1] if marks else "",
    )


def server_row(raw: Any) -> Server | None:
    """One row of the list of servers, of which only three fields are ever kept; None if it is not as documented."""
    row = _checked(_ServerRow.model_validate, raw)
    return None if row is None else Server(id=row.id, name=row.name, status=row.status)


def _checked(validate: Callable[[Any], Model], raw: Any) -> Model | None:
    try:
        return validate(raw)
    except ValidationError:
        return None


def _read(adapter: TypeAdapter[Model], body: bytes, otherwise: str) -> Model:
    try:
        return adapter.validate_json(body, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] != "json_invalid":
        raise BodyUnreadableError(otherwise)
    if "EOF while parsing" in first["msg"]:
        raise BodyCutError("ends too early")
    raise BodyUnreadableError("is not JSON")
