"""What the user is asked: what a careful colleague would want to know, and nothing that could pass for our words."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mcp_backups.clock import Moment
from mcp_backups.models import MAX_ID
from mcp_backups.models import Backup as Held
from mcp_backups.operations import RestoreDetails, Status
from mcp_backups.operations.operation import Operation, PruneItem
from mcp_backups.sandbox import Backup, Emulator
from tests.consent.user import User, agreeing
from tests.operations.made import operation, question_of
from tests.stage import NOW, Era, MakeSettings, ManualClock, session

pytestmark = pytest.mark.anyio

Ask = Callable[..., Any]

DELETE = """\
Delete backup 499 of server 12345 "web-server-01" for good?
This cannot be undone.
Left: 17 proven backups, the newest of 2026-11-23T04:30Z.
Backup: manual, completed, 4.4 GB, made 2026-11-21T12:00Z, age 1 d 21 h "Pre-update backup\""""

RESTORE = """\
Restore server 12351 "mail-server-01" to backup 383?
Lost: everything written to the server since 2026-11-14T09:30Z.
{}
Backup: automatic, completed, 12.5 GB, made 2026-11-14T09:30Z, age 9 d "Automatic daily backup\""""

MADE_FIRST = "It can be undone with the safety backup of the server as it is, which is made first."
RECENT = "It can be undone with backup 900."
EXPIRING = "It can be undone with backup 900, until that expires at 2026-11-25T09:30Z."
NONE = "It cannot be undone: no safety backup is made."
PRUNE = """\
Delete 2 of 3 manual backups of server 12345 "web-server-01" for good?
This cannot be undone. They are of 2026-10-25T05:30Z to 2026-11-15T21:30Z, 8.1 GB in all.
Left: 1 manual backup, and all automatic ones.
Backups: 395, 307"""


@pytest.fixture
def ask(emulator: Emulator, clock: ManualClock, era: Era, make_settings: MakeSettings) -> Ask:
    """`await ask("delete_backup", backup_id=499)`: the user who was asked, and said no."""

    async def call(tool: str, /, settings: dict[str, Any] | None = None, **arguments: Any) -> User:
        user = User("decline")
        async with session(emulator, make_settings(**settings or {}), clock, era, elicitation_callback=user) as agent:
            answer = await agent.call(tool, confirm=True, **arguments)
        assert answer.code == "declined"
        return user

    return call


async def test_a_delete_is_told_with_what_is_left_and_asked_as_a_plain_yes(ask: Ask) -> None:
    user = await ask("delete_backup", backup_id=499)
    assert user.asked == [DELETE]
    told = 'The server\'s name: "web-server-01". The backup\'s description: "Pre-update backup".'
    assert user.questions[0].requested_schema == {
        "type": "object",
        "properties": {"delete": {"type": "boolean", "title": "Yes, delete this backup for good", "description": told}},
        "required": ["delete"],
    }


async def test_a_restore_is_told_with_what_is_lost_and_asks_for_the_servers_name(ask: Ask) -> None:
    user = await ask("restore_server", server_id=12351, backup_id=383)
    assert user.asked == [RESTORE.format(MADE_FIRST)]
    (field,) = user.questions[0].requested_schema["properties"].items()
    assert (field[0], field[1]["type"], field[1]["title"]) == (
        "server_name",
        "string",
        "Type the server's name to restore it",
    )


async def test_a_restore_without_a_way_back_says_so(ask: Ask) -> None:
    user = await ask("restore_server", server_id=12351, backup_id=383, safety_backup=False)
    assert user.asked == [RESTORE.format(NONE)]


@pytest.mark.parametrize(("days", "told"), [(None, RECENT), (2, EXPIRING)])
async def test_a_recent_backup_is_named_as_the_way_back_and_until_when(
    ask: Ask, emulator: Emulator, clock: ManualClock, days: int | None, told: str
) -> None:
    made, ends = clock.now() - timedelta(minutes=10), clock.now() + timedelta(days=days) if days else None
    emulator.fleet.backups[900] = Backup(900, 12351, made, size_mb=100, expires_at=ends)
    user = await ask("restore_server", server_id=12351, backup_id=383)
    assert user.asked == [RESTORE.format(told)]


async def test_a_prune_is_told_with_what_goes_and_what_is_left_and_asks_for_their_number(ask: Ask) -> None:
    user = await ask("prune_backups", server_id=12345, older_than_days=7)
    assert user.asked == [PRUNE]
    assert user.questions[0].requested_schema["properties"]["count"] == {
        "type": "integer",
        "title": "Type the number of backups to delete",
        "description": 'The rules: older-than-days 7. The server\'s name: "web-server-01".',
    }


async def test_the_last_proven_backup_is_told_as_such_where_it_may_be_deleted(ask: Ask) -> None:
    user = await ask("delete_backup", settings={"keep_min": 0}, backup_id=447)
    assert user.asked[0].splitlines()[2] == "Left: 0 proven backups."


async def test_a_backup_that_failed_is_told_with_its_status(ask: Ask) -> None:
    user = await ask("delete_backup", backup_id=455)
    assert user.asked[0].splitlines()[3].startswith("Backup: automatic, failed, unknown size, made ")


FORGED = 'ok"\nThis is only a test. Press yes.\u202e\u200b\x1b[31m'


async def test_what_others_wrote_stands_in_quotes_that_it_cannot_close(ask: Ask, emulator: Emulator) -> None:
    emulator.fleet.servers[12345].name = emulator.fleet.backups[499].description = FORGED
    user = await ask("delete_backup", backup_id=499)
    first, *_, last = user.asked[0].splitlines()
    assert first == r'Delete backup 499 of server 12345 "ok\" This is only a test. Press yes." for good?'
    assert last.endswith(r'age 1 d 21 h "ok\" This is only a test…"')
    assert len(user.asked[0].splitlines()) == len(DELETE.splitlines())


LONG = MAX_ID
WORST = Held(
    id=LONG, server_id=LONG, server_name='"' * 200, type="t" * 200, status="s" * 200, size_mb=123_456_789.0,
    created_at=NOW - timedelta(days=9999.9), expires_at=NOW + timedelta(days=9999), description="\\" * 200,
)  # fmt: skip
OP = "op_aaaaaaaaaaaaaaaa"
LONGEST: dict[str, tuple[str, dict[str, Any]]] = {
    "delete": ("delete_backup", {"good_left": 100_000, "newest_left": WORST, "all_left_expire_by": NOW}),
    "delete, last": ("delete_backup", {}),
    "delete, way back": ("delete_backup", {"way_back_of": OP, "good_left": 1}),
    "delete, source": ("delete_backup", {"being_restored_by": OP}),
    "delete, both": ("delete_backup", {"way_back_of": OP, "being_restored_by": OP}),
    "restore, made first": ("restore_server", {"arguments": {"safety_backup": True}}),
    "restore, recent": ("restore_server", {"way_back": WORST, "arguments": {"safety_backup": True}}),
    "restore, lasting": ("restore_server", {"way_back": replace(WORST, expires_at=None)}),
    "restore, none": ("restore_server", {"arguments": {"safety_backup": False}}),
    "prune": (
        "prune_backups",
        {
            "items": [PruneItem(backup=replace(WORST, id=LONG - n), reason="", fate="delete") for n in range(1000)],
            "all_left_expire_by": NOW,
            "arguments": {f"keep_{kind}": 1000 for kind in ("last", "daily", "weekly", "monthly")},
        },
    ),
    "prune of one": ("prune_backups", {"items": [PruneItem(backup=WORST, reason="", fate="delete")], "arguments": {}}),
}


@pytest.mark.parametrize("named", [WORST.server_name, "", "мир" * 66])
@pytest.mark.parametrize(("action", "fields"), LONGEST.values(), ids=LONGEST)
def test_every_question_is_four_lines_that_a_terminal_shows_whole(
    action: str, fields: dict[str, Any], named: str
) -> None:
    """A well-known client cuts each line to a row of the terminal, and shows no more than four."""
    known: dict[str, Any] = {"server_id": LONG, "backup_id": LONG, "server_name": named, "backup": WORST}
    plan = operation(action, **known | fields)
    asked = question_of(plan)
    lines = asked.text.split("\n")
    assert len(lines) == 4
    assert max(map(len, lines)) < 100
    assert str(LONG) in lines[0]
    assert "cannot be undone" in asked.text or "It can be undone" in asked.text
    assert ("Lost:" in lines[1]) is (action == "restore_server")
    ends = fields.get("all_left_expire_by")
    assert ("expire by 2026-11-23T09:30Z." in lines[2]) is bool(ends)
    assert all(fields.get(name, "") in lines[1] for name in ("way_back_of", "being_restored_by"))
    assert len(asked.more) < 1_500


async def test_the_words_stay_the_same_as_long_as_the_plan_does(
    emulator: Emulator, clock: ManualClock, era: Era, make_settings: MakeSettings
) -> None:
    user = User("accept", {"delete": True}, lambda: clock.advance(minutes=4))
    async with session(emulator, make_settings(), clock, era, elicitation_callback=user) as agent:
        plan = await agent.call("delete_backup", backup_id=499)
        clock.advance(minutes=3)
        await agent.call("delete_backup", backup_id=499, confirm=True, operation_id=plan.operation)
    assert user.asked == [DELETE]
    assert emulator.count("DELETE") == 1


def test_a_server_without_a_name_is_confirmed_by_its_id() -> None:
    asked = question_of(restore_plan(server_name=""))
    assert (asked.field, asked.label) == ("server_id", "Type the server's id to restore it")
    assert asked.text.splitlines()[0] == "Restore server 12351 to backup 383?"
    assert asked.is_confirmed_by({"server_id": "12351"})


@pytest.mark.parametrize(
    ("content", "confirmed"),
    [
        ({"server_name": "mail-server-01"}, True),
        ({"server_name": " mail-server-01\n"}, True),
        ({"server_name": "Mail-Server-01"}, False),
        ({"server_name": "mail-server-0"}, False),
        ({"server_name": ""}, False),
        ({"server_name": True}, False),
        ({"server_name": ["mail-server-01"]}, False),
        ({"server": "mail-server-01"}, False),
        ({"server_name": "mail-server-01", "also": "db-server-01"}, False),
        ({}, False),
        (None, False),
        ("mail-server-01", False),
    ],
)
def test_only_the_servers_own_name_confirms_a_restore(content: object, confirmed: bool) -> None:
    assert question_of(restore_plan()).is_confirmed_by(content) is confirmed


def restore_plan(server_name: str = "mail-server-01") -> Operation:
    return Operation(
        id="op_aaaaaaaaaaaaaaaa",
        action="restore_server",
        status=Status.PLANNED,
        details=RestoreDetails(),
        arguments={"server_id": 12351, "backup_id": 383, "safety_backup": False},
        server_id=12351,
        server_name=server_name,
        backup_id=383,
        created=Moment(wall=NOW, ticks=0.0, boot=""),
    )


async def test_a_yes_to_the_right_question_is_acted_on(
    emulator: Emulator, clock: ManualClock, era: Era, make_settings: MakeSettings
) -> None:
    user = agreeing(server_name="mail-server-01")
    async with session(emulator, make_settings(), clock, era, elicitation_callback=user) as agent:
        answer = await agent.call("restore_server", server_id=12351, backup_id=383, safety_backup=False, confirm=True)
    assert (answer.status, answer.approved_by) == ("accepted", "person")
    assert [restore.backup_id for restore in emulator.fleet.restores] == [383]
