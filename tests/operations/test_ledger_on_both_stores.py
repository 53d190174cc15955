"""What a ledger keeps, wherever that is."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from mcp_backups.clock import system_clock
from mcp_backups.errors import BusyError
from mcp_backups.ledger import Ledger, Transaction, ledger_for
from mcp_backups.operations.operation import Operation, new_id
from tests.stage import NOW, MakeSettings, let_go_at_the_end, on_both_stores

from .made import MOMENT, begun, operation, saving

pytestmark = [pytest.mark.anyio, on_both_stores]

OpenLedger = Callable[[], Ledger[Operation]]


class Wall:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def open_ledger(make_settings: MakeSettings, wall: Wall, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenLedger]:
    """Each is one that a process of its own would have."""
    clock = replace(system_clock(), wall=wall)
    monkeypatch.setattr("mcp_backups.ledger.postgres.PostgresLedger._wall", lambda _: wall())
    with let_go_at_the_end(lambda: ledger_for(make_settings(), Operation, clock)) as open_one:
        yield open_one


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger[Operation]:
    return open_ledger()


async def found(ledger: Ledger[Operation], **terms: Any) -> list[str]:
    return [each.id for each in await ledger.read(lambda entries: entries.find(**terms))]


async def test_what_was_saved_is_read_back_the_same_by_another_process(
    ledger: Ledger[Operation], open_ledger: OpenLedger
) -> None:
    saved = begun(facts={"good_backups_left": 17, "can_be_undone": False, "lost": "x"}, baseline=(1, 2))
    await ledger.write(saving(saved))
    other = open_ledger()
    assert await other.read(lambda entries: entries.get(saved.id)) == saved
    assert await ledger.read(lambda entries: entries.get("op_unknown")) is None


async def test_every_step_is_kept_and_chained(ledger: Ledger[Operation]) -> None:
    first = begun()
    steps = [first, first.updated(status="preparing"), first.updated(status="sending", sent=MOMENT), begun()]
    await ledger.write(saving(*steps))
    key, events = await ledger.read(lambda entries: (entries._sealing_key, list(entries.events())))
    assert [(event.seq, event.status) for event in events] == [
        (1, "approved"),
        (2, "preparing"),
        (3, "sending"),
        (4, "approved"),
    ]
    assert [event.mac for event in events] == [
        event.expected_mac(key, before)
        for event, before in zip(events, ["0" * 64, *(e.mac for e in events)], strict=False)
    ]
    assert {event.hash for event in events} == {""}
    assert len(await ledger.read(lambda entries: list(entries.events(first.id)))) == 3
    assert await ledger.read(lambda entries: entries.verify()) == ""


async def test_a_transaction_that_fails_leaves_nothing(ledger: Ledger[Operation]) -> None:
    def fail(entries: Transaction[Operation]) -> None:
        entries.save(begun())
        raise BusyError("Stop.")

    with pytest.raises(BusyError, match=r"Stop\."):
        await ledger.write(fail)
    assert await ledger.read(lambda entries: entries.find()) == []
    assert await ledger.read(lambda entries: list(entries.events())) == []


async def test_operations_are_found_by_what_is_asked_newest_first(ledger: Ledger[Operation]) -> None:
    plan, sent = begun(), begun(status="sending", sent=MOMENT)
    other, made = begun(server_id=12346), begun("create_backup", "accepted", sent=MOMENT)
    await ledger.write(saving(plan, sent, other, made, plan.updated(status="sending", sent=MOMENT)))

    async def find(**terms: object) -> list[str]:
        found = await ledger.read(lambda entries: entries.find(**terms))  # type: ignore[arg-type]
        return [each.id for each in found]

    assert await find() == [made.id, other.id, sent.id, plan.id]
    assert await find(limit=2) == [made.id, other.id]
    assert await find(limit=1, before=made.id) == [other.id]
    assert await find(before=new_id()) == []
    assert await find(action="create_backup") == [made.id]
    assert await find(server_id=12346) == [other.id]
    assert await find(statuses={"sending"}) == [sent.id, plan.id]
    assert await find(limit=1, wanted=lambda each: each.server_id == 12345) == [made.id]
    assert await find(wanted=lambda each: each.sent is None) == [other.id]
    deletes = await ledger.read(lambda entries: list(entries.sent("delete_backup")))
    assert [each.id for each in deletes] == [plan.id, sent.id], "by when they were sent"
    assert await find(action="delete_backup", server_id=12345, statuses={"planned", "unknown"}) == []


async def test_a_write_that_fails_after_another_process_wrote_costs_the_next_one_nothing(
    ledger: Ledger[Operation], open_ledger: OpenLedger
) -> None:
    def refuse(_: Transaction[Operation]) -> None:
        raise BusyError("Not now.")

    other, saved = open_ledger(), [begun() for _ in range(3)]
    await ledger.write(saving(saved[0]))
    await other.write(saving(saved[1]))
    for use in (ledger.write, ledger.read):
        with pytest.raises(BusyError, match=r"Not now\."):
            await use(refuse)
    await ledger.write(saving(saved[2]))
    assert len(await other.read(lambda entries: list(entries.events()))) == 3
    assert await other.read(lambda entries: entries.verify()) == ""


# It stays small


async def test_a_later_event_holds_only_what_is_different_then(
    ledger: Ledger[Operation], open_ledger: OpenLedger
) -> None:
    first = begun("create_backup", "sending", baseline=tuple(range(1000)), error_code="busy", error="Busy.")
    then = first.without_error(status="accepted", backup_id=502)
    await ledger.write(saving(first, then))
    last = then.updated(status="succeeded", evidence="seen")
    await ledger.write(saving(last))
    events = await ledger.read(lambda entries: list(entries.events(first.id)))
    documents = [json.loads(event.document) for event in events]
    assert "details" in documents[0]
    assert documents[1:] == [
        {"whole": 1, "status": "accepted", "backup_id": 502, "error_code": None, "error": None},
        {"whole": 1, "status": "succeeded", "backup_id": 502, "evidence": "seen", "error_code": None, "error": None},
    ]
    assert await open_ledger().read(lambda entries: entries.get(first.id)) == last


async def test_a_plan_is_no_event_until_somebody_consents(ledger: Ledger[Operation]) -> None:
    plan, other = operation(), begun()
    await ledger.write_plan(saving(plan))
    await ledger.write(saving(other))
    assert await ledger.read(lambda entries: (entries.get(plan.id), entries.last_event())) == (plan, 1)
    assert await found(ledger) == [other.id, plan.id]
    consented = plan.updated(status="approved", approved_by="person")
    await ledger.write(saving(consented))
    events = await ledger.read(lambda entries: list(entries.events(plan.id)))
    assert [event.document for event in events] == [consented.model_dump_json(exclude_defaults=True)]
    assert await found(ledger) == [other.id, plan.id]
    assert await found(ledger, statuses={"planned"}) == []


@pytest.mark.parametrize("status", ["declined", "expired", "refused"])
async def test_what_becomes_of_a_plan_without_consent_is_no_event_either(
    ledger: Ledger[Operation], status: str
) -> None:
    plan = operation()
    ended = plan.updated(status=status)
    await ledger.write_plan(saving(plan, ended))
    assert await ledger.read(lambda entries: entries.find(statuses={status})) == [ended]
    assert await ledger.read(lambda entries: list(entries.events())) == []


@pytest.mark.parametrize("ended", [{"sent": MOMENT, "status": "unknown"}, {"approved_by": "flag"}])
async def test_what_was_sent_or_consented_to_is_never_kept_as_a_plan(
    ledger: Ledger[Operation], ended: dict[str, Any]
) -> None:
    saved = operation(**ended)
    with pytest.raises(TypeError, match="more was recorded than a plan"):
        await ledger.write_plan(saving(operation(), saved))
    assert await found(ledger) == []
    await ledger.write(saving(saved))
    assert await ledger.read(lambda entries: entries.last_event()) == 1


async def test_a_plan_is_dropped_after_30_days(ledger: Ledger[Operation], wall: Wall) -> None:
    old, kept, new = operation(), begun(), operation()
    await ledger.write_plan(saving(old))
    await ledger.write(saving(kept))
    wall.now += timedelta(days=30)
    await ledger.write_plan(saving(new))
    assert await found(ledger) == [new.id, kept.id, old.id]
    wall.now += timedelta(seconds=1)
    await ledger.write_plan(saving(operation()))
    assert (await found(ledger))[1:] == [new.id, kept.id]


async def test_plans_that_are_asked_for_again_and_again_do_not_grow_it_without_end(
    ledger: Ledger[Operation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_backups.ledger.transaction._MOST_PLANS", 20)
    plans = [operation() for _ in range(100)]
    await ledger.write_plan(saving(*plans))
    assert await found(ledger, limit=1000) == [plan.id for plan in reversed(plans[80:])]


async def test_of_a_later_event_the_whole_one_before_is_found(ledger: Ledger[Operation]) -> None:
    one = begun()
    await ledger.write(lambda entries: [entries.save(each) for each in (one, one.updated(evidence="seen"))])

    def check(entries: Transaction[Operation]) -> None:
        first, second = entries.events()
        assert entries.whole_before(second) == first
        assert entries.whole_before(first) is None
        for odd in ("", "[]", '{"whole":"1"}', '{"whole":9}', '{"whole":-1}'):
            assert entries.whole_before(second._replace(document=odd)) is None

    await ledger.read(check)
