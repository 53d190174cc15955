"""A deletion that was not plainly refused: its backup is counted on for nothing until it is gone, or a day has passed.

Every server here has two good backups, a young one that is deleted and an older one that must then stay.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mcp_backups.api import VpsClient
from mcp_backups.errors import Failure, UnavailableError
from mcp_backups.ledger import SqliteLedger
from mcp_backups.ledger.liveness import FileLiveness
from mcp_backups.operations.operation import Operation
from mcp_backups.operations.reconciliation import settle_by_word
from mcp_backups.sandbox import Backup, Emulator, Fault
from tests.stage import (
    PROMPT,
    AgentWith,
    Answer,
    Connect,
    Era,
    MakeSettings,
    ManualClock,
    Session,
    recorded,
    session,
    stays,
)

from .conftest import in_turns

pytestmark = pytest.mark.anyio

SERVERS = {12345: None, 12346: 15, 12351: 200, 12360: 20 * 3600, 12362: 0}
"""When what was sent for a server takes effect, in seconds after its answer; None for never."""

NEVER, AT_20_HOURS = 12345, 12360
ROOM = {"deletes_per_hour": 100, "deletes_per_day": 100}


def target(server_id: int) -> int:
    return server_id * 10


def other(server_id: int) -> int:
    return server_id * 10 + 1


@pytest.fixture
async def emulator(clock: ManualClock) -> AsyncIterator[Emulator]:
    async with Emulator(now=clock.now) as served:
        served.fleet.backups.clear()
        for server_id in SERVERS:
            young, old = clock.now() - timedelta(minutes=40), clock.now() - timedelta(hours=50)
            served.fleet.backups[target(server_id)] = Backup(target(server_id), server_id, young, "manual", size_mb=9)
            served.fleet.backups[other(server_id)] = Backup(other(server_id), server_id, old, "manual", size_mb=8)
        yield served


def listed(emulator: Emulator, server_id: int) -> list[int]:
    """What the account holds of a server now."""
    emulator.settle()
    return sorted(backup.id for backup in emulator.fleet.backups_of(server_id))


def sent_for(emulator: Emulator, backup_id: int) -> int:
    return emulator.count("DELETE", f"/backups/{backup_id}/")


class CutOff(VpsClient):
    """A client that cannot reach VPS.org any more once a deletion of a backup was sent."""

    sent: frozenset[int] = frozenset()

    async def delete_backup(self, backup_id: int) -> None:
        if backup_id in self.sent:
            raise UnavailableError("VPS.org could not be reached.", failure=Failure.NOT_SENT)
        self.sent |= {backup_id}
        await super().delete_backup(backup_id)


@dataclass(frozen=True)
class Unsure:
    """How the attempts at one deletion end; what comes after the last of these is the last again."""

    name: str
    answers: tuple[Fault, ...]
    attempts: int = 3
    connect: Connect = PROMPT


FAILED, HTML_404 = Fault.status(500), Fault.status(404, "<html>Not here.</html>")
DENIED, MISSING = Fault.status(401, {"detail": "No."}), Fault.status(404, {"detail": "Not found."})
FORBIDDEN = Fault.status(403, {"detail": "No."})
YES_AS_A_PAGE = Fault.status(200, "<html>Back soon.</html>")
WITHIN_A_MOMENT = partial(PROMPT, deadline=0.5)

KINDS = [
    *(Unsure(str(status), (Fault.status(status),)) for status in (500, 502, 503, 504, 520, 408)),
    Unsure("418", (Fault.status(418),), attempts=1),
    Unsure("reset", (Fault.reset_after(),)),
    Unsure("closed", (Fault.close_after(),)),
    Unsure("silence", (Fault.silence(),), connect=WITHIN_A_MOMENT),
    Unsure("garbled", (Fault.raw(b"HTTP/1.1 2oo\r\n\r\n"),)),
    Unsure("a web page with 404", (HTML_404,)),
    Unsure("a web page with 200", (YES_AS_A_PAGE,), 1),
    Unsure("no in a 200", (Fault.status(200, {"success": False}),), 1),
    Unsure("500, then a web page with 404", (FAILED, HTML_404)),
    Unsure("500, then 404", (FAILED, MISSING), 2),
    Unsure("500, then 401", (FAILED, DENIED), 2),
    Unsure("500 twice, then 403", (FAILED, FAILED, FORBIDDEN), 3),
    Unsure("500, then refused connections", (FAILED,), 1, partial(CutOff, jitter=lambda: 0.0)),
]

OpenWith = Callable[..., AbstractAsyncContextManager[Session]]


@pytest.fixture
def served(emulator: Emulator, clock: ManualClock, era: Era, make_settings: MakeSettings) -> OpenWith:
    """`async with served(connect) as agent`: a server of its own each time, on the same ledger."""
    return partial(session, emulator, make_settings(**ROOM), clock, era)


async def planned(agent: Session, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = await agent.call(tool, **arguments)
    assert answer.status == "needs_confirmation", answer.text
    return arguments | {"confirm": True, "operation_id": answer.operation}


async def delete_unsurely(agent: Session, emulator: Emulator, server_id: int, unsure: Unsure) -> tuple[str, Answer]:
    """Delete the server's young backup, while that goes wrong so."""
    confirmation = await planned(agent, "delete_backup", backup_id=target(server_id))
    after, path = SERVERS[server_id], f"^/backups/{target(server_id)}/$"
    for place, fault in enumerate(unsure.answers):
        is_last = place == len(unsure.answers) - 1
        never = after is None or fault in (DENIED, MISSING, FORBIDDEN)
        timed = fault.late(after) if after and not never else replace(fault, apply=not never)
        emulator.fail(timed, method="DELETE", path=path, times=None if is_last else 1)
    return confirmation["operation_id"], await agent.call("delete_backup", **confirmation)


@in_turns("unsure", {unsure.name: unsure for unsure in KINDS})
async def test_an_unsure_deletion_takes_no_servers_last_backup_whenever_it_takes_effect(
    served: OpenWith, emulator: Emulator, clock: ManualClock, unsure: Unsure
) -> None:
    """Result as not done, it let the other backup go too: 15 s later the server had none."""
    operations: dict[int, str] = {}
    async with served(unsure.connect) as agent:
        for server_id, after in SERVERS.items():
            operations[server_id], answer = await delete_unsurely(agent, emulator, server_id, unsure)
            if after == 0:  # it is seen to be gone
                assert (answer.status, answer.data["changed"]) == ("succeeded", "done"), answer.text
                continue
            assert answer.code == "outcome_unknown", answer.text
            assert "It is still listed so far; it may still be deleted, for up to 24 h." in answer.text
            assert "It is not known whether anything was changed." in answer.text
            assert sent_for(emulator, target(server_id)) == unsure.attempts
            at_once = await agent.call("delete_backup", backup_id=other(server_id))
            assert at_once.code == "policy_denied"
    emulator.clear_faults()
    clock.advance(minutes=31)  # by then no server is closed any more for what is unknown
    async with served() as agent:
        for server_id in SERVERS:
            refused = await agent.call("delete_backup", backup_id=other(server_id))
            assert refused.code == "policy_denied", refused.text
            assert f"would leave server {server_id} with 0 proven backups" in refused.text
    clock.advance(hours=24)
    async with served() as agent:
        for server_id, after in SERVERS.items():
            told = await agent.call("get_operation", operation_id=operations[server_id])
            expected = ("failed", "nothing") if after is None else ("succeeded", "done")
            assert (told.status, told.data["changed"]) == expected, told.text
            assert ("did not take effect within 24 h" in told.text) is (after is None)
            again = await agent.call("delete_backup", backup_id=other(server_id))
            assert (again.code or again.status) == ("needs_confirmation" if after is None else "policy_denied")
    emulator.finish_all()
    for server_id, after in SERVERS.items():
        assert listed(emulator, server_id) == [target(server_id), other(server_id)][after is not None :]
        assert sent_for(emulator, other(server_id)) == 0


async def test_a_doubtful_backup_is_counted_on_for_nothing_and_no_status_of_it_is_final(
    served: OpenWith, emulator: Emulator, clock: ManualClock
) -> None:
    async with served() as agent:
        operation, unknown = await delete_unsurely(agent, emulator, NEVER, KINDS[0])
        assert unknown.code == "outcome_unknown"
    emulator.clear_faults()
    for minutes in (31, 19 * 60):
        clock.advance(minutes=minutes)
        async with served() as agent:
            await assert_counts_for_nothing(agent, NEVER, "doubtful")
            looked = await agent.call("get_operation", operation_id=operation)
            assert (looked.status, looked.data["changed"]) == ("unknown", "unknown")
            assert "for up to 24 h: by 2026-11-24T09:3" in looked.data["next_step"]
    assert listed(emulator, NEVER) == [target(NEVER), other(NEVER)]
    clock.advance(hours=5)
    emulator.fail(Fault.status(403), method="GET", path="^/backups/$", times=None)
    async with served() as agent:
        unseen = await agent.call("get_operation", operation_id=operation)
        assert (unseen.status, "The 24 h in which" in unseen.data["next_step"]) == ("unknown", True)
        emulator.clear_faults()
        lapsed = await agent.call("get_operation", operation_id=operation)
        assert (lapsed.status, lapsed.data["changed"]) == ("failed", "nothing")
        assert (await agent.call("restore_server", server_id=NEVER, backup_id=target(NEVER))).status == (
            "needs_confirmation"
        )
        assert (await agent.call("delete_backup", backup_id=other(NEVER))).status == "needs_confirmation"
        gone = emulator.fleet.backups.pop(target(NEVER))
        seen = await agent.call("get_operation", operation_id=operation)
        assert (seen.status, seen.data["changed"]) == ("succeeded", "done")
        assert "had been given up: something else may have deleted it" in seen.data["summary"]
        emulator.fleet.backups[gone.id] = gone
        refused = await agent.call("delete_backup", backup_id=other(NEVER))
        assert refused.code == "policy_denied"
        again = await agent.call("get_operation", operation_id=operation)
        assert (again.status, again.data["changed"]) == ("unknown", "unknown")
        clock.advance(hours=23)
        await assert_counts_for_nothing(agent, NEVER, "doubtful")
        clock.advance(hours=1)
        assert (await agent.call("get_operation", operation_id=operation)).status == "failed"
        assert (await agent.call("delete_backup", backup_id=other(NEVER))).status == "needs_confirmation"
    assert emulator.count("DELETE") == 3


async def assert_counts_for_nothing(agent: Session, server_id: int, flag: str) -> None:
    """No last one, no restore, no way back, no restore point, no place of a keep rule, no candidate of a prune."""
    kept = await agent.call("delete_backup", backup_id=other(server_id))
    assert (kept.code, "with 0 proven backups" in kept.text) == ("policy_denied", True)
    restore = await agent.call("restore_server", server_id=server_id, backup_id=target(server_id))
    assert (restore.code, "may still take effect" in restore.text) == ("policy_denied", True)
    way_back = await agent.call("restore_server", server_id=server_id, backup_id=other(server_id))
    assert way_back.data["facts"]["safety_backup"] == "one is made first"
    prune = await agent.call("prune_backups", server_id=server_id, keep_last=1)
    assert (prune.status, prune.data["to_delete"]) == ("succeeded", [])
    reasons = {row["id"]: row["reason"] for row in stays(prune)}
    assert reasons == {target(server_id): "its deletion was sent before", other(server_id): "keep-last 1"}
    checked = await agent.call("check_backups", server_id=server_id)
    (server,) = checked.data["servers"]
    assert server["restore_to"] == other(server_id)
    rows = {row["id"]: row.get("flags", ()) for row in (await agent.call("list_backups")).data["backups"]}
    assert flag in rows[target(server_id)]
    assert flag not in rows[other(server_id)]
    assert (await agent.call("delete_backup", backup_id=target(server_id))).status == "needs_confirmation"


async def test_a_doubtful_backup_may_be_deleted_again_after_half_an_hour(
    served: OpenWith, emulator: Emulator, clock: ManualClock
) -> None:
    async with served() as agent:
        first, _ = await delete_unsurely(agent, emulator, AT_20_HOURS, KINDS[0])
        emulator.clear_faults()
        closed = await agent.call("delete_backup", backup_id=target(AT_20_HOURS))
        assert (closed.code, first in closed.text) == ("policy_denied", True)
        clock.advance(minutes=30)
        again = await planned(agent, "delete_backup", backup_id=target(AT_20_HOURS))
        done = await agent.call("delete_backup", **again)
        assert (done.status, done.data["changed"]) == ("succeeded", "done")
        assert (await agent.call("get_operation", operation_id=first)).status == "succeeded"
        clock.advance(hours=24)
        assert (await agent.call("delete_backup", backup_id=other(AT_20_HOURS))).code == "policy_denied"
    emulator.finish_all()
    assert listed(emulator, AT_20_HOURS) == [other(AT_20_HOURS)]


LISTS_THAT_SAY_NO: dict[str, dict[str, Any]] = {
    "an error": {"error": "backend unavailable"},
    "errors": {"errors": ["shard 3"]},
    "an error's code and message": {"error_code": 503, "error_message": "backend unavailable"},
    "no success": {"success": False},
    "a status": {"status": "error"},
    "not the last": {"isLast": False},
    "more elsewhere": {"response_metadata": {"next_cursor": "abc"}},
    "a total in words": {"total": "many"},
}


@in_turns("no", LISTS_THAT_SAY_NO)
async def test_a_backup_is_not_gone_because_a_list_that_says_no_or_more_lacks_it(
    served: OpenWith, emulator: Emulator, no: dict[str, Any]
) -> None:
    """An empty list with an error in it once made "is deleted" of an unsure deletion."""
    empty = Fault.edited(lambda page: page | {"count": 0, "results": []} | no)
    async with served() as agent:
        confirmation = await planned(agent, "delete_backup", backup_id=target(NEVER))
        emulator.fail(Fault.status(500), method="DELETE", times=None)
        emulator.fail(empty, method="GET", path="^/backups/$", skip=1, times=None)
        answer = await agent.call("delete_backup", **confirmation)
        assert (answer.code, "The list could not tell whether it is gone" in answer.text) == ("outcome_unknown", True)
        looked = await agent.call("get_operation", operation_id=confirmation["operation_id"])
        assert (looked.status, looked.data["changed"]) == ("unknown", "unknown")
        page = await agent.call("list_backups", server_id=NEVER)
        assert (page.data["complete"], page.data["total"]) == (False, 0)
        assert (await agent.call("check_backups", server_id=NEVER)).data["verdict"] == "cannot_tell"
        assert (await agent.call("delete_backup", backup_id=other(NEVER))).code == "upstream_protocol"
    assert listed(emulator, NEVER) == [target(NEVER), other(NEVER)]


PLAIN = (301, 400, 401, 403, 404, 405, 409, 410, 413, 415, 422)


@in_turns("refusal", {str(status): Fault.status(status, {"detail": "No."}) for status in PLAIN})
async def test_what_vps_org_plainly_refuses_leaves_no_doubt(
    served: OpenWith, emulator: Emulator, refusal: Fault
) -> None:
    async with served() as agent:
        confirmation = await planned(agent, "delete_backup", backup_id=target(NEVER))
        emulator.fail(refusal, method="DELETE")
        refused = await agent.call("delete_backup", **confirmation)
        assert refused.is_error
        assert refused.code != "outcome_unknown"
        assert "Nothing was changed." in refused.text
        assert (await agent.call("delete_backup", backup_id=other(NEVER))).status == "needs_confirmation"
    assert sent_for(emulator, target(NEVER)) == 1
    assert listed(emulator, NEVER) == [target(NEVER), other(NEVER)]


YESES = {
    "202": Fault.status(202, {"detail": "Queued."}),
    "200": Fault.status(200, {"detail": "Later."}),
    "204": Fault.status(204),
    "200 empty": Fault.status(200),
    "200 with its row": Fault.status(200, {"id": 1, "status": "deleting"}),
}


@in_turns("yes", YESES)
async def test_a_deletion_that_was_accepted_and_is_still_listed_is_under_way_for_a_day(
    served: OpenWith, emulator: Emulator, clock: ManualClock, yes: Fault
) -> None:
    """The other backup is the last one from the moment on at which VPS.org said yes."""
    operations: dict[int, str] = {}
    async with served() as agent:
        for server_id in (NEVER, AT_20_HOURS):
            operations[server_id], told = await delete_unsurely(agent, emulator, server_id, Unsure("", (yes,)))
            assert (told.status, told.data["changed"] in {"done", "started"}) == ("accepted", True)
            assert "has not been seen to be gone" in told.data["summary"]
            assert f"Do not count on backup {target(server_id)}." in told.data["next_step"]
            assert sent_for(emulator, target(server_id)) == 1
        await assert_counts_for_nothing(agent, NEVER, "being_deleted")
    emulator.clear_faults()
    clock.advance(hours=19)
    async with served() as agent:
        await assert_counts_for_nothing(agent, AT_20_HOURS, "being_deleted")
        clock.advance(hours=5)
        never = await agent.call("get_operation", operation_id=operations[NEVER])
        assert (never.status, never.data["changed"]) == ("failed", "nothing")
        assert "did not take effect within 24 h" in never.text
        assert (await agent.call("delete_backup", backup_id=other(NEVER))).status == "needs_confirmation"
        late = await agent.call("get_operation", operation_id=operations[AT_20_HOURS])
        assert (late.status, late.data["changed"]) == ("succeeded", "done")
        assert (await agent.call("delete_backup", backup_id=other(AT_20_HOURS))).code == "policy_denied"
    assert listed(emulator, AT_20_HOURS) == [other(AT_20_HOURS)]


async def test_what_was_recorded_of_an_unsure_deletion_is_what_was_told(
    served: OpenWith, emulator: Emulator, make_settings: MakeSettings
) -> None:
    async with served() as agent:
        operation, _ = await delete_unsurely(agent, emulator, NEVER, KINDS[0])
    (kept,) = [each for each in recorded(make_settings().state_dir) if each.id == operation]
    assert (kept.status, kept.error_code, kept.changed) == ("unknown", "outcome_unknown", "unknown")


async def test_what_the_operator_took_for_not_done_is_corrected_once_it_is_seen_to_be_gone(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock, state_dir: Path
) -> None:
    backup, hours = target(AT_20_HOURS), 20
    emulator.fail(Fault.status(503).late(hours * 3600), method="DELETE", times=None)
    async with agent_with(approval="flag", **ROOM) as agent:
        await agent.call("delete_backup", backup_id=backup, confirm=True)
        (operation,) = recorded(state_dir)
        with closing(SqliteLedger(state_dir, Operation, clock.wall)) as ledger:
            await settle_by_word(ledger, FileLiveness(state_dir), operation.id, "failed")
        before = await agent.call("get_operation", operation_id=operation.id)
        assert (before.status, before.data["changed"]) == ("failed", "nothing")
        assert backup in listed(emulator, AT_20_HOURS)
        clock.advance(hours=hours + 1)
        after = await agent.call("get_operation", operation_id=operation.id)
    assert (after.status, after.data["changed"]) == ("succeeded", "done")
    assert backup not in listed(emulator, AT_20_HOURS)


# Where its server, or its id, is another by then


def elsewhere(emulator: Emulator, server_id: int) -> None:
    """The backup that is deleted belongs to another server now."""
    emulator.fleet.backups[target(NEVER)].server_id = server_id


def of_no_server(emulator: Emulator, _: int) -> None:
    """It belongs to none, as where its server is gone; VPS.org lists it all the same."""
    emulator.change(honour_filters=False)
    emulator.fail(Fault.rows({"server": None}, backup_id=target(NEVER)), method="GET", times=None)


@in_turns(
    "case",
    {
        f"{name}, {when}": (move, when)
        for name, move in (("of another server", elsewhere), ("of none", of_no_server))
        for when in ("while it is sent", "later")
    },
)
async def test_a_backup_that_left_its_server_is_not_taken_for_deleted(
    agent: Session, emulator: Emulator, clock: ManualClock, case: tuple[Callable[[Emulator, int], None], str]
) -> None:
    """It was absent from its server's list, and stood in that of all; its new server then gave up its last good one."""
    (move, when), moved_to, last = case, AT_20_HOURS, other(AT_20_HOURS)
    del emulator.fleet.backups[target(moved_to)]
    plan = await agent.call("delete_backup", backup_id=target(NEVER))
    if when == "while it is sent":
        # The list that is read before it is sent shows it, for the last time, as it was planned.
        emulator.fail(Fault.edited(lambda _: move(emulator, moved_to)), method="GET")
    emulator.fail(Fault.status(500), method="DELETE", times=None)
    told = await agent.call("delete_backup", backup_id=target(NEVER), confirm=True, operation_id=plan.operation)
    assert told.code == "outcome_unknown", told.text
    sent = sent_for(emulator, target(NEVER))
    assert sent == (1 if when == "while it is sent" else 3)  # never again where it may be another server's
    if when == "later":
        move(emulator, moved_to)
    looked = await agent.call("get_operation", operation_id=plan.operation)
    assert (looked.status, looked.data["changed"]) == ("unknown", "unknown")
    clock.advance(hours=1)
    assert (await agent.call("delete_backup", backup_id=last)).code == "policy_denied"
    clock.advance(hours=24)
    for _ in range(2):  # it has been given up by the second one, which may still find that it is gone
        looked = await agent.call("get_operation", operation_id=plan.operation)
        assert (looked.status, looked.data["changed"]) == ("failed", "nothing")
    assert (target(NEVER) in emulator.fleet.backups, sent_for(emulator, target(NEVER))) == (True, sent)


@in_turns("move", {"of another server": elsewhere, "of none": of_no_server})
@pytest.mark.parametrize("tool", ["delete_backup", "prune_backups"])
async def test_a_backup_that_left_its_server_after_a_yes_is_not_told_as_deleted(
    agent: Session, emulator: Emulator, clock: ManualClock, move: Callable[[Emulator, int], None], tool: str
) -> None:
    """VPS.org accepted the deletion, and lists the backup elsewhere: it is under way until it is gone there too."""
    backup = emulator.fleet.backups[target(NEVER)]
    backup.created_at = clock.now() - timedelta(hours=60)  # the older of the two, for the prune
    request = {"backup_id": backup.id} if tool == "delete_backup" else {"server_id": NEVER, "keep_last": 1}
    plan = await agent.call(tool, **request)
    emulator.fail(Fault.status(202), method="DELETE")
    told = await agent.call(tool, **request, confirm=True, operation_id=plan.operation)
    assert (told.status, told.data["changed"]) == ("accepted", "started")
    emulator.clear_faults()
    move(emulator, AT_20_HOURS)
    looked = await agent.call("get_operation", operation_id=plan.operation)
    assert (looked.status, looked.data["changed"]) == ("accepted", "started"), looked.text
    del emulator.fleet.backups[backup.id]
    looked = await agent.call("get_operation", operation_id=plan.operation)
    assert (looked.status, looked.data["changed"]) == ("succeeded", "done")


@in_turns("server_id", {"its own server": NEVER, "another": AT_20_HOURS})
async def test_an_id_that_is_given_again_is_that_of_another_backup(
    agent: Session, emulator: Emulator, clock: ManualClock, server_id: int
) -> None:
    """The new one was doubtful for ever, told as deleted by what deleted the first, and made twice."""
    number = max(emulator.fleet.backups) + 1
    emulator.fleet.last_backup_id = number - 1
    first = await agent.call("create_backup", server_id=NEVER, description="first", wait_seconds=45)
    plan = await agent.call("delete_backup", backup_id=number)
    await agent.call("delete_backup", backup_id=number, confirm=True, operation_id=plan.operation)
    clock.advance(minutes=5)
    emulator.fleet.last_backup_id = number - 1
    for replayed in (False, True):
        made = await agent.call("create_backup", server_id=server_id, description="new", wait_seconds=45)
        assert (made.status, made.data["backup"]["id"], made.replayed) == ("succeeded", number, replayed), made.text
        assert f"Backup {number} of server {server_id} is finished." in made.text
    assert emulator.count("POST") == 2
    (server,) = (await agent.call("check_backups", server_id=server_id)).data["servers"]
    assert (server["restore_to"], server.get("doubtful")) == (number, None)
    assert not (await agent.call("restore_server", server_id=server_id, backup_id=number)).is_error
    deleted = await agent.call("get_operation", operation_id=plan.operation)
    assert (deleted.status, deleted.data["changed"]) == ("succeeded", "done")
    gone = await agent.call("get_operation", operation_id=first.operation)
    assert f"by {plan.operation}" in gone.text


@in_turns("by", {"some digits": timedelta(microseconds=5), "an hour": timedelta(hours=1)})
async def test_a_deleted_backup_that_is_listed_again_with_another_date_is_no_later_one(
    agent: Session, emulator: Emulator, clock: ManualClock, by: timedelta
) -> None:
    """It counted as good, so that the other one could go too, and nothing was left."""
    old = emulator.fleet.backups[other(NEVER)]
    plan = await agent.call("delete_backup", backup_id=old.id)
    assert (await agent.call("delete_backup", backup_id=old.id, confirm=True, operation_id=plan.operation)).status == (
        "succeeded"
    )
    clock.advance(minutes=1)
    emulator.fleet.backups[old.id] = replace(old, created_at=old.created_at + by)  # as a list that is behind tells it
    assert (await agent.call("delete_backup", backup_id=target(NEVER))).code == "policy_denied"
    looked = await agent.call("get_operation", operation_id=plan.operation)
    assert (looked.status, looked.data["changed"]) == ("unknown", "unknown")


async def test_an_id_that_is_given_again_after_an_unsure_deletion_is_doubtful_for_a_day(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    """What was sent may still hit the new one; that the old one is gone is told after that, not that it stayed."""
    number = target(NEVER)
    plan = await agent.call("delete_backup", backup_id=number)
    emulator.fail(Fault.reset_after(), method="DELETE")
    emulator.fail(Fault.status(503), method="GET", times=None, skip=1)
    told = await agent.call("delete_backup", backup_id=number, confirm=True, operation_id=plan.operation)
    assert told.code == "outcome_unknown"
    emulator.clear_faults()
    emulator.fleet.backups[number] = Backup(number, NEVER, clock.now(), "manual", size_mb=9)
    looked = await agent.call("get_operation", operation_id=plan.operation)
    assert (looked.status, looked.data["changed"]) == ("unknown", "unknown")
    refused = await agent.call("restore_server", server_id=NEVER, backup_id=number)
    assert refused.code == "policy_denied"
    clock.advance(hours=25)
    looked = await agent.call("get_operation", operation_id=plan.operation)
    assert (looked.status, looked.data["changed"]) == ("succeeded", "done")
    assert looked.data["facts"]["evidence"] == "its id is a later backup's"
    assert not (await agent.call("restore_server", server_id=NEVER, backup_id=number)).is_error


async def test_where_the_list_of_all_cannot_be_read_that_of_its_server_settles_a_deletion(
    agent: Session, emulator: Emulator
) -> None:
    plan = await agent.call("delete_backup", backup_id=target(NEVER))
    emulator.fail(Fault.reset_after(), method="DELETE")
    emulator.fail(Fault.status(503), method="GET", times=None, skip=2)
    told = await agent.call("delete_backup", backup_id=target(NEVER), confirm=True, operation_id=plan.operation)
    assert (told.status, told.data["changed"], sent_for(emulator, target(NEVER))) == ("succeeded", "done", 1)


@pytest.mark.parametrize(
    ("later", "first_end", "later_end"),
    [
        ("takes effect", ("failed", "nothing"), ("succeeded", "done")),
        ("is given up too", ("failed", "nothing"), ("succeeded", "done")),
        ("is refused", ("succeeded", "done"), ("failed", "nothing")),
    ],
)
async def test_a_deletion_that_was_given_up_is_told_as_done_only_where_no_later_one_may_have_done_it(
    served: OpenWith,
    emulator: Emulator,
    clock: ManualClock,
    later: str,
    first_end: tuple[str, str],
    later_end: tuple[str, str],
) -> None:
    async with served() as agent:
        first, _ = await delete_unsurely(agent, emulator, NEVER, KINDS[0])
        emulator.clear_faults()
        clock.advance(hours=25)
        assert (await agent.call("get_operation", operation_id=first)).status == "failed"
        if later == "is given up too":
            second, _ = await delete_unsurely(agent, emulator, NEVER, KINDS[0])
            emulator.clear_faults()
            clock.advance(hours=25)
            assert (await agent.call("get_operation", operation_id=second)).status == "failed"
        else:
            plan = await agent.call("delete_backup", backup_id=target(NEVER))
            second = plan.operation
            if later == "is refused":
                emulator.fail(Fault.status(409, {"detail": "Locked."}), method="DELETE")
            await agent.call("delete_backup", backup_id=target(NEVER), confirm=True, operation_id=second)
        given_up = await agent.call("get_operation", operation_id=first)
        if later == "takes effect":  # there was nothing left to plan another delete of
            assert f"was sent since ({second}): list_backups shows" in given_up.data["next_step"]
        emulator.fleet.backups.pop(target(NEVER), None)
        for operation, end in ((first, first_end), (second, later_end)):
            told = await agent.call("get_operation", operation_id=operation)
            assert (told.status, told.data["changed"]) == end, told.text


@pytest.mark.parametrize("lag", [20, 1000])
@pytest.mark.parametrize(
    "fault",
    [
        Fault.reset_after(),
        Fault.status(503),
        Fault.status(504, "<html>"),
        Fault.status(402, {"detail": "Pay."}),
        Fault.status(200, {"status": "failed"}),
    ],
    ids=["lost", "503", "a page", "402", "a no in JSON"],
)
async def test_a_list_of_before_a_backup_was_made_does_not_show_that_it_is_deleted(
    served: OpenWith, emulator: Emulator, clock: ManualClock, fault: Fault, lag: int
) -> None:
    """One replica of VPS.org shows the backup, and the next is behind by more than the backup's age."""
    young = emulator.fleet.backups[target(NEVER)]
    young.created_at = young.since = clock.now() - timedelta(seconds=lag / 2)
    async with served() as agent:
        confirmation = await planned(agent, "delete_backup", backup_id=young.id)
        operation = {"operation_id": confirmation["operation_id"]}
        emulator.fail(fault.late(2 * lag), method="DELETE")
        emulator.fail(Fault.lagging(lag), method="GET", path="^/backups/$", skip=1, times=None)
        answer = await agent.call("delete_backup", **confirmation)
        assert answer.code == "outcome_unknown", answer.text
        assert "The list could not tell whether it is gone; it may still be deleted" in answer.text
        assert (await agent.call("get_operation", **operation)).status == "unknown"
        assert (young.id in listed(emulator, NEVER), sent_for(emulator, young.id)) == (True, 1)
        clock.advance(hours=1)
        assert (await agent.call("get_operation", **operation)).data["changed"] == "done"
    assert young.id not in listed(emulator, NEVER)


async def test_a_list_with_a_newer_backup_shows_that_a_new_one_is_deleted(
    served: OpenWith, emulator: Emulator, clock: ManualClock
) -> None:
    young, newer = (emulator.fleet.backups[choose(NEVER)] for choose in (target, other))
    young.created_at, newer.created_at = (clock.now() - timedelta(seconds=each) for each in (60, 30))
    async with served() as agent:
        confirmation = await planned(agent, "delete_backup", backup_id=young.id)
        emulator.fail(Fault.reset_after(), method="DELETE")
        answer = await agent.call("delete_backup", **confirmation)
    assert (answer.status, answer.data["changed"]) == ("succeeded", "done"), answer.text
