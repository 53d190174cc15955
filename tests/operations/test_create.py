"""Making a backup: what is recorded before it is sent, and what counts as the same request again."""

from typing import Any

import pytest

from mcp_backups.actions.create import create, find_repeat, intent
from mcp_backups.errors import InvalidArgumentError, PolicyDeniedError, ReadOnlyError
from mcp_backups.models import Backup, Gap, Listing
from mcp_backups.operations import Context, CreateDetails, Result, Status
from mcp_backups.operations.operation import Operation, new_id
from mcp_backups.sandbox import Emulator, Fault
from tests.stage import ManualClock, write_now

from .made import MOMENT, ago, as_recorded, backup, operation, record_all, spoil_a_row, under

pytestmark = pytest.mark.anyio

NIGHTLY: dict[str, int | bool | str] = {"server_id": 12345, "description": "nightly"}
GAP = (Gap("1 row could not be read"),)


async def asked(context: Context, description: str = "nightly", *, again: bool = False, wait: float = 0) -> Result:
    async def no_progress(*_: object) -> None:
        pass

    return await create(context, 12345, description, allow_duplicate=again, wait_seconds=wait, report=no_progress)


ONLY_READS = "mcp-backups is set to read only: no backup is made, deleted or restored through it."


@pytest.mark.parametrize(
    ("rows", "missing", "name", "baseline"),
    [
        ([], (), "", ()),
        ([backup(501), backup(499, server_name="renamed")], (), "web-server-01", (501, 499)),
        ([backup(501)], GAP, "web-server-01", (501,)),
    ],
)
@pytest.mark.parametrize("marked", [True, False])
async def test_the_intent_holds_all_by_which_the_backup_can_be_found_later(
    context: Context,
    rows: list[Backup],
    missing: tuple[Gap, ...],
    name: str,
    baseline: tuple[int, ...],
    marked: bool,
) -> None:
    intended = intent(under(context, mark_backups=marked), NIGHTLY, Listing(tuple(rows), missing))
    assert intended == Operation(
        id=intended.id,
        action="create_backup",
        status=Status.SENDING,
        details=CreateDetails(marked=marked, baseline=baseline, baseline_complete=not missing),
        arguments=NIGHTLY,
        server_id=12345,
        server_name=name,
        approved_by="not_required",
        sent=MOMENT,
        **context.origin(),
    )
    assert len(intended.id) == len(new_id())


@pytest.mark.parametrize(
    ("fields", "is_repeat"),
    [
        ({}, True),
        ({"status": "sending"}, True),
        ({"status": "unknown"}, True),
        ({"status": "succeeded"}, True),
        ({"status": "failed"}, False),
        ({"status": "refused"}, False),
        ({"arguments": NIGHTLY | {"description": "weekly"}}, False),
        ({"arguments": NIGHTLY | {"server_id": 12346}, "server_id": 12346}, False),
        ({"server_id": 12346}, False),
        ({"action": "prune_backups"}, False),
        ({"credential": "another"}, False),
        ({"created": ago(minutes=9.9, ticking=9.9 * 60)}, True),
        ({"created": ago(minutes=10, ticking=600)}, False),
        ({"created": ago(days=1, ticking=599)}, True),
        ({"created": ago(minutes=9, ticking=600)}, False),
    ],
)
async def test_the_same_request_is_the_same_arguments_within_ten_minutes_by_the_clock_nobody_sets_that_took_effect(
    context: Context, fields: dict[str, Any], is_repeat: bool
) -> None:
    before = await context.record(
        operation(**{"action": "create_backup", "status": "accepted", "arguments": NIGHTLY} | fields)
    )
    found = await context.ledger.read(lambda entries: find_repeat(context, entries, NIGHTLY))
    assert found == (before if is_repeat else None)


@pytest.mark.parametrize(
    "others",
    [
        {"action": "create_backup", "server_id": 12346, "arguments": NIGHTLY | {"server_id": 12346}},
        {"action": "delete_backup"},
        {"action": "create_backup", "status": "failed", "arguments": NIGHTLY},
    ],
)
async def test_the_same_request_is_found_behind_however_much_else_was_done(
    context: Context, others: dict[str, Any]
) -> None:
    before = await context.record(operation("create_backup", "accepted", arguments=NIGHTLY))
    await record_all(context, [operation(**{"status": "succeeded"} | others) for _ in range(100)])
    assert await context.ledger.read(lambda entries: find_repeat(context, entries, NIGHTLY)) == before


async def test_of_several_the_last_is_the_one_that_is_repeated(context: Context) -> None:
    several = [operation("create_backup", "accepted", arguments=NIGHTLY) for _ in range(3)]
    await record_all(context, several)
    assert await context.ledger.read(lambda entries: find_repeat(context, entries, NIGHTLY)) == several[-1]


async def test_a_backup_is_asked_for_once_and_the_same_request_is_told_what_became_of_it(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    first = await asked(context)
    clock.advance(minutes=9)
    again = await asked(context)
    assert again == Result(await as_recorded(context, first.operation), replayed=True)
    assert (first.operation.status, again.operation.status) == ("accepted", "succeeded")
    assert (emulator.count("POST"), emulator.count("GET")) == (1, 2)


async def test_where_a_duplicate_is_wanted_the_same_request_is_another_backup(
    context: Context, emulator: Emulator
) -> None:
    first, another = await asked(context), await asked(context, again=True)
    assert (another.replayed, another.operation.id == first.operation.id) == (False, False)
    assert emulator.count("POST") == 2


@pytest.mark.parametrize("again", [False, True])
async def test_what_another_call_asked_for_while_the_list_was_read_is_not_asked_for_again_unless_wanted(
    context: Context, emulator: Emulator, clock: ManualClock, again: bool
) -> None:
    other = operation("create_backup", "accepted", arguments=NIGHTLY, backup_id=501, sent=clock.moment())

    def ask_first(_: object) -> None:
        write_now(context.ledger, lambda entries: entries.save(other))

    emulator.fail(Fault.edited(ask_first), method="GET")
    told = await asked(context, again=again)
    assert (told.operation.id == other.id, told.replayed, emulator.count("POST")) == (not again, not again, int(again))


async def test_the_time_that_the_request_took_is_part_of_the_wait(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.fail(Fault.edited(lambda _: clock.advance(seconds=4)), method="POST")
    told = await asked(context, wait=5)
    assert (told.operation.status, told.replayed, clock.slept) == ("accepted", False, [1])


async def test_the_same_request_says_so_where_vps_org_cannot_be_asked_just_now(
    context: Context, emulator: Emulator
) -> None:
    first = await asked(context)
    emulator.fail(Fault.status(401), method="GET")
    again = await asked(context)
    assert again == Result(first.operation, replayed=True, unseen="auth_failed")


async def test_an_incomplete_list_beforehand_is_recorded_as_such(context: Context, emulator: Emulator) -> None:
    emulator.fail(Fault.edited(spoil_a_row), method="GET")
    told = await asked(context)
    assert (await as_recorded(context, told.operation)).of(CreateDetails).baseline_complete is False


SHAPE = "description must be one line of visible characters; it holds {}."
SPACES = "leading, trailing or double spaces"


@pytest.mark.parametrize(
    ("rules", "description", "error", "what"),
    [
        ({"read_only": True}, "nightly", ReadOnlyError, ONLY_READS),
        (
            {"servers": frozenset({12346})},
            "nightly",
            PolicyDeniedError,
            "Server 12345 is not among those that may be changed here.",
        ),
        ({}, " nightly", InvalidArgumentError, SHAPE.format(SPACES)),
        ({}, "two\nlines", InvalidArgumentError, SHAPE.format("a line break at character 4")),
        ({}, "two  spaces", InvalidArgumentError, SHAPE.format(SPACES)),
        ({}, "x" * 151, InvalidArgumentError, "description must be at most 150 characters; it has 151."),
        ({}, "like op_abcdefgh23456723 one", InvalidArgumentError, "description must not hold an operation id."),
    ],
)
async def test_what_may_not_be_asked_for_is_refused_in_so_many_words_and_nothing_is_read(
    context: Context,
    emulator: Emulator,
    rules: dict[str, Any],
    description: str,
    error: type[InvalidArgumentError | PolicyDeniedError],
    what: str,
) -> None:
    with pytest.raises(error) as refusal:
        await asked(under(context, **rules), description)
    assert refusal.value.what == what
    assert emulator.requests == []


async def test_the_longest_description_is_sent_whole(context: Context, emulator: Emulator) -> None:
    told = await asked(context, "x" * 150)
    assert emulator.fleet.backups[502].description == f"{'x' * 150} [{told.operation.id}]"


FINISHED: dict[str, Any] = {"status": "succeeded", "arguments": NIGHTLY, "backup_id": 777}


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (FINISHED, None),
        (FINISHED | {"backup_id": 501}, None),
        (FINISHED, Fault.status(401)),
        (FINISHED, Fault.edited(spoil_a_row)),
        (FINISHED | {"status": "unknown"}, None),
    ],
)
async def test_the_same_request_is_answered_by_the_first_whatever_the_list_shows_of_its_backup(
    context: Context, emulator: Emulator, clock: ManualClock, fields: dict[str, Any], fault: Fault | None
) -> None:
    """A list may be behind, and then lacks what it showed before."""
    before = await context.record(operation("create_backup", sent=clock.moment(), **fields))
    if fault:
        emulator.fail(fault, method="GET", times=None)
    told = await asked(context)
    assert (told.operation.id, told.replayed) == (before.id, True)
    assert (emulator.count("GET"), emulator.count("POST")) == (1, 0)
    assert "server_id=12345" in emulator.requests[0].target


async def test_a_repeat_is_answered_where_no_time_would_be_left_to_make_another(
    context: Context, clock: ManualClock
) -> None:
    before = await context.record(operation("create_backup", sent=clock.moment(), **FINISHED))
    late = context.for_a_call()
    clock.advance(seconds=21)
    assert await asked(late) == Result(before, replayed=True, is_gone=True)


@pytest.mark.parametrize(
    ("fields", "is_repeat"),
    [
        ({}, False),
        ({"status": "unknown"}, False),
        ({"status": "failed"}, True),
        ({"status": "planned"}, True),
        ({"server_id": 12346}, True),
        ({"action": "restore_server", "sent": None}, True),
        ({"backup_id": 778}, True),
    ],
)
async def test_a_backup_whose_deletion_was_sent_here_answers_no_same_request(
    context: Context, fields: dict[str, Any], is_repeat: bool
) -> None:
    before = await context.record(operation("create_backup", **FINISHED))
    deleted: dict[str, Any] = {"action": "delete_backup", "status": "succeeded", "backup_id": 777}
    await context.record(operation(**deleted | fields))
    found = await context.ledger.read(lambda entries: find_repeat(context, entries, NIGHTLY))
    assert found == (before if is_repeat else None)


@pytest.mark.parametrize(
    ("fields", "is_repeat"),
    [
        ({}, False),
        ({"sent": ago(minutes=4, ticking=240)}, False),
        ({"sent": ago(minutes=5, ticking=300)}, True),
        ({"status": "failed"}, True),
        ({"status": "planned", "sent": None}, True),
        ({"server_id": 12346}, True),
        ({"action": "delete_backup", "backup_id": 778}, True),
        ({"address": "https://elsewhere.example"}, True),
    ],
)
async def test_a_backup_that_a_restore_came_after_answers_no_same_request(
    context: Context, fields: dict[str, Any], is_repeat: bool
) -> None:
    """It does not hold what the restore made of the server."""
    asked_for = ago(minutes=5, ticking=300)
    before = await context.record(operation("create_backup", created=asked_for, sent=asked_for, **FINISHED))
    restored: dict[str, Any] = {"action": "restore_server", "status": "accepted", "backup_id": 501}
    await context.record(operation(**restored | fields))
    found = await context.ledger.read(lambda entries: find_repeat(context, entries, NIGHTLY))
    assert found == (before if is_repeat else None)
