"""Faults that come together: late arrivals, lists that lag or lie, clocks that are wrong, several processes at once."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import pytest

from mcp_backups.api import VpsClient
from mcp_backups.errors import ConfigError
from mcp_backups.ledger import SqliteLedger
from mcp_backups.ledger.liveness import FileLiveness
from mcp_backups.models import Backup, Listing
from mcp_backups.operations import Operation
from mcp_backups.operations.reconciliation import SettledAs, settle_by_word
from mcp_backups.sandbox import Emulator, Fault
from tests.faults.conftest import OpenBench
from tests.faults.stage import (
    DB,
    DOWN,
    LOST,
    MAIL,
    NEVER_ARRIVED,
    RUNNER,
    SOURCE,
    TARGET,
    WEB,
    Bench,
    a_create,
    a_delete,
    a_restore,
    changed,
    on_delete,
    on_get,
    on_post,
    times_applied,
)
from tests.stage import NOW, Answer, ManualClock, on_file, recorded

pytestmark = pytest.mark.anyio

LATE = Fault.reset_after().late(90)


@pytest.mark.parametrize("fault", [NEVER_ARRIVED, Fault.status(504), Fault.status(502)])
@pytest.mark.parametrize("arrives", [True, False])
async def test_a_delete_that_may_still_arrive_is_unknown_until_it_cannot_any_more(
    bench: Bench, fault: Fault, arrives: bool
) -> None:
    """Three times unanswered and still listed proves only that it has not arrived yet."""
    answer = await a_delete(bench, (on_delete(fault.late(90) if arrives else fault, 3),))
    assert (answer.code, changed(answer)) == ("outcome_unknown", "unknown")
    (operation,) = bench.operations()
    bench.clock.advance(seconds=89)
    early = await bench.agent.call("get_operation", operation_id=operation.id)
    assert early.status == "unknown"
    bench.clock.advance(seconds=32)
    late = await bench.agent.call("get_operation", operation_id=operation.id)
    assert (late.status, late.data["changed"]) == (("succeeded", "done") if arrives else ("unknown", "unknown"))
    bench.clock.advance(hours=24)
    last = await bench.agent.call("get_operation", operation_id=operation.id)
    assert (last.status, last.data["changed"]) == (("succeeded", "done") if arrives else ("failed", "nothing"))


async def test_a_refusal_does_not_make_an_earlier_unanswered_delete_certain(bench: Bench) -> None:
    answer = await a_delete(bench, (on_delete(LATE), on_delete(Fault.status(401, {"detail": "No."}))))
    assert answer.code == "outcome_unknown"
    (operation,) = bench.operations()
    bench.clock.advance(minutes=3)
    assert (await bench.agent.call("get_operation", operation_id=operation.id)).status == "succeeded"


async def test_a_backup_that_arrives_late_is_one_backup(bench: Bench) -> None:
    before = set(bench.emulator.fleet.backups)
    unknown = await a_create(bench, (on_post(LATE),))
    again = await bench.agent.call("create_backup", server_id=WEB, description="before the update")
    assert (unknown.code, again.status, again.replayed) == ("outcome_unknown", "unknown", True)
    bench.clock.advance(seconds=91)
    found = await bench.agent.call("create_backup", server_id=WEB, description="before the update")
    assert (found.status, found.replayed) == ("succeeded", True)
    assert set(bench.emulator.fleet.backups) - before == {found.data["backup"]["id"]}
    assert bench.requests()[1] == 1


async def test_a_refused_token_while_it_is_looked_for_a_backup_leaves_that_unknown(bench: Bench) -> None:
    denied = Fault.status(401, {"detail": "No."})
    answer = await a_create(bench, (on_post(LOST), on_get(denied, None, 1)))
    assert answer.code == "outcome_unknown"
    bench.emulator.clear_faults()
    again = await bench.agent.call("create_backup", server_id=WEB, description="before the update")
    assert (again.status, again.replayed, bench.requests()[1]) == ("succeeded", True, 1)


class Misdirected(VpsClient):
    """A client that from some list on meets a certificate that is not trusted, as behind a captive portal."""

    lists_left = 2

    async def list_backups(self, server_id: int = 0, backup_type: str = "") -> Listing[Backup]:
        self.lists_left -= 1
        if self.lists_left < 0:
            raise ConfigError("TLS verification failed.")
        return await super().list_backups(server_id, backup_type)


@pytest.mark.parametrize("lost", [True, False])
async def test_a_network_that_turns_untrusted_says_nothing_about_what_was_sent(
    emulator: Emulator, bench_on: OpenBench, lost: bool
) -> None:
    async with bench_on(emulator, partial(Misdirected, jitter=lambda: 0.0)) as bench:
        answer = await a_delete(bench, (on_delete(LOST),) if lost else ())
        assert (answer.code, changed(answer)) == (("outcome_unknown", "unknown") if lost else ("", "started"))
        (operation,) = bench.operations()
        told = await bench.agent.call("get_operation", operation_id=operation.id)
        assert told.data["facts"]["not_checked_now"].startswith("VPS.org could not be asked (config_error)")


async def test_two_rows_of_one_mark_are_no_proof_of_one_backup(bench: Bench) -> None:
    def twice(page: dict[str, Any]) -> dict[str, Any]:
        newest = max(page["results"], key=lambda each: each["id"])
        return page | {"count": page["count"] + 1, "results": [*page["results"], newest | {"id": newest["id"] + 1}]}

    answer = await a_create(bench, (on_post(LOST), on_get(Fault.edited(twice), None, 1)))
    assert answer.code == "outcome_unknown"


@pytest.mark.parametrize("is_lost", [False, True], ids=["shown too", "not shown"])
async def test_a_mark_on_a_backup_that_was_there_before_proves_nothing(bench: Bench, is_lost: bool) -> None:
    """Somebody may copy a description; a backup of days ago was told as the new one, and finished."""

    def copied(page: dict[str, Any]) -> None:
        newest = max(page["results"], key=lambda row: row["id"])
        (old,) = (row for row in page["results"] if row["id"] == TARGET)
        old["description"] = newest["description"]
        if is_lost:
            newest["description"] = ""

    answer = await a_create(bench, (on_get(Fault.edited(copied), None, 1),))
    looked = await bench.agent.call("get_operation", operation_id=answer.operation)
    assert looked.data["backup"]["id"] == max(bench.emulator.fleet.backups) != TARGET
    assert (answer.status, looked.status) == ("accepted", "accepted")


async def test_a_list_that_lags_behind_a_new_backup_does_not_make_it_failed(bench: Bench) -> None:
    """A backup that was started and is not in the list yet must not be asked for again."""
    started = await a_create(bench, ())

    def before(page: dict[str, Any]) -> dict[str, Any]:
        rows = [each for each in page["results"] if each["id"] != started.data["backup"]["id"]]
        return page | {"count": len(rows), "results": rows}

    bench.emulator.fail(Fault.edited(before), method="GET", times=None)
    lagging = await bench.agent.call("get_operation", operation_id=started.operation)
    again = await bench.agent.call("create_backup", server_id=WEB, description="before the update")
    assert [lagging.status, again.status, again.operation] == ["accepted", "accepted", started.operation]
    bench.clock.advance(minutes=29)
    assert (await bench.agent.call("get_operation", operation_id=started.operation)).status == "accepted"
    bench.clock.advance(minutes=1)
    gone = await bench.agent.call("get_operation", operation_id=started.operation)
    assert (gone.status, gone.data["changed"]) == ("failed", "done")
    assert "Nothing was changed" not in gone.text


async def test_a_list_that_shows_a_deleted_backup_again_leaves_it_accepted_and_uncounted(bench: Bench) -> None:
    """Of two good backups one is deleted but still listed: the other is the last."""
    first = next(iter(bench.emulator.fleet.backups_of(RUNNER)))
    other = max(bench.emulator.fleet.backups) + 1
    made = bench.clock.now() - timedelta(hours=40)
    bench.emulator.fleet.backups[other] = type(first)(other, RUNNER, made, size_mb=10, description="older")
    confirmation = await bench.plan("delete_backup", backup_id=first.id)
    bench.spoil(on_delete(Fault.status(202, {"detail": "Later."})))
    accepted = await bench.agent.call("delete_backup", **confirmation)
    assert (accepted.status, accepted.data["changed"]) == ("accepted", "started")
    still = await bench.agent.call("get_operation", operation_id=accepted.operation)
    assert still.status == "accepted"
    last = await bench.agent.call("delete_backup", backup_id=other)
    assert last.code == "policy_denied"
    assert bench.requests()[2] == 1


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("wrong", [-3600, 3600])
async def test_where_our_clock_is_wrong_vps_orgs_tells_which_backup_is_new(
    emulator: Emulator, clock: ManualClock, bench_on: OpenBench, marked: bool, wrong: int
) -> None:
    clock.step(seconds=wrong)
    async with bench_on(emulator, mark_backups=marked) as bench:
        answer = await a_create(bench, (on_post(LOST),))
        assert answer.status == "accepted"
        assert answer.data["facts"]["evidence"].startswith("probable") is not marked
        assert bench.requests()[1] == 1


@pytest.mark.parametrize("skip", [0, 1])
async def test_without_marks_an_incomplete_list_finds_no_backup(
    emulator: Emulator, bench_on: OpenBench, skip: int
) -> None:
    """Neither among rows of which some are missing, nor where it is not known which were there before."""
    incomplete = on_get(Fault.edited(lambda page: page | {"count": 999}), None if skip else 1, skip)
    async with bench_on(emulator, mark_backups=False) as bench:
        answer = await a_create(bench, (on_post(LOST), incomplete))
        assert answer.code == "outcome_unknown"


async def test_without_marks_the_one_new_backup_like_it_is_probably_it(emulator: Emulator, bench_on: OpenBench) -> None:
    async with bench_on(emulator, mark_backups=False) as bench:
        answer = await a_create(bench, (on_post(LOST),))
        assert answer.status == "accepted"
        assert answer.data["facts"]["evidence"].startswith("probable")


@pytest.mark.parametrize("marked", [True, False])
async def test_a_wrong_id_of_a_new_backup_is_corrected_by_looking(
    emulator: Emulator, bench_on: OpenBench, marked: bool
) -> None:
    """VPS.org names a backup of another server: nobody can tell by the answer alone, but the list does."""
    old = next(emulator.fleet.backups_of(DB)).id
    async with bench_on(emulator, mark_backups=marked) as bench:
        answer = await a_create(bench, (on_post(Fault.edited(lambda row: row | {"id": old})),))
        assert answer.data["backup"]["id"] == old
        looked = await bench.agent.call("get_operation", operation_id=answer.operation)
        assert looked.data["backup"]["id"] == max(backup.id for backup in emulator.fleet.backups_of(WEB))


@pytest.mark.parametrize("list_too", [False, True])
async def test_a_404_after_an_unsure_answer_is_not_believed_while_the_backup_is_listed(
    bench: Bench, list_too: bool
) -> None:
    confirmation = await bench.plan("delete_backup", backup_id=TARGET)
    bench.spoil(on_delete(NEVER_ARRIVED), on_delete(Fault.status(404, {"detail": "Not found."})))
    if list_too:
        bench.emulator.fail(DOWN, method="GET", times=None, skip=2)
    answer = await bench.agent.call("delete_backup", **confirmation)
    assert (answer.code, changed(answer)) == ("outcome_unknown", "unknown")
    bench.emulator.clear_faults()
    bench.clock.advance(hours=23)
    early = await bench.agent.call("get_operation", operation_id=confirmation["operation_id"])
    assert (early.status, early.data["changed"]) == ("unknown", "unknown")
    bench.clock.advance(hours=1)
    looked = await bench.agent.call("get_operation", operation_id=confirmation["operation_id"])
    assert (looked.status, looked.data["changed"]) == ("failed", "nothing")


async def test_a_404_to_the_only_request_is_a_success_where_the_backup_is_gone_by_then(bench: Bench) -> None:
    """Something on the way may have sent it twice; the plan has seen it listed a moment ago."""
    confirmation = await bench.plan("delete_backup", backup_id=TARGET)
    bench.spoil(on_delete(Fault.status(404, {"detail": "Not found."}, apply=True)))
    answer = await bench.agent.call("delete_backup", **confirmation)
    assert (answer.status, answer.data["changed"], bench.requests()[2]) == ("succeeded", "done", 1)


async def test_a_404_to_the_only_request_is_told_as_it_is_where_the_backup_is_still_listed(bench: Bench) -> None:
    confirmation = await bench.plan("delete_backup", backup_id=TARGET)
    bench.spoil(on_delete(Fault.status(404, {"detail": "Not found."})))
    answer = await bench.agent.call("delete_backup", **confirmation)
    assert answer.code == "not_found"
    assert f"VPS.org answered that it has no backup {TARGET}, and still lists it. Nothing was changed." in answer.text
    assert answer.text.endswith('VPS.org said: "Not found."')
    bench.spoil(on_delete(Fault.status(404, {"detail": "Not found."})))
    unseen = await bench.plan("delete_backup", backup_id=TARGET)
    bench.emulator.fail(DOWN, method="GET", times=None, skip=1)
    answer = await bench.agent.call("delete_backup", **unseen)
    assert (answer.code, "still lists" in answer.text) == ("not_found", False)


@pytest.mark.parametrize("what", ["gone", "empty"])
async def test_a_way_back_that_is_not_there_any_more_is_none(bench: Bench, what: str) -> None:
    oldest = min(bench.emulator.fleet.backups_of(MAIL), key=lambda backup: backup.created_at).id
    confirmation = await bench.plan("restore_server", server_id=MAIL, backup_id=oldest)
    preparing = await bench.agent.call("restore_server", **confirmation)
    safety = int(preparing.data["facts"]["safety_backup"])
    bench.clock.advance(minutes=61)
    bench.emulator.settle()
    if what == "empty":
        bench.emulator.fleet.backups[safety].size_mb = 0
    await bench.agent.call("get_operation", operation_id=confirmation["operation_id"])
    if what == "gone":
        bench.emulator.fleet.delete_backup(safety)
    answer = await bench.agent.call("restore_server", **confirmation)
    assert (answer.code or answer.status) == ("policy_denied" if what == "gone" else "failed")
    why = "empty, expired, no longer there or just being deleted" if what == "gone" else "completed but empty"
    assert f"ackup {safety} is {why}" in answer.text
    assert bench.emulator.fleet.restores == []


async def test_a_way_back_that_the_list_does_not_show_just_now_is_waited_for(bench: Bench) -> None:
    oldest = min(bench.emulator.fleet.backups_of(MAIL), key=lambda backup: backup.created_at).id
    confirmation = await bench.plan("restore_server", server_id=MAIL, backup_id=oldest)
    preparing = await bench.agent.call("restore_server", **confirmation)
    safety = int(preparing.data["facts"]["safety_backup"])
    bench.clock.advance(minutes=10)
    await bench.agent.call("get_operation", operation_id=confirmation["operation_id"])

    def without(page: dict[str, Any]) -> dict[str, Any]:
        return page | {"results": [each for each in page["results"] if each["id"] != safety]}

    bench.emulator.fail(Fault.edited(without), method="GET")
    assert (await bench.agent.call("restore_server", **confirmation)).status == "preparing"
    assert (await bench.agent.call("restore_server", **confirmation)).status == "accepted"
    assert len(bench.emulator.fleet.restores) == 1


async def test_the_same_restore_asked_for_at_once_by_two_trusted_callers_is_one_restore(
    emulator: Emulator, bench_on: OpenBench
) -> None:
    answers: list[Answer] = []
    rules = {"approval": "flag", "restores_per_hour": 9}

    async def restore(bench: Bench) -> None:
        answers.append(
            await bench.agent.call("restore_server", server_id=WEB, backup_id=SOURCE, safety_backup=False, confirm=True)
        )

    async with (
        bench_on(emulator, **rules) as one,
        bench_on(emulator, **rules) as other,
        anyio.create_task_group() as calls,
    ):
        for bench in (one, other, one):
            calls.start_soon(restore, bench)
    assert len(emulator.fleet.restores) == 1
    assert len([answer for answer in answers if not answer.is_error and not answer.replayed]) == 1


@asynccontextmanager
async def _by_word(bench: Bench) -> AsyncIterator[Callable[..., Any]]:
    ledger = SqliteLedger(bench.state_dir, Operation, lambda: NOW)
    try:
        yield partial(settle_by_word, ledger, FileLiveness(bench.state_dir))
    finally:
        ledger.close()


@on_file
@pytest.mark.parametrize("verdict", ["succeeded", "failed"])
async def test_the_operators_word_settles_an_unknown_restore_and_opens_its_server(
    emulator: Emulator, bench_on: OpenBench, verdict: SettledAs
) -> None:
    async with bench_on(emulator, restores_per_hour=9) as bench:
        await a_restore(bench, (on_post(LOST),))
        (operation,) = bench.operations()
        assert (await bench.agent.call("delete_backup", backup_id=TARGET)).code == "policy_denied"
        async with _by_word(bench) as settle:
            await settle(operation.id, verdict)
        told = await bench.agent.call("get_operation", operation_id=operation.id)
        assert (told.status, told.data["changed"]) == (verdict, "done" if verdict == "succeeded" else "nothing")
        assert told.data["facts"]["evidence"] == "settled by the operator"
        assert told.approved_by == "plan"
        assert (await bench.agent.call("delete_backup", backup_id=TARGET)).status == "needs_confirmation"


@on_file
@pytest.mark.parametrize("which", ["none", "known", "create", "at work"])
async def test_the_operators_word_counts_only_where_nothing_else_tells(bench: Bench, which: str) -> None:
    if which == "known":
        await a_delete(bench, ())
    else:
        await a_create(bench, (on_post(Fault.status(500)),))
    (operation,) = recorded(bench.state_dir)
    liveness = FileLiveness(bench.state_dir)
    async with _by_word(bench) as settle:
        if which == "at work":
            async with liveness.at_work(operation.id) as owner:
                ledger = SqliteLedger(bench.state_dir, Operation, lambda: NOW)
                await ledger.write(lambda entries: entries.save(operation.updated(status="sending", owner=owner)))
                ledger.close()
                with pytest.raises(Exception, match="busy: A process is still at work"):
                    await settle(operation.id, "failed")
            liveness.leave()
            return
        expected = {"none": "confirmation_invalid", "known": "invalid_argument", "create": "invalid_argument"}[which]
        with pytest.raises(Exception, match=expected):
            await settle("op_none" if which == "none" else operation.id, "succeeded")
    assert recorded(bench.state_dir) == [operation]


async def test_deletes_on_two_servers_do_not_stand_in_each_others_way(bench: Bench) -> None:
    there = next(backup.id for backup in bench.emulator.fleet.backups_of(DB) if "[keep]" not in backup.description)
    plans = [await bench.plan("delete_backup", backup_id=backup_id) for backup_id in (TARGET, there)]
    answers: list[Answer] = []

    async def delete(confirmation: dict[str, Any]) -> None:
        answers.append(await bench.agent.call("delete_backup", **confirmation))

    async with anyio.create_task_group() as calls:
        for confirmation in plans:
            calls.start_soon(delete, confirmation)
    assert {answer.status for answer in answers} == {"succeeded"}
    assert times_applied(bench.emulator, "DELETE") == 2


async def test_a_prune_whose_deletes_are_still_listed_is_accepted_until_they_are_gone(bench: Bench) -> None:
    confirmation = await bench.plan("prune_backups", server_id=WEB, keep_last=1)
    bench.spoil(on_delete(Fault.status(202, {"detail": "Later."}), None))
    accepted = await bench.agent.call("prune_backups", **confirmation)
    looked = await bench.agent.call("get_operation", operation_id=confirmation["operation_id"])
    assert [accepted.status, looked.status, looked.data["changed"]] == ["accepted", "accepted", "started"]
    for request in list(bench.emulator.requests):
        if request.method == "DELETE":
            bench.emulator.fleet.delete_backup(int(request.path.split("/")[2]))
    bench.clock.advance(hours=24)
    bench.emulator.fail(Fault.status(403), method="GET", path="^/backups/$")
    unseen = await bench.agent.call("get_operation", operation_id=confirmation["operation_id"])
    assert (unseen.status, "The 24 h in which" in unseen.data["next_step"]) == ("accepted", True)
    gone = await bench.agent.call("get_operation", operation_id=confirmation["operation_id"])
    assert gone.status == "succeeded"
