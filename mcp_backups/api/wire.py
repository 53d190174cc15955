"""The bodies of VPS.org's answers. One row of a list that is not as documented costs that row, never the list."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Generic, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from mcp_backups.models import Account, Backup
from mcp_backups.text import safe_text

from .classify import BodyUnreadableError
from .decode import read_json
from .more import signs_of
from .rows import Lost, Row, RowReader, backups

MAX_COUNT = 10**9
"""Rows that a list can have; what counts more is a mistake."""

_FULL = frozenset({20, 25, 50, 100, 200, 250, 500, 1000})
"""The usual sizes of pages: so many rows, and no word on whether these are all, may be the first of several."""


def _or_empty(raw: object) -> object:
    return "" if raw is None else raw


Text = Annotated[str, BeforeValidator(_or_empty), AfterValidator(safe_text)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, defer_build=True)


class _Token(_Strict):
    name: Text = ""
    permissions: list[Text]


class _AccountAnswer(_Strict):
    token: _Token


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


def read_page(body: Body, reader: RowReader[Row]) -> Page[Row]:
    """A list answer: the documented envelope, with or without pages, or a bare list.

    Raises:
        BodyCutError: It ends too early.
        BodyUnreadableError: It is no list.
    """
    answer = read_json(body.content)
    envelope = answer if isinstance(answer, dict) else {"results": answer}
    results, count = envelope.get("results"), envelope.get("count")
    if not isinstance(results, list):
        raise BodyUnreadableError("holds no results")
    missing = []
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_COUNT):
        count = None
        missing.append("the count of all rows could not be read")
    rest = {name: value for name, value in envelope.items() if name not in {"results", "count"}}
    signs = signs_of(rest, body.status, body.headers)
    rows, lost = reader.rows(results)
    return Page(
        rows,
        count,
        signs.next,
        tuple(lost),
        tuple(missing),
        tuple(f"VPS.org says that there is more ({name})" for name in signs.more),
        signs.total,
        signs.pages,
        signs.size,
        is_full=not signs.any and count is None and len(results) in _FULL | {signs.size or -1},
    )


def read_backup(body: Body) -> Backup:
    """The backup that an answer consists of. Raises as `read_page`."""
    row = backups().row(read_json(body.content))
    if isinstance(row, Lost):
        raise BodyUnreadableError("is no backup as documented")
    return row


def read_account(body: Body) -> Account:
    """What `GET /account/me/` says of the token. Raises as `read_page`."""
    try:
        token = _AccountAnswer.model_validate(read_json(body.content)).token
    except ValidationError:
        raise BodyUnreadableError("is no account as documented") from None
    return Account(token_name=token.name, permissions=tuple(token.permissions))


def nothing(_body: Body) -> None:
    """For answers whose body does not matter."""
