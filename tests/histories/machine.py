"""What may happen to an account, its server and their agent, in any order; the checker says what came of it."""

import tempfile
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mcp_backups.settings import Settings
from tests.histories.checker import Verdict, judge
from tests.histories.faults import BEHAVIOURS, FAULTS, OF_DELETES, OF_WRITES, PLACES, SLOW, Trouble
from tests.histories.store import ledger_for_history
from tests.histories.truth import KINDS, SERVERS, TOKENS
from tests.histories.world import Call, World, open_world, shared_memory

PASSING = (1, 5, 61, 130, 180, 660, 1801, 7_300, 30_000, 90_000)
"""Seconds that may pass: around every limit that the product knows."""
STEPS = 18


@dataclass(frozen=True)
class Wish:
    """What an agent may ask for.

    Attributes:
        what: A tool; or `confirm`, as a plan asked for; or `again`, what was asked for before.
        nth: Which of the backups, plans or calls there are, counted round and round.
        options: Further arguments of the tool.
    """

    what: str
    nth: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def calls(self, world: World) -> list[Call]:
        """The call, in a world as it is now; none if there is nothing yet to confirm or to ask for again."""
        if self.what in ("confirm", "again"):
            earlier = world.plans if self.what == "confirm" else world.calls
            return [earlier[self.nth % len(earlier)]] if earlier else []
        if self.what not in ("delete_backup", "restore_server"):
            return [(self.what, self.options)]
        backups = [*sorted(world.fleet.backups), NOWHERE]
        backup_id = backups[self.nth % len(backups)]
        of = {"backup_id": backup_id}
        if self.what == "restore_server":
            of["server_id"] = world.fleet.backups[backup_id].server_id if backup_id != NOWHERE else SERVERS[0]
        return [(self.what, of | self.options)]


NOWHERE = 999
"""A backup that is not there."""
NTHS = range(12)
FLAGGED: tuple[dict[str, Any], ...] = ({}, {"confirm": True})
KEEP_RULES = (
    {"keep_last": 1},
    {"keep_last": 2},
    {"older_than_days": 1},
    {"keep_daily": 1},
    {"keep_last": 1000, "keep_monthly": 1000},
)
DESCRIPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"description": "nightly"},
    {"description": "before the update", "wait_seconds": 45},
    {"allow_duplicate": True},
)

CREATES = [Wish("create_backup", 0, {"server_id": each} | more) for each in SERVERS for more in DESCRIPTIONS]
DELETES = [Wish("delete_backup", nth, flagged) for nth in NTHS for flagged in FLAGGED]
RESTORES = [
    Wish("restore_server", nth, {"safety_backup": safety} | flagged)
    for nth in NTHS
    for safety in (False, True)
    for flagged in FLAGGED
]
PRUNES = [Wish("prune_backups", 0, {"server_id": each} | keep) for each in SERVERS for keep in KEEP_RULES]
CONFIRMS, REPEATS = ([Wish(what, nth) for nth in NTHS] for what in ("confirm", "again"))
WISHES = [*CREATES * 4, *DELETES * 2, *RESTORES, *CONFIRMS * 4, *REPEATS * 4, *PRUNES * 4]
LOOKS = [
    *(Wish("check_backups", 0, more) for more in ({}, {"max_age_hours": 200}, {"server_id": 2, "max_age_hours": 200})),
    *(
        Wish("list_backups", 0, more)
        for more in ({}, {"server_id": 1}, {"server_id": 2}, {"server_name": "host-00003"})
    ),
]
"""Tables, drawn from at one go: thousands of histories are to take minutes."""

_TROUBLES = [
    Trouble(name, method, 1 if name in SLOW else times, skip)
    for name, method in PLACES
    for times in (1, 1, 2, 3, None)
    for skip in (0, 1)
]
TROUBLES = st.sampled_from([*[None] * len(_TROUBLES), *_TROUBLES])
"""Something goes wrong half of the times."""
UNSURE = st.sampled_from(
    [each for each in _TROUBLES if each.method == "DELETE" and each.name in OF_WRITES | OF_DELETES]
)
"""A delete that is answered with neither a plain yes nor a plain no, or takes effect later."""

NTH, SERVER = st.sampled_from(NTHS), st.sampled_from(SERVERS)
CONFIRMED = st.sampled_from([True, True, False])


class Histories(RuleBasedStateMachine):
    """An agent's calls, faults of every kind, restarts, clocks and other people, against a real server.

    Attributes:
        verdicts: What came of each history that has ended.
    """

    verdicts: ClassVar[list[Verdict]] = []

    def __init__(self) -> None:
        super().__init__()
        self.opened = ExitStack()
        self.verdict = Verdict()

    @initialize(
        approval=st.sampled_from(["plan", "plan", "flag", "operator", "operator"]),
        restores_per_hour=st.sampled_from([5, 1]),
        deletes_per_hour=st.sampled_from([100, 2]),
        mark_backups=st.sampled_from([True, True, True, True, False]),
        kind=st.sampled_from(KINDS),
    )
    def begin(self, kind: str = "plain", **choices: Any) -> None:
        folder = self.opened.enter_context(tempfile.TemporaryDirectory(dir=shared_memory()))
        state_dir = Path(folder) / "state"
        elsewhere = self.opened.enter_context(ledger_for_history(state_dir))
        account = Settings(state_dir=state_dir, protected_backups=frozenset({1}), **elsewhere, **choices)
        self.world = self.opened.enter_context(open_world(account, kind))
        self.world.steps.append(f"{kind} {choices}")
        self.opened.callback(self.check)

    def ask(self, *wishes: Wish) -> None:
        calls = [call for wish in wishes for call in wish.calls(self.world)]
        self.world.calls += calls
        self.world.ask(*calls)

    @rule(wish=st.sampled_from(CREATES), trouble=TROUBLES)
    def create(self, wish: Wish, trouble: Trouble | None = None) -> None:
        self.fault(trouble)
        self.ask(wish)

    @rule(wish=st.sampled_from(DELETES), confirmed=CONFIRMED, trouble=TROUBLES)
    def delete(self, wish: Wish, *, confirmed: bool = True, trouble: Trouble | None = None) -> None:
        self.plan(wish, confirmed, trouble)

    @rule(wish=st.sampled_from(RESTORES), confirmed=CONFIRMED, trouble=TROUBLES)
    def restore(self, wish: Wish, *, confirmed: bool, trouble: Trouble | None) -> None:
        self.plan(wish, confirmed, trouble)

    @rule(wish=st.sampled_from(PRUNES), confirmed=CONFIRMED, trouble=TROUBLES)
    def prune(self, wish: Wish, *, confirmed: bool, trouble: Trouble | None) -> None:
        self.plan(wish, confirmed, trouble)

    def plan(self, wish: Wish, confirmed: bool, trouble: Trouble | None) -> None:
        """Ask for a plan, and confirm it at once or perhaps later; what goes wrong does so when it is confirmed."""
        plans = len(self.world.plans)
        self.ask(wish)
        self.fault(trouble)
        if confirmed and len(self.world.plans) > plans:
            self.ask(Wish("confirm", plans))
            if self.world.settings.approval == "operator":
                self.world.decide(-1, approve=True)
                self.ask(Wish("confirm", plans))

    @precondition(lambda self: self.world.settings.approval == "operator")
    @rule(nth=NTH, approve=st.booleans(), goes_on=st.booleans())
    def decide(self, nth: int, *, approve: bool, goes_on: bool) -> None:
        """An approver says yes, or no, or takes a yes back; and perhaps the agent goes on at once."""
        self.world.decide(nth, approve=approve)
        if goes_on:
            self.ask(Wish("confirm", nth))

    @rule(freeze=st.sampled_from([True, False, False]))
    def freeze(self, *, freeze: bool) -> None:
        if freeze or self.world.frozen:
            self.world.freeze(freeze=freeze)

    @rule(server_id=SERVER, trouble=UNSURE, seconds=st.sampled_from([0, 0, 1801, 30_000]))
    def clear(self, server_id: int, trouble: Trouble, seconds: int) -> None:
        """Ask for the end of everything that a server has, while no delete is sure."""
        numbers = [backup.id for backup in self.world.fleet.backups_of(server_id)]
        for number in sorted(numbers):
            self.plan(Wish("delete_backup", options={"backup_id": number}), True, trouble)
            self.time_passes(seconds)

    @rule(wish=st.sampled_from([*CONFIRMS, *REPEATS]), trouble=TROUBLES)
    def go_on(self, wish: Wish, trouble: Trouble | None) -> None:
        self.fault(trouble)
        self.ask(wish)

    @rule(wish=st.sampled_from(WISHES), other=st.sampled_from(WISHES))
    def ask_at_once(self, wish: Wish, other: Wish) -> None:
        self.ask(wish, other)

    @rule(wish=st.sampled_from(WISHES))
    def ask_the_same_at_once(self, wish: Wish) -> None:
        self.ask(wish, wish)

    @rule(wish=st.sampled_from(WISHES), method=st.sampled_from(["POST", "DELETE", "GET"]), skip=st.integers(0, 1))
    def give_up(self, wish: Wish, method: str, skip: int) -> None:
        for call in wish.calls(self.world):
            self.world.calls.append(call)
            self.world.emulator.fail(FAULTS["held"], method=method, skip=skip)
            self.world.ask_and_cancel(call)

    @rule(nth=NTH, wait_seconds=st.sampled_from([0, 0, 45]))
    def look(self, nth: int, wait_seconds: int) -> None:
        if ids := self.world.operations:
            self.world.ask(("get_operation", {"operation_id": ids[nth % len(ids)], "wait_seconds": wait_seconds}))

    @rule(wish=st.sampled_from(LOOKS), trouble=TROUBLES)
    def look_around(self, wish: Wish, trouble: Trouble | None) -> None:
        self.fault(trouble)
        self.world.ask(*wish.calls(self.world))

    @rule(values=st.sampled_from(BEHAVIOURS))
    def behave(self, values: dict[str, Any]) -> None:
        self.world.behave(**values)

    @rule(machine=st.booleans(), token=st.sampled_from(["", "", "", *TOKENS]))
    def restart(self, *, machine: bool, token: str) -> None:
        self.world.restart(machine=machine, token=token)

    @rule(seconds=st.sampled_from(PASSING))
    def time_passes(self, seconds: int) -> None:
        if seconds:
            self.world.clock.advance(seconds=seconds)
            self.world.steps.append(f"{seconds} s pass")

    @rule(seconds=st.sampled_from([600, -600, 90_000, -90_000]))
    def clock_steps(self, seconds: int) -> None:
        self.world.clock.step(seconds=seconds)
        self.world.steps.append(f"the clock is wrong by {self.world.clock.wrong}")

    @rule(what=st.sampled_from(["make", "make", "delete", "rename", "archive"]), server_id=SERVER, nth=NTH)
    def somebody_else(self, what: str, server_id: int, nth: int) -> None:
        fleet, numbers, now = self.world.fleet, sorted(self.world.fleet.backups), self.world.clock.now()
        with self.world.emulator.lock, fleet.others():
            backup = fleet.backups[numbers[nth % len(numbers)]] if numbers else None
            self.world.steps.append(f"somebody else: {what} {backup.id if backup else ''}")
            if what == "make":
                fleet.start_backup(server_id, "by hand", now, 8.0)
            elif backup and what == "delete":
                fleet.delete_backup(backup.id, now)
            elif backup and what == "archive" and backup.id not in dict(fleet.made):
                backup.status, backup.ready_at = "archived", None
                fleet.robbed.add(backup.server_id)
            elif backup:
                backup.description = "renamed"

    @rule(trouble=TROUBLES)
    def fault(self, trouble: Trouble | None) -> None:
        if trouble:
            self.world.fail(trouble)

    @rule()
    def no_faults(self) -> None:
        self.world.emulator.clear_faults()
        self.world.steps.append("no faults")

    def check(self) -> None:
        """Come to the end at which all that can be known is known, and judge."""
        self.world.end()
        self.verdict = judge(self.world)
        self.verdicts.append(self.verdict)

    def teardown(self) -> None:
        self.opened.close()
        assert not self.verdict.wrong, "\n".join(["", *self.verdict.wrong, *self.verdict.steps])


def run(count: int, seed: str) -> tuple[list[Verdict], str]:
    """Let histories happen, the same ones for the same seed.

    Returns:
        What came of each, and, if any was wrong, the shortest that was found to be so.
    """
    ended: list[Verdict] = []
    machine = hypothesis.seed(seed)(type("Histories", (Histories,), {"verdicts": ended}))
    rules = settings(
        max_examples=count,
        stateful_step_count=STEPS,
        phases=(Phase.generate, Phase.shrink),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(machine, settings=rules)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is to be shown
        return ended, "".join(traceback.format_exception_only(error))
    return ended, ""
