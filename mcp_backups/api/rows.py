"""Rows of VPS.org's lists, read strictly: where they become our models, and where foreign text is made safe.

What is not documented is accepted where it does no harm (more fields, new words for status and type); what is
documented must be as documented.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any, Generic, TypeVar
from unicodedata import normalize

from pydantic_core import CoreSchema, SchemaValidator, ValidationError
from pydantic_core import core_schema as cs

from mcp_backups.models import COMPLETED, IN_PROGRESS, MANUAL, MAX_ID, Backup, Server
from mcp_backups.text import safe_text, visible

KNOWN_WORDS = frozenset({COMPLETED, IN_PROGRESS, MANUAL, "automatic"})

MAX_SIZE_MB = 2.0**40
"""An exabyte: what is said to be larger is a mistake."""

_KEEP = "[keep]"
_MARK = re.compile(r"op_[a-z2-7]{16}")

Row = TypeVar("Row", Backup, Server)


class RowReader(Generic[Row]):
    """Reads rows of one kind.

    Args:
        schema: What a row must hold, and what is made of it.
    """

    def __init__(self, schema: CoreSchema) -> None:
        self._row = SchemaValidator(schema)
        self._rows = SchemaValidator(cs.list_schema(schema, fail_fast=True))

    def row(self, raw: Any) -> Row | None:
        """One row; None if it is not as documented."""
        try:
            row: Row = self._row.validate_python(raw)
        except ValidationError:
            return None
        return row

    def rows(self, raw: list[Any]) -> list[Row]:
        """Those rows that are as documented."""
        try:
            # Nearly always all are, and in one go it takes a third of the time.
            rows: list[Row] = self._rows.validate_python(raw)
        except ValidationError:
            return [row for each in raw if (row := self.row(each)) is not None]
        return rows


def moment(raw: str) -> datetime:
    """A time with its zone, as UTC."""
    try:
        told = datetime.fromisoformat(raw)
        if told.tzinfo is None:
            raise ValueError("no zone")
        return told if told.tzinfo is UTC else told.astimezone(UTC)
    except OverflowError:
        raise ValueError("out of range") from None


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
    # Also as it looks: who sees [keep] there, be it in wide letters or with invisible ones within, relies on it.
    return _KEEP in description.lower() or _KEEP in normalize("NFKC", visible(description)).lower()


def _mark(description: str | None) -> str:
    if not description or "op_" not in description:
        return ""  # at once: most are so
    # The last: the mark is put at the end, and whoever asked for the backup may have written another before it.
    marks: list[str] = _MARK.findall(description)
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


@cache
def backups() -> RowReader[Backup]:
    return RowReader(
        _made_of(
            Backup,
            id=(_ID, "id"),
            server_id=(_ID, "server.id"),
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
    )


@cache
def servers() -> RowReader[Server]:
    """Servers, of which only three fields are ever kept."""
    return RowReader(_made_of(Server, id=(_ID, "id"), name=(_TEXT, "name"), status=(_WORD, "status")))
