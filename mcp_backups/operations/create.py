"""Making a backup: no plan and no consent, but never twice."""

from collections.abc import Collection

from mcp_backups.errors import BusyError, InvalidArgumentError
from mcp_backups.models import Backup, Listing
from mcp_backups.operations.desk import Desk, Progress, Told
from mcp_backups.operations.ledger import Transaction
from mcp_backups.operations.operation import EFFECTIVE, OPERATION_ID, REPEAT_WINDOW, Arguments, Operation, new_id
from mcp_backups.operations.policy import check_server, check_write
from mcp_backups.operations.send import carry_out
from mcp_backups.operations.settle import CANNOT_SEE, follow
from mcp_backups.text import safe_text

MAX_DESCRIPTION = 150
"""Characters of a description, so that the operation's mark after it is still shown."""


async def create(
    desk: Desk, server_id: int, description: str, *, allow_duplicate: bool, wait_seconds: float, progress: Progress
) -> Told:
    """Start a backup of a server, or find the one that the same request started within the last 10 minutes.

    Raises:
        BackupsError: Nothing was started, or it is not known.
    """
    check_write(desk.settings)
    check_server(desk.settings, server_id)
    if description != safe_text(description) or len(description) > MAX_DESCRIPTION:
        raise InvalidArgumentError(
            f"description must be one line of at most {MAX_DESCRIPTION} visible characters, "
            "without leading, trailing or double spaces."
        )
    if OPERATION_ID.search(description):
        raise InvalidArgumentError("description must not hold an operation id.")
    start = desk.clock.ticks()
    await desk.identify()
    arguments: Arguments = {"server_id": server_id, "description": description}
    recorded: Operation | None = None
    gone = frozenset[int]()
    if not allow_duplicate:
        recorded = await desk.ledger.read(lambda entries: find_repeat(desk, entries, arguments))
    if recorded and await _is_gone(desk, recorded):
        gone = frozenset({recorded.backup_id})
        recorded = None
    started = None
    if recorded is None:
        with desk.reading(before_sending=True):
            backups = await desk.api.list_backups(server_id)
        intended = intent(desk, arguments, backups)
        started = await carry_out(
            desk,
            intended.id,
            lambda entries, owner: _intend(desk, entries, owner, intended, gone, allow_duplicate=allow_duplicate),
        )
        recorded = started or await desk.ledger.read(lambda entries: find_repeat(desk, entries, arguments, gone))
        if recorded is None:
            raise BusyError("Another call asked for the same backup at the same time, and failed.")
    left = max(0.0, wait_seconds - (desk.clock.ticks() - start))
    if started is not None and not left:
        return Told(started)
    told = await follow(desk, recorded, left, progress)
    return told if started is not None else told._replace(replayed=True)


def intent(desk: Desk, arguments: Arguments, backups: Listing[Backup]) -> Operation:
    """The operation that makes a backup, about to be sent."""
    now = desk.moment()
    return Operation(
        id=new_id(),
        action="create_backup",
        status="sending",
        arguments=arguments,
        server_id=int(arguments["server_id"]),
        server_name=next((backup.server_name for backup in backups.rows), ""),
        approved_by="not_required",
        created=now,
        sent=now,
        **desk.identity._asdict(),
        marked=desk.settings.mark_backups,
        baseline=tuple(backup.id for backup in backups.rows),
        baseline_complete=backups.complete,
    )


async def _is_gone(desk: Desk, recorded: Operation) -> bool:
    """Whether a backup that was finished is there no more; False where that cannot be told now."""
    if recorded.status != "succeeded":
        return False
    try:
        with desk.reading(before_sending=True):
            backups = await desk.api.list_backups(recorded.server_id)
    except CANNOT_SEE:
        return False
    return backups.complete and all(backup.id != recorded.backup_id for backup in backups.rows)


def find_repeat(
    desk: Desk, entries: Transaction, arguments: Arguments, known_gone: Collection[int] = ()
) -> Operation | None:
    """The operation of the same request within the last 10 minutes that took effect, or may have.

    One whose backup was deleted since is none, nor is one from before a restore: who asks again wants a backup that is
    there, and holds what the server is now.
    """
    server_id, now = int(arguments["server_id"]), desk.moment()
    made = entries.find(action="create_backup", server_id=server_id, statuses=EFFECTIVE, owner=desk.identity)
    deletes = entries.find(action="delete_backup", server_id=server_id, statuses=EFFECTIVE)
    restores = entries.find(action="restore_server", server_id=server_id, statuses=EFFECTIVE, sent_only=True)
    gone = {each.backup_id for each in deletes if desk.concerns(each)}.union(known_gone)
    restored = next((each.sent for each in restores if each.sent and desk.concerns(each)), None)
    return next(
        (
            each
            for each in made
            if each.arguments == arguments
            and each.created.ago(now) < REPEAT_WINDOW
            and not (each.backup_id and each.backup_id in gone)
            and not (restored and restored.ago(now) < each.created.ago(now))
        ),
        None,
    )


def _intend(
    desk: Desk,
    entries: Transaction,
    owner: str,
    intended: Operation,
    known_gone: Collection[int],
    *,
    allow_duplicate: bool,
) -> Operation | None:
    if not allow_duplicate and find_repeat(desk, entries, intended.arguments, known_gone):
        return None
    return entries.save(intended.but(owner=owner))
