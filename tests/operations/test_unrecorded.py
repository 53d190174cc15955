"""What a process knows and could not record: kept, told instead of the ledger, and recorded once that can be done."""

import errno
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import anyio
import pytest

from mcp_backups.errors import BusyError, LedgerUnavailableError, UnconfirmedError
from mcp_backups.ledger import Ledger
from mcp_backups.ledger.key import End, Remembered
from mcp_backups.operations import Context, Entries, carry_out
from mcp_backups.operations.context import Unrecorded
from mcp_backups.operations.operation import Operation
from tests.stage import PATIENCE, on_both_stores, until

from .made import as_recorded, begun

pytestmark = pytest.mark.anyio


class Ledgers:
    """The ledger, with something in the way of each write."""

    def __init__(self, ledger: Ledger[Operation], before: Callable[[int], None]) -> None:
        self._ledger, self._before, self.writes = ledger, before, 0

    async def write(self, work: Callable[[Entries], Any]) -> Any:
        self.writes += 1
        self._before(self.writes)
        return await self._ledger.write(work)


def sending(**fields: Any) -> Operation:
    return begun(status="sending", owner="this process", **fields)


async def recorded(known: Unrecorded, ledger: Ledgers, enough: Callable[[], bool]) -> None:
    """Record what is known, until there is enough of it."""
    async with anyio.create_task_group() as group:
        group.start_soon(known.record_all, cast("Ledger[Operation]", ledger))
        with anyio.fail_after(PATIENCE):
            await until(enough)
        group.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_backups.operations.context._AGAIN_SECONDS", 0.01)


async def test_an_outcome_is_recorded_as_soon_as_the_ledger_is_back(context: Context) -> None:
    known, intended = Unrecorded(), await context.record(sending())
    done = intended.updated(status="succeeded")

    def busy(writes: int) -> None:
        if writes < 3:
            raise BusyError("Another process holds the ledger.")

    ledger = Ledgers(context.ledger, busy)
    known.keep(done)
    assert known.better(intended) == done
    await recorded(known, ledger, lambda: ledger.writes == 3 and known.better(intended) == intended)
    assert await as_recorded(context, intended) == done


async def test_what_comes_to_be_known_while_it_is_recorded_is_recorded_too(context: Context) -> None:
    known, first, second = Unrecorded(), await context.record(sending()), await context.record(sending())

    def more(writes: int) -> None:
        if writes == 1:
            known.keep(second.updated(status="failed"))

    ledger = Ledgers(context.ledger, more)
    known.keep(first.updated(status="succeeded"))
    await recorded(
        known, ledger, lambda: ledger.writes == 2 and (known.better(first), known.better(second)) == (first, second)
    )
    statuses = [(await as_recorded(context, each)).status for each in (first, second)]
    assert statuses == ["succeeded", "failed"]


@pytest.mark.parametrize("is_there", [True, False])
async def test_what_was_settled_meanwhile_or_never_recorded_is_left_as_it_is(context: Context, is_there: bool) -> None:
    known, intended = Unrecorded(), sending()
    if is_there:
        await context.record(intended)
        await context.record(intended.updated(status="succeeded", evidence="absent from the complete list"))
    ledger = Ledgers(context.ledger, lambda _: None)
    known.keep(intended.updated(status="unknown"))
    await recorded(known, ledger, lambda: ledger.writes == 1 and known.better(intended) == intended)
    found = await context.ledger.read(lambda entries: entries.get(intended.id))
    assert (found.status if found else None) == ("succeeded" if is_there else None)


async def test_of_what_was_not_to_be_sent_nothing_is_kept(context: Context) -> None:
    """The ledger did not say whether it recorded, before it was sent, that it is not to be sent any more."""

    class Silent:
        async def write(self, work: Callable[[Entries], Any]) -> Any:
            await context.ledger.write(work)
            raise UnconfirmedError("The ledger's database did not say whether it was recorded.")

    known = Unrecorded()
    silent = replace(context, ledger=cast("Ledger[Operation]", Silent()), unrecorded=known)
    ended = sending()
    with pytest.raises(UnconfirmedError):
        await carry_out(silent, ended.id, lambda _entries, _owner: None)
    assert known.better(ended) == ended
    with pytest.raises(UnconfirmedError):
        await carry_out(silent, ended.id, lambda entries, _owner: entries.save(ended))
    assert known.better(ended).status == "failed"


def _intend(intended: Operation, entries: Entries, owner: str) -> Operation:
    return entries.save(intended.updated(owner=owner))


@on_both_stores
async def test_where_the_ledgers_end_cannot_be_remembered_nothing_is_sent_and_that_is_known(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it stands beside a key on another disk, which is read-only by now."""
    first, second = await context.record(begun()), await context.record(begun())

    def refuse(_memory: Remembered, _end: End) -> None:
        raise OSError(errno.EROFS, "read-only")

    with monkeypatch.context() as away:
        away.setattr(Remembered, "note", refuse)
        for each in (first, second):
            with pytest.raises(LedgerUnavailableError) as told:
                await carry_out(
                    context, each.id, partial(_intend, each.updated(status="sending", sent=context.moment()))
                )
            assert told.value.changed == "nothing"
    recorded = [await as_recorded(context, each) for each in (first, second)]
    assert {context.unrecorded.better(each).status for each in recorded} <= {"failed", "approved"}
    await context.record(begun())
    assert await context.ledger.read(lambda entries: entries.verify()) == ""
