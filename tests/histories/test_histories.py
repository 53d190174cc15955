"""Some of the histories that `python -m tests.histories` runs by the thousand, and some of the kills."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from mcp_backups.actions import delete
from mcp_backups.api import classify
from mcp_backups.errors import Failure
from mcp_backups.operations import authorization, execution, limits, policy
from mcp_backups.sandbox import Emulator, serve_in_thread
from tests.histories.faults import OF_DELETES, OF_WRITES, Trouble
from tests.histories.kills import kill_one
from tests.histories.machine import Histories, Wish, run
from tests.histories.world import World
from tests.stage import RealTime

pytestmark = pytest.mark.unmeasured

PARTS, HISTORIES, KILLS = 4, 25, 15
BACKUP = Wish("create_backup", options={"server_id": 1})


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_lost_doubled_or_claimed_that_is_not_so(part: int) -> None:
    verdicts, failure = run(HISTORIES, f"part {part}")
    assert not failure, failure
    assert len(verdicts) >= HISTORIES
    assert sum(verdict.writes for verdict in verdicts) > HISTORIES


@pytest.fixture(scope="module")
def passing() -> RealTime:
    return RealTime()


@pytest.fixture(scope="module")
def account(passing: RealTime) -> Iterator[Emulator]:
    with serve_in_thread(Emulator(now=passing.now, backup_seconds=3600)) as served:
        yield served


@pytest.mark.anyio
@pytest.mark.parametrize("number", range(KILLS))
async def test_a_process_killed_anywhere_loses_and_doubles_nothing(
    account: Emulator, passing: RealTime, tmp_path: Path, number: int
) -> None:
    verdict = await kill_one(Random(number), tmp_path / "state", account, passing)
    assert verdict.wrong == [], "\n".join(verdict.steps)


@pytest.fixture
def history() -> Iterator[Histories]:
    """A history whose steps a test takes itself."""
    machine = Histories()
    machine.begin(approval="plan", deletes_per_hour=100)
    yield machine
    machine.opened.close()


def ends_with(history: Histories, word: str) -> None:
    with pytest.raises(AssertionError, match=rf"(?m)^{word}: "):
        history.teardown()


def mistake_ambiguous_failures(
    monkeypatch: pytest.MonkeyPatch, mistaken: Callable[[classify._Row], classify._Row]
) -> None:
    for cause, row in classify.EXCEPTIONS.items():
        if row.failure is Failure.AMBIGUOUS:
            monkeypatch.setitem(classify.EXCEPTIONS, cause, mistaken(row))


def test_a_server_that_sends_an_ambiguous_create_again_is_found_out(
    monkeypatch: pytest.MonkeyPatch, history: Histories
) -> None:
    mistake_ambiguous_failures(monkeypatch, lambda row: row._replace(again=classify._Again.ALWAYS))
    history.create(BACKUP, Trouble("answer lost", "POST"))
    ends_with(history, "DOUBLED")


def test_a_server_that_takes_an_ambiguous_create_for_refused_is_found_out(
    monkeypatch: pytest.MonkeyPatch, history: Histories
) -> None:
    mistake_ambiguous_failures(monkeypatch, lambda row: row._replace(failure=Failure.REFUSED))
    history.create(BACKUP, Trouble("answer lost", "POST"))
    ends_with(history, "FALSE")  # in the end it is seen to have been made; what was said before was wrong


def test_a_server_that_deletes_the_last_backup_is_found_out(
    monkeypatch: pytest.MonkeyPatch, history: Histories
) -> None:
    monkeypatch.setattr(delete, "check_delete", lambda *_: None)
    server_id = history.world.fleet.backups[2].server_id
    while left := [backup.id for backup in history.world.fleet.backups_of(server_id)]:
        history.delete(Wish("delete_backup", sorted(history.world.fleet.backups).index(left[0])))
    ends_with(history, "LAST")


CHECK, LIST = Wish("check_backups", options={"max_age_hours": 200}), Wish("list_backups")


def of_backup(backup_id: int) -> Wish:
    return Wish("delete_backup", options={"backup_id": backup_id})


@pytest.mark.parametrize(
    ("wishes", "word"),
    [
        ((of_backup(5),), "LAST"),
        ((of_backup(5),), "FALSE"),
        ((CHECK,), "FALSE"),
        ((LIST,), "FALSE"),
    ],
    ids=["it is the last", "so many are said to be left", "it is recommended", "it is listed like any other"],
)
@pytest.mark.parametrize("answer", ["503, a day late", "yes, hours late"])
def test_a_server_that_counts_on_what_may_still_be_deleted_is_found_out(
    answer: str, wishes: tuple[Wish, ...], word: str, monkeypatch: pytest.MonkeyPatch, history: Histories
) -> None:
    monkeypatch.setattr(policy, "_doubt", lambda *_: None)
    history.delete(of_backup(2), trouble=Trouble(answer, "DELETE", 3))
    history.time_passes(1801)
    for wish in wishes:
        history.plan(wish, confirmed=True, trouble=None)
    ends_with(history, word)


@pytest.mark.parametrize("answer", ["503, a day late", "202, late", "202, never", "web page"])
def test_a_server_that_never_learns_what_became_of_a_delete_is_found_out(
    answer: str, monkeypatch: pytest.MonkeyPatch, history: Histories
) -> None:
    monkeypatch.setattr(delete, "judge", lambda operation, *_: operation)
    history.delete(of_backup(2), trouble=Trouble(answer, "DELETE", 3))
    ends_with(history, "LOST")


@pytest.mark.parametrize("name", OF_WRITES | OF_DELETES)
def test_what_is_unsure_for_hours_is_told_as_it_is(name: str, history: Histories) -> None:
    history.behave({"lag_seconds": 20.0})
    history.clear(3, Trouble(name, "DELETE", 3), 1801)
    history.look_around(CHECK, None)
    history.teardown()
    assert history.verdict.writes > 0


@pytest.fixture
def waiting() -> Iterator[Histories]:
    """A history in which an approver decides."""
    machine = Histories()
    machine.begin(approval="operator", deletes_per_hour=100, restores_per_hour=5)
    yield machine
    machine.opened.close()


def test_a_server_that_sends_what_nobody_approved_is_found_out(
    monkeypatch: pytest.MonkeyPatch, waiting: Histories
) -> None:
    by_flag = lambda *_, confirm, **__: "plan" if confirm else ""  # noqa: E731
    monkeypatch.setattr(authorization, "consent", by_flag)
    waiting.ask(of_backup(2))
    waiting.go_on(Wish("confirm", 0), None)
    ends_with(waiting, "UNAPPROVED")


async def forget(world: World, _nth: int, _approve: bool) -> None:
    """A no that the ledger never got."""
    world.decisions = dict.fromkeys(world.decisions, False)


def test_a_server_that_sends_what_was_declined_is_found_out(
    monkeypatch: pytest.MonkeyPatch, waiting: Histories
) -> None:
    waiting.ask(of_backup(2))
    waiting.go_on(Wish("confirm", 0), None)
    waiting.decide(0, approve=True, goes_on=False)
    monkeypatch.setattr(World, "_decide", forget)
    waiting.decide(0, approve=False, goes_on=True)
    ends_with(waiting, "UNAPPROVED")


def test_a_server_that_sends_while_all_is_frozen_is_found_out(
    monkeypatch: pytest.MonkeyPatch, history: Histories
) -> None:
    for module in (execution, limits):
        monkeypatch.setattr(module, "check_not_frozen", lambda _: None)
    history.freeze(freeze=True)
    history.delete(of_backup(2))
    ends_with(history, "FROZEN")


def test_what_is_approved_is_sent_once_and_what_is_declined_never(waiting: Histories) -> None:
    waiting.delete(of_backup(2))
    waiting.delete(of_backup(4), confirmed=False)
    waiting.go_on(Wish("confirm", 3), None)
    waiting.decide(0, approve=False, goes_on=True)
    waiting.teardown()
    assert (waiting.verdict.writes, waiting.world.fleet.gone) == (1, [2])


def test_a_backup_that_no_operation_tells_of_is_found_out(history: Histories) -> None:
    fleet, now = history.world.fleet, history.world.clock.now()
    fleet.start_backup(1, "without an intent", now, 8.0)
    ends_with(history, "DOUBLED")


def test_a_restore_and_a_delete_that_no_operation_tells_of_are_found_out(history: Histories) -> None:
    history.world.fleet.delete_backup(2, history.world.clock.now())
    ends_with(history, "LOST")
