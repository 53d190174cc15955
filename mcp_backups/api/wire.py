"""The bodies of VPS.org's answers. One row of a list that is not as documented costs that row, never the list."""

from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from mcp_backups.models import Account, Backup
from mcp_backups.text import safe_text

from .classify import BodyCutError, BodyUnreadableError
from .rows import Row, RowReader, backups

SENT_FIELDS = ("server_id", "backup_id", "description", "backup_type")
"""Every field that we ever send, and so may name in a message."""

MAX_COUNT = 10**9
"""Rows that a list can have; what counts more is a mistake."""

Model = TypeVar("Model")


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


_JSON: TypeAdapter[Any] = TypeAdapter(Any)
_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


@dataclass(frozen=True)
class Page(Generic[Row]):
    """One page of a list.

    Attributes:
        rows: Those that are as documented.
        count: How many rows the whole list has; None if it does not say.
        next: Where it says the next page is; empty if there is none.
        unreadable: Rows that are not as documented.
        missing: What else of this could not be read, one clause each.
    """

    rows: list[Row]
    count: int | None = None
    next: str = ""
    unreadable: int = 0
    missing: tuple[str, ...] = ()


def read_page(body: bytes, reader: RowReader[Row]) -> Page[Row]:
    """A list answer: the documented envelope, with or without pages, or a bare list.

    Raises:
        BodyCutError: It ends too early.
        BodyUnreadableError: It is no list.
    """
    answer = _read(_JSON, body)
    envelope = answer if isinstance(answer, dict) else {"results": answer}
    results = envelope.get("results")
    if not isinstance(results, list):
        raise BodyUnreadableError("holds no results")
    missing = []
    count, following = envelope.get("count"), envelope.get("next")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_COUNT):
        count = None
        missing.append("the count of all rows could not be read")
    if following is not None and not isinstance(following, str):
        following = None
        missing.append("the address of the next page could not be read")
    rows = reader.rows(results)
    return Page(rows, count, following or "", len(results) - len(rows), tuple(missing))


def read_backup(body: bytes) -> Backup:
    """The backup that an answer consists of. Raises as `read_page`."""
    row = backups().row(_read(_OBJECT, body, "is no backup"))
    if row is None:
        raise BodyUnreadableError("is no backup as documented")
    return row


def read_account(body: bytes) -> Account:
    """What `GET /account/me/` says of the token. Raises as `read_page`."""
    answer = _read(TypeAdapter(_AccountAnswer), body, "is no account as documented")
    return Account(token_name=answer.token.name, permissions=tuple(answer.token.permissions), email=answer.account)


def nothing(_body: bytes) -> None:
    """For answers whose body does not matter."""


def is_page(media_type: bytes) -> bool:
    """Whether what came is a web page, as of a login or of maintenance, which VPS.org's API does not send."""
    return b"html" in media_type.lower()


def rejected_fields(body: bytes) -> tuple[str, ...]:
    """Which of our own field names a validation answer has as keys. Raises as `read_page`."""
    answer = _read(_OBJECT, body, "is no object")
    return tuple(name for name in SENT_FIELDS if name in answer)


def _read(adapter: TypeAdapter[Model], body: bytes, otherwise: str = "") -> Model:
    try:
        return adapter.validate_json(body, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] != "json_invalid":
        raise BodyUnreadableError(otherwise)
    if "EOF while parsing" in first["msg"]:
        raise BodyCutError("ends too early")
    raise BodyUnreadableError("is not JSON")
