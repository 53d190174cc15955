"""The bodies of VPS.org's answers. One row of a list that is not as documented costs that row, never the list."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Generic, NamedTuple
from unicodedata import normalize

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from pydantic_core import CoreSchema, SchemaValidator, ValidationError
from pydantic_core import core_schema as cs

from mcp_backups.models import (
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    MANUAL,
    MAX_ID,
    NO_SERVER,
    OPERATION_ID,
    UNREADABLE,
    Account,
    Backup,
    Row,
    Server,
)
from mcp_backups.text import READ_CHARS, safe_text, visible

from .classify import BodyUnreadableError
from .envelope import denying, read_json, signs_of, whole_number

KNOWN_WORDS = frozenset({COMPLETED, FAILED, IN_PROGRESS, MANUAL, "automatic"})

_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)

MAX_SIZE_MB = 2.0**40
"""An exabyte: what is said to be larger is a mistake."""

_KEEP = "[keep]"
_SPACED_KEEP = re.compile(r"\[ ?keep ?\]")
# The same where some of its characters did not survive on their way.
_DAMAGED_KEEP = re.compile(
    r"\[[k\ufffd][e\ufffd][e\ufffd][p\ufffd][\]\ufffd]|\ufffd[k\ufffd][e\ufffd][e\ufffd][p\ufffd]\]"
)


class Lost(NamedTuple):
    """A row that could not be read.

    Attributes:
        id: Of its backup, 0 if that could not be read either.
        server_id: Of the server that it belongs to: 0 if that could not be read, `NO_SERVER` if it is none.
        fields: What of it could not be read; empty if it is no object at all.
    """

    id: int = 0
    server_id: int = 0
    fields: tuple[str, ...] = ()


class RowReader(Generic[Row]):
    """Reads rows of one kind.

    Args:
        schema: What a row must hold, and what is made of it.
        spared: Where in a row a value may be odd; in each such place, what is read in its stead.
        noted: Makes of a row of a backup the same with the places that were odd; None for rows that are none.
    """

    def __init__(
        self,
        schema: CoreSchema,
        spared: Mapping[str, object],
        noted: Callable[[Row, Collection[str]], Row] | None = None,
    ) -> None:
        self._row = SchemaValidator(schema)
        self._rows = SchemaValidator(cs.list_schema(schema, fail_fast=True))
        self._spared = spared
        self._noted: Callable[[Row, Collection[str]], Row] | None = noted

    def row(self, raw: Any) -> Row | Lost:
        """One row, or what is known of one that cannot be read."""
        odd = self._odd(raw)
        if not odd:
            return self._read(raw)
        if not isinstance(raw, dict):
            return Lost()
        mended = raw
        for place in odd & self._spared.keys():
            mended = _with(mended, place, self._spared[place])
        if _SERVER in odd and _belongs_to_none(raw):
            mended = _with(mended, "server", {"id": 1})
        if left := self._odd(mended):
            whose = _whose(raw, left) if self._noted else (0, 0)
            return Lost(*whose, tuple(sorted(place.partition(".")[0] for place in left)))
        row = self._read(mended)
        return self._noted(row, odd) if self._noted else row

    def rows(self, raw: list[Any]) -> tuple[list[Row], list[Lost]]:
        """Those rows that can be read, and what is known of the others."""
        try:
            # Nearly always all are as documented, and in one go it takes a third of the time.
            return self._rows.validate_python(raw), []
        except ValidationError:
            found = [self.row(each) for each in raw]
        return [row for row in found if not isinstance(row, Lost)], [row for row in found if isinstance(row, Lost)]

    def _read(self, raw: Any) -> Row:
        row: Row = self._row.validate_python(raw)
        return row

    def _odd(self, raw: Any) -> set[str]:
        """Where a row is not as documented."""
        try:
            self._row.validate_python(raw)
        except ValidationError as error:
            return {".".join(map(str, each["loc"])) for each in error.errors(include_url=False, include_input=False)}
        return set()


def _with(raw: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    """The same row with another value in that place."""
    name, _, inner = place.partition(".")
    return raw | {name: raw[name] | {inner: value} if inner else value}


def _belongs_to_none(raw: dict[str, Any]) -> bool:
    """Whether a row says that its server is none, and does not only fail to say which it is."""
    server = raw.get("server", "")
    return server is None or (isinstance(server, dict) and server.get("id", "") is None)


def _whose(raw: dict[str, Any], odd: Collection[str]) -> tuple[int, int]:
    """The ids of a row and of its server, as far as they can be read."""
    backup_id = 0 if "id" in odd else raw["id"]
    if _belongs_to_none(raw):
        return backup_id, NO_SERVER
    return backup_id, 0 if _SERVER in odd else raw["server"]["id"]


def moment(raw: str) -> datetime:
    """A time with its zone, as UTC; the years 1 and 1970 stand for none, and nothing is known of before 2000."""
    try:
        told = datetime.fromisoformat(raw)
        if told.tzinfo is None:
            raise ValueError("no zone")
        told = told if told.tzinfo is UTC else told.astimezone(UTC)
    except OverflowError:
        raise ValueError("out of range") from None
    if told < _EARLIEST:
        raise ValueError("no time of a backup")
    return told


def word(raw: str) -> str:
    """A status or type, known or not. One that only cleaning makes a known word is refused, not believed."""
    if raw in KNOWN_WORDS:
        return raw
    cleaned = safe_text(raw)
    if not cleaned or cleaned in KNOWN_WORDS:
        raise ValueError("not a word")
    return cleaned


def _shown(raw: str | None) -> str:
    return safe_text(raw) if raw else ""


def _is_kept(description: str | None) -> bool:
    if not description or (description.isascii() and "[" not in description):
        return False  # at once: most are so
    # Also as it looks: who sees [keep] there, be it in wide letters or with what is not seen within, relies on it.
    if _KEEP in description.lower() or _SPACED_KEEP.search(normalize("NFKC", visible(description)).lower()):
        return True
    if len(description) > READ_CHARS:
        return "[" in normalize("NFKC", description[READ_CHARS:])  # not looked through: better kept than lost
    damaged = description.lower()
    return "\ufffd" in damaged and (_KEEP in damaged.replace("\ufffd", "") or bool(_DAMAGED_KEEP.search(damaged)))


def _mark(description: str | None) -> str:
    if not description or "op_" not in description:
        return ""  # at once: most are so
    # The last: the mark is put at the end, and whoever asked for the backup may have written another before it.
    marks: list[str] = OPERATION_ID.findall(description)
    return marks[-1] if marks else ""


def _checked(schema: CoreSchema, check: Callable[[Any], object]) -> CoreSchema:
    return cs.no_info_after_validator_function(check, schema)


def _of_text(make: Callable[[str | None], object]) -> CoreSchema:
    """What is made of a text that may be null or missing, which is as good as empty."""
    text = cs.nullable_schema(cs.str_schema(strict=True))
    return cs.with_default_schema(_checked(text, make), default=make(None))


def _or_none(schema: CoreSchema) -> CoreSchema:
    return cs.with_default_schema(cs.nullable_schema(schema), default=None)


def _made_of(kind: type[Any], **fields: tuple[CoreSchema, str]) -> CoreSchema:
    """A data class read from an object: for each of its fields how it is checked, and where in the object it stands.

    A field that stands nowhere has its default, whatever the object holds.
    """
    described = [
        cs.dataclass_field(name, schema, kw_only=True, validation_alias=list[str | int](where.split(".")))
        if where
        else cs.dataclass_field(name, schema, kw_only=True, init=False)
        for name, (schema, where) in fields.items()
    ]
    arguments = cs.dataclass_args_schema(kind.__name__, described, extra_behavior="ignore")
    return cs.dataclass_schema(kind, arguments, list(fields), slots=True, frozen=True)


_ID = cs.int_schema(strict=True, ge=1, le=MAX_ID)
_SIZE = cs.float_schema(strict=True, ge=0, le=MAX_SIZE_MB, allow_inf_nan=False)
_WORD = _checked(cs.str_schema(strict=True), word)
_MOMENT = _checked(cs.str_schema(strict=True), moment)
_TEXT = _of_text(_shown)


_SERVER = "server.id"
_FIELDS = {
    "server.name": "server_name",
    "backup_type": "type",
    "status": "status",
    "size_mb": "size_mb",
    "expires_at": "expires_at",
    "description": "description",
}
"""Our names for the places in a row of a backup where a value may be odd."""


def _noted(row: Backup, odd: Collection[str]) -> Backup:
    unreadable = tuple(name for place, name in _FIELDS.items() if place in odd)
    # A description that cannot be read may say [keep].
    row = replace(row, unreadable=unreadable, keep=row.keep or "description" in odd)
    return replace(row, server_id=0, server_name="") if _SERVER in odd else row


@cache
def backups() -> RowReader[Backup]:
    schema = _made_of(
        Backup,
        id=(_ID, "id"),
        server_id=(_ID, _SERVER),
        server_name=(_TEXT, "server.name"),
        type=(_WORD, "backup_type"),
        status=(_WORD, "status"),
        size_mb=(_or_none(_SIZE), "size_mb"),
        created_at=(_MOMENT, "created_at"),
        expires_at=(_or_none(_MOMENT), "expires_at"),
        description=(_TEXT, "description"),
        keep=(_of_text(_is_kept), "description"),
        mark=(_of_text(_mark), "description"),
        unreadable=(cs.with_default_schema(cs.any_schema(), default=()), ""),
    )
    words = {"backup_type": UNREADABLE, "status": UNREADABLE}
    return RowReader(schema, dict.fromkeys(_FIELDS) | words, _noted)


@cache
def servers() -> RowReader[Server]:
    """Servers, of which only three fields are ever kept."""
    schema = _made_of(Server, id=(_ID, "id"), name=(_TEXT, "name"), status=(_WORD, "status"))
    return RowReader(schema, {"name": None, "status": UNREADABLE})


def _server_of(row: Backup | Server) -> int:
    """The only server that a row can concern."""
    return row.id if isinstance(row, Server) else row.server_id or NO_SERVER


def agreed(one: Row, other: Row) -> tuple[Row, set[int]]:
    """Two rows of the same id as one that promises no more than either, and the servers that this can concern.

    Where both say that a backup is completed, nobody knows which of them tells what it holds.
    """
    less: Row = other if one.status == COMPLETED else one
    if less.status == COMPLETED and isinstance(less, Backup):
        less = replace(less, size_mb=None, unreadable=(*less.unreadable, "size_mb"))
    return less, {_server_of(one), _server_of(other)}


_OLD_SECONDS = 60
"""A list that a cache has kept for longer may show what is gone, although a fresh one was asked for."""

_ROUND = 5
"""Pages usually have a multiple of so many rows: without a word on whether these are all they may be the first."""


def _or_empty(raw: object) -> object:
    return "" if raw is None else raw


Text = Annotated[str, BeforeValidator(_or_empty), AfterValidator(safe_text)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, defer_build=True)


class _Token(_Strict):
    name: Text = ""
    permissions: list[Text]


def _email(raw: object) -> object:
    email = raw.get("email") if isinstance(raw, dict) else ""
    return email if isinstance(email, str) else ""


class _AccountAnswer(_Strict):
    token: _Token
    account: Annotated[Text, BeforeValidator(_email)] = ""


class Body(NamedTuple):
    """What came with a status of success.

    Attributes:
        headers: By names in any case.
    """

    content: bytes
    headers: Mapping[str, str]
    status: int = 200


@dataclass(frozen=True)
class Page(Generic[Row]):
    """One page of a list.

    Attributes:
        rows: Those that could be read.
        count: How many rows the whole list has; None if it does not say.
        next: Where it says the next page is; empty if there is none.
        lost: The rows that could not be read.
        missing: What else of this could not be read, one clause each.
        more: Why there seems to be more, one clause each, if no next page is named.
        total: How many rows or, in `pages`, pages the list has by another name than `count`; 0 if it does not say.
        size: How many rows a page has, by its own words; 0 if it does not say.
        is_full: It holds as many rows as pages usually do, and says nothing of whether these are all.
    """

    rows: list[Row]
    count: int | None = None
    next: str = ""
    lost: tuple[Lost, ...] = ()
    missing: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    total: int = 0
    pages: int = 0
    size: int = 0
    is_full: bool = False

    @property
    def sent(self) -> int:
        """How many rows came."""
        return len(self.rows) + len(self.lost)

    @property
    def ids(self) -> frozenset[int]:
        return frozenset(row.id for row in self.rows)


@dataclass(frozen=True)
class ListBody(Generic[Row]):
    """What the bytes of a list answer hold, which is the same whenever they come.

    Attributes:
        rows: Those that could be read.
        lost: The others.
        count: How many rows the whole list has, as it was told.
        rest: What else is told beside the rows.
    """

    rows: list[Row]
    lost: tuple[Lost, ...]
    count: object
    rest: Mapping[str, Any]


def read_list_body(content: bytes, reader: RowReader[Row]) -> ListBody[Row]:
    """The documented envelope, with or without pages, or a bare list.

    Raises:
        BodyCutError: It ends too early.
        BodyUnreadableError: It is no list.
    """
    answer = read_json(content)
    rest = answer if isinstance(answer, dict) else {"results": answer}
    results, count = rest.pop("results", None), rest.pop("count", None)
    if not isinstance(results, list):
        raise BodyUnreadableError("holds no results")
    rows, lost = reader.rows(results)
    return ListBody(rows, tuple(lost), count, rest)


def read_page(body: Body, held: ListBody[Row]) -> Page[Row]:
    """A list answer, with what its header and status say of it.

    Args:
        body: The answer.
        held: What its bytes hold.
    """
    missing, count = list[str](), whole_number(held.count)
    if count is None and held.count is not None:
        missing.append("the count of all rows could not be read")
    missing += [f"VPS.org says that something failed ({name})" for name in denying(held.rest)]
    signs = signs_of(held.rest, body.status, body.headers)
    if signs.age > _OLD_SECONDS:
        missing.append(f"this is a copy that something on the way has kept for {signs.age} s")
    missing += [f"how many rows there are could not be read ({name})" for name in signs.odd]
    sent = len(held.rows) + len(held.lost)
    return Page(
        held.rows,
        count,
        signs.next,
        held.lost,
        tuple(missing),
        tuple(f"VPS.org says that there is more ({name})" for name in signs.more),
        signs.total,
        signs.pages,
        signs.size,
        is_full=not signs.any and count is None and sent > 0 and sent % (signs.size or _ROUND) == 0,
    )


def read_backup(body: Body) -> Backup:
    """The backup that an answer consists of. Raises as `read_list_body`."""
    row = backups().row(read_json(body.content))
    if isinstance(row, Lost):
        raise BodyUnreadableError("is no backup as documented")
    return row


def read_account(body: Body) -> Account:
    """What `GET /account/me/` says of the token. Raises as `read_list_body`."""
    try:
        told = _AccountAnswer.model_validate(read_json(body.content))
    except ValidationError:
        raise BodyUnreadableError("is no account as documented") from None
    return Account(token_name=told.token.name, permissions=tuple(told.token.permissions), email=told.account)


def nothing(_body: Body) -> None:
    """For answers whose body does not matter."""
