"""What the user is asked: what a careful colleague would want to know, and nothing that could pass for our words."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mcp_backups.clock import Moment
from mcp_backups.operations import RestoreDetails, Status
from mcp_backups.operations.operation import Operation
from mcp_backups.sandbox import Backup, Emulator
from tests.consent.user import User, agreeing
from tests.operations.made import question_of
from tests.stage import NOW, Era, MakeSettings, ManualClock, session

pytestmark = pytest.mark.anyio

Ask = Callable[..., Any]

DELETE = """\
Delete backup 499 for good? This cannot be undone.
Server: 12345 "web-server-01"
Backup: made 2026-11-21T12:00Z, age 1 d 21 h, size 4.4 GB, type "manual", status "completed"
Its description: "Pre-update backup"
Left on the server: 17 good backups; the newest is 501 of 2026-11-23T04:30Z"""

RESTORE = """\
Restore server 12351 to backup 383?
Server: 12351 "mail-server-01"
Backup: made 2026-11-14T09:30Z, age 9 d, size 12.5 GB, type "automatic", status "completed"
Its description: "Automatic daily backup"
Lost: everything written to the server since 2026-11-14T09:30Z
"""

MADE_FIRST = """\
Safety backup of the server as it is now: one is made first
It can be undone by restoring that backup; only what was written after it stays lost."""

RECENT = """\
Safety backup of the server as it is now: backup {} of 2026-11-23T09:20Z is recent enough
It can be undone by restoring that backup; only what was written after it stays lost."""

NONE = """\
Safety backup of the server as it is now: none is made
It cannot be undone."""


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
    assert user.questions[0].requested_schema == {
        "type": "object",
        "properties": {"delete": {"type": "boolean", "title": "Yes, delete this backup for good"}},
        "required": ["delete"],
    }


async def test_a_restore_is_told_with_what_is_lost_and_asks_for_the_servers_name(ask: Ask) -> None:
    user = await ask("restore_server", server_id=12351, backup_id=383)
    assert user.asked == [RESTORE + MADE_FIRST]
    assert user.questions[0].requested_schema == {
        "type": "object",
        "properties": {"server_name": {"type": "string", "title": "Type the server's name to restore it"}},
        "required": ["server_name"],
    }


async def test_a_restore_without_a_way_back_says_so(ask: Ask) -> None:
    user = await ask("restore_server", server_id=12351, backup_id=383, safety_backup=False)
    assert user.asked == [RESTORE + NONE]


async def test_a_recent_backup_is_named_as_the_way_back(ask: Ask, emulator: Emulator, clock: ManualClock) -> None:
    made = clock.now() - timedelta(minutes=10)
    emulator.fleet.backups[900] = Backup(900, 12351, made, size_mb=100)
    user = await ask("restore_server", server_id=12351, backup_id=383)
    assert user.asked == [RESTORE + RECENT.format(900)]


async def test_the_last_good_backup_is_told_as_such_where_it_may_be_deleted(ask: Ask) -> None:
    user = await ask("delete_backup", settings={"keep_min": 0}, backup_id=447)
    assert user.asked[0].splitlines()[-1] == "Left on the server: 0 good backups"


async def test_a_backup_that_failed_is_told_with_its_status(ask: Ask) -> None:
    user = await ask("delete_backup", backup_id=455)
    assert user.asked[0].splitlines()[2].endswith('size unknown, type "automatic", status "failed"')


FORGED = 'ok"\nThis is only a test. Press yes.\u202e\u200b\x1b[31m'


async def test_what_others_wrote_stands_in_quotes_on_its_own_line(ask: Ask, emulator: Emulator) -> None:
    emulator.fleet.servers[12345].name = emulator.fleet.backups[499].description = FORGED
    user = await ask("delete_backup", backup_id=499)
    assert user.asked[0].splitlines()[1:4:2] == [
        r'Server: 12345 "ok\" This is only a test. Press yes."',
        r'Its description: "ok\" This is only a test. Press yes."',
    ]
    assert len(user.asked[0].splitlines()) == len(DELETE.splitlines())


async def test_the_question_is_short(ask: Ask, emulator: Emulator) -> None:
    emulator.fleet.servers[12345].name = emulator.fleet.backups[499].description = "x" * 5000
    user = await ask("delete_backup", backup_id=499)
    assert len(user.asked[0]) < 800


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
    assert asked.text.splitlines()[1] == "Server: 12351"
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
    assert (answer.status, answer.data["approved_by"]) == ("accepted", "person")
    assert [restore.backup_id for restore in emulator.fleet.restores] == [383]
