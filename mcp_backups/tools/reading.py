"""The tools that only read."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from mcp_backups.api.servers import server_name as name_of
from mcp_backups.errors import ConfirmationInvalidError, InvalidArgumentError
from mcp_backups.models import (
    COMPLETED,
    IN_PROGRESS,
    MAX_ID,
    UNREADABLE,
    Backup,
    BackupPage,
    BackupRow,
    OperationAnswer,
    ServerName,
)
from mcp_backups.operations import OPEN, follow, freeze_of
from mcp_backups.settings import Settings
from mcp_backups.text import got, stamp, time_or_age
from mcp_backups.tools.answers import cell, fitted, operation_answer, row
from mcp_backups.tools.observation import AccountObservation, observe_for
from mcp_backups.tools.tool import ToolCall

AnyServerId = Annotated[
    int, Field(ge=0, le=MAX_ID, description="Server id, up to 2^53-1; 0 (default) for every server.")
]
ServerNameFilter = Annotated[
    str,
    Field(
        max_length=200,
        description='Server name, or a beginning that only one name has; "" (default) for every server.',
    ),
]
CreatedAfter = Annotated[
    str,
    Field(
        max_length=40, description='Only from this time on: ISO 8601 in UTC, or an age such as 7d, 36h; "" (default).'
    ),
]
CreatedBefore = Annotated[
    str, Field(max_length=40, description='Only before this time, or older than this age; "" (default).')
]
Order = Annotated[Literal["newest", "oldest"], Field(description="newest (default) or oldest first.")]
TypeFilter = Annotated[Literal["any", "manual", "automatic"], Field(description="any (default), manual or automatic.")]
StatusFilter = Annotated[
    Literal["any", "completed", "in_progress", "other"],
    Field(description="any (default), completed, in_progress, or other, which includes failed."),
]
Limit = Annotated[
    int, Field(ge=1, le=100, description="Most rows on a page, 1 to 100; default 20. Long pages end sooner.")
]
Cursor = Annotated[
    str, Field(max_length=100, description='next_cursor of the page before; "" (default) for the first page.')
]
OperationId = Annotated[str, Field(max_length=40, description="Operation id, op_ and 16 characters.")]
WaitSeconds = Annotated[int, Field(ge=0, le=45, description="Seconds to wait until it is finished, 0 (default) to 45.")]

_CURSOR = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{1,16})-([0-9a-f]{8})")
_BEGINNING, _END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_SHARED_FIELDS = ("type", "status", "description")


async def list_backups(
    call: ToolCall,
    server_id: AnyServerId = 0,
    server_name: ServerNameFilter = "",
    backup_type: TypeFilter = "any",
    status: StatusFilter = "any",
    created_after: CreatedAfter = "",
    created_before: CreatedBefore = "",
    order: Order = "newest",
    limit: Limit = 20,
    cursor: Cursor = "",
) -> BackupPage:
    """List backups (snapshots, restore points) of VPS.org servers, newest first, with size, age, status and expiry.

    Use it to find the ids of backups and servers before a delete, restore or roll back; check_backups tells which
    servers lack a fresh one. Filters by server, type, status and time; pages with cursor. Returns the rows and their
    total, flags such as stuck or protected, and complete=false with what is missing when not every backup could be
    read: absence then proves nothing. Fields that rows leave out are in defaults. Changes nothing.
    """
    check_one_server(server_id, server_name)
    _span(created_after, created_before, call.context.now)  # what is no time is refused before anything is asked
    filters = "|".join(map(str, (server_id, server_name, backup_type, status, created_after, created_before, order)))
    after = _position(cursor, filters)
    # A name is looked up among all backups, lest it fit one server among the manual ones and another among all.
    asked_type = "" if server_name or backup_type == "any" else backup_type
    observed = await observe_for(call.context, server_id, asked_type, servers_anew=bool(server_name))
    span, server_id = _span(created_after, created_before, observed.now), observed.server_meant(server_id, server_name)
    among = server_id if server_name else 0  # what was asked for by an id is all that came
    fitting = (each for each in observed.backups.rows if _fits(each, among, backup_type, status, span))
    rows = sorted(fitting, key=_place, reverse=order == "newest")
    rest = [backup for backup in rows if not after or _follows(_place(backup), after, order)]

    def page(count: int) -> BackupPage:
        shown, missing = rest[:count], observed.missing_for(server_id)
        defaults = _defaults(shown)
        return BackupPage(
            total=len(rows),
            returned=len(shown),
            complete=not missing,
            missing=missing,
            as_of=stamp(observed.now),
            server=_asked(server_id, observed),
            only=_only(backup_type, status, span),
            order=None if order == "newest" else order,
            next_cursor=_cursor(shown[-1], filters) if len(rest) > len(shown) else "",
            defaults=defaults,
            backups=_rows(shown, observed, call.context.settings, defaults),
        )

    return fitted(page, page_text, min(limit, len(rest)))


def _rows(
    shown: list[Backup], observed: AccountObservation, settings: Settings, defaults: dict[str, str]
) -> list[BackupRow]:
    return [flagged(row(each, observed.now, defaults), observed.flags(each, settings)) for each in shown]


def _asked(server_id: int, observed: AccountObservation) -> ServerName | None:
    """The one server that was asked for."""
    if not server_id:
        return None
    return ServerName(id=server_id, name=name_of(server_id, observed.backups, observed.servers))


def check_one_server(server_id: int, server_name: str) -> None:
    """Whether a server is meant by its id or its name, and not by both.

    Raises:
        InvalidArgumentError: By both.
    """
    if server_id and server_name:
        raise InvalidArgumentError("server_id and server_name are both given; give one of them.")


def _span(created_after: str, created_before: str, now: datetime) -> tuple[datetime, datetime]:
    """From when, and before when. Raises `InvalidArgumentError`."""
    begin = _bound("created_after", created_after, now) or _BEGINNING
    end = _bound("created_before", created_before, now) or _END
    if created_after.strip() and created_before.strip() and begin >= end:
        raise InvalidArgumentError("created_after must be an earlier time than created_before.")
    return begin, end


def _bound(name: str, raw: str, now: datetime) -> datetime | None:
    """The time that a filter names, as such or as an age; None for none.

    Raises:
        InvalidArgumentError: It is neither.
    """
    if not raw.strip():
        return None
    if moment := time_or_age(raw, now):
        return moment
    raise InvalidArgumentError(
        f"{name} must be a time as ISO 8601, such as 2026-11-22T14:00Z, or an age, such as 36h, 7d or 4w; "
        f"got {got(raw)}."
    )


def _only(backup_type: str, status: str, span: tuple[datetime, datetime]) -> str:
    """What the filters let through, with ages as the times that they are; empty where that is everything."""
    begin, end = span
    told = {
        backup_type: backup_type != "any",
        f"status {status}": status != "any",
        f"created from {stamp(begin)} on": begin != _BEGINNING,
        f"created before {stamp(end)}": end != _END,
    }
    return ", ".join(each for each, is_filter in told.items() if is_filter)


def _follows(place: tuple[datetime, int], after: tuple[datetime, int], order: str) -> bool:
    return place < after if order == "newest" else place > after


async def get_operation(call: ToolCall, operation_id: OperationId, wait_seconds: WaitSeconds = 0) -> OperationAnswer:
    """Show what became of a backup, delete or restore operation: planned, running, succeeded, failed or unknown.

    Use it after a write that was accepted, is preparing, or whose outcome is unknown, instead of repeating that write:
    it settles the outcome by looking at VPS.org. For backups that no operation is about use list_backups or
    check_backups. With wait_seconds it waits for a backup to finish. Returns the operation with its facts and the next
    step. Changes nothing.
    """
    recorded = await call.context.find(operation_id)
    if recorded is None or not call.context.may_be_told(recorded):
        raise ConfirmationInvalidError(
            "There is no operation of that id here, which does not tell whether something was done under it.",
            "Use the operation_id of an earlier answer, and look with list_backups before a write is repeated.",
        )
    result = await follow(call.context, recorded, wait_seconds, call.report_progress)
    if result.operation.status in OPEN and not result.obstacle:
        result = result._replace(obstacle=await freeze_of(call.context))
    return operation_answer(result, call.context)


def page_text(page: BackupPage) -> str:
    """A page as a table, one line a backup; a blank cell holds what the line above the table says."""
    of_it = f" of server {page.server.id}" if page.server else ""
    of_it += f" ({page.server.name})" if page.server and page.server.name else ""
    only = f" (only: {page.only})" if page.only else ""
    head = f"{page.returned} of {page.total} backups{of_it}{only}, {page.order or 'newest'} first, as of {page.as_of}."
    lines = [head, "complete: true" if page.complete else f"complete: false, INCOMPLETE: {'; '.join(page.missing)}."]
    if page.defaults:
        shared = ", ".join(f"{name} {value!r}" for name, value in page.defaults.items())
        lines.append(f"defaults, where a cell is -: {shared}.")
    columns = [name for name in BackupRow.model_fields if name != "flags" or any(row.flags for row in page.backups)]
    lines.append("|".join(columns))
    blank = dict.fromkeys(columns, "") | dict.fromkeys(page.defaults, "-")
    lines += [_line(row, blank) for row in page.backups]
    if page.next_cursor:
        lines.append(f"next_cursor: {page.next_cursor}")
    return "\n".join(lines)


def _line(row: BackupRow, blank: Mapping[str, str]) -> str:
    """A row's cells. blank: each column's name, and how it shows that there is nothing in it."""
    values = ((getattr(row, name), empty) for name, empty in blank.items())
    told = ((", ".join(value) if isinstance(value, list) else value, empty) for value, empty in values)
    return "|".join([empty if value is None else cell(str(value)) for value, empty in told])


def _place(backup: Backup) -> tuple[datetime, int]:
    return backup.created_at, backup.id


def _fits(backup: Backup, server_id: int, backup_type: str, status: str, span: tuple[datetime, datetime]) -> bool:
    """Whether a backup is one that was asked for; of any server for 0."""
    begin, end = span
    if server_id not in (0, backup.server_id) or not begin <= backup.created_at < end:
        return False
    if backup_type not in ("any", backup.type) and backup.type != UNREADABLE:
        return False
    if status == "other":
        return backup.status not in {COMPLETED, IN_PROGRESS}
    return status in ("any", backup.status)


def flagged(row: BackupRow, flags: list[str] | None) -> BackupRow:
    """A row with what its own fields do not tell."""
    return row.model_copy(update={"flags": flags}) if flags else row


def _defaults(page: list[Backup]) -> dict[str, str]:
    """For each field that repeats itself, the value that most rows share."""
    shared = {}
    for name in _SHARED_FIELDS:
        counts = Counter(str(getattr(backup, name)) for backup in page)
        value, count = counts.most_common(1)[0] if counts else ("", 0)
        if count > 1 and value:
            shared[name] = value
    return shared


def _cursor(last: Backup, filters: str) -> str:
    microseconds = (last.created_at - _BEGINNING) // timedelta(microseconds=1)
    return f"{microseconds:x}-{last.id:x}-{_digest(filters)}"


def _position(cursor: str, filters: str) -> tuple[datetime, int] | None:
    if not cursor:
        return None
    parts = _CURSOR.fullmatch(cursor)
    if parts and parts[3] == _digest(filters):
        with suppress(OverflowError):
            return _BEGINNING + timedelta(microseconds=int(parts[1], 16)), int(parts[2], 16)
    raise InvalidArgumentError(
        "cursor is not the next_cursor of an earlier answer to the same filters.", "Call again without cursor."
    )


def _digest(filters: str) -> str:
    return hashlib.sha256(filters.encode()).hexdigest()[:8]
