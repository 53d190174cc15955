"""What the tests of the fault matrix share: what is asked, what goes wrong, and what must come of it.

Every row is a test whose id carries the row's: `test_…[F07-…]`. `test_matrix.py` sees to it that none is missing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from mcp_backups.errors import CHANGED_SENTENCE
from mcp_backups.operations.operation import Operation
from mcp_backups.sandbox import Emulator, Fault
from tests.stage import Answer, ManualClock, Session, recorded

WEB, DB, MAIL, BARE, RUNNER = 12345, 12346, 12351, 12360, 12362
TARGET = 499
"""A manual backup of the web server, which has 17 good ones besides."""
SOURCE = 495
"""The backup that is restored: the web server has one of an hour ago at most only when a test makes it."""

LOST = Fault.reset_after()
NEVER_ARRIVED = Fault.reset_after(apply=False)
DOWN = Fault.status(503)


class Agent(Protocol):
    async def call(self, tool: str, /, **arguments: Any) -> Answer: ...


@dataclass
class Bench:
    """A server under test with its clock, its account and its client."""

    agent: Session
    emulator: Emulator
    clock: ManualClock
    state_dir: Path

    def requests(self) -> tuple[int, int, int]:
        """How many GETs, POSTs and DELETEs VPS.org got."""
        count = self.emulator.count
        return count("GET"), count("POST"), count("DELETE")

    def operations(self) -> list[Operation]:
        return recorded(self.state_dir)

    async def plan(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Have something planned; the arguments that confirm it, and wait for nothing."""
        answer = await self.agent.call(tool, **arguments)
        assert answer.status == "needs_confirmation", answer.text
        at_once = {"wait_seconds": 0} if tool == "restore_server" else {}
        return arguments | at_once | {"confirm": True, "operation_id": answer.operation}

    def spoil(self, *spoils: "Spoil") -> None:
        """From now on this goes wrong, and requests are counted anew."""
        with self.emulator.lock:
            self.emulator.requests.clear()
        for spoil in spoils:
            self.emulator.fail(spoil.fault, method=spoil.method, path=spoil.path, times=spoil.times, skip=spoil.skip)


@dataclass(frozen=True)
class Spoil:
    """A fault, and which requests it hits."""

    fault: Fault
    method: str = ""
    times: int | None = 1
    skip: int = 0
    path: str = ""


def on_get(fault: Fault, times: int | None = 1, skip: int = 0) -> Spoil:
    return Spoil(fault, "GET", times, skip)


def on_post(fault: Fault, times: int | None = 1, path: str = "") -> Spoil:
    return Spoil(fault, "POST", times, path=path)


def on_delete(fault: Fault, times: int | None = 1) -> Spoil:
    return Spoil(fault, "DELETE", times)


Act = Callable[[Bench, tuple[Spoil, ...]], Awaitable[Answer]]
"""Asks for something, with the faults in force from the moment on that matters."""


async def a_list(bench: Bench, spoils: tuple[Spoil, ...]) -> Answer:
    """A list; one that something happens to is not the session's first, which also asks which servers there are."""
    if spoils:
        assert not (await bench.agent.call("list_backups", limit=1)).is_error
    bench.spoil(*spoils)
    return await bench.agent.call("list_backups", limit=100)


async def a_create(bench: Bench, spoils: tuple[Spoil, ...]) -> Answer:
    bench.spoil(*spoils)
    return await bench.agent.call("create_backup", server_id=WEB, description="before the update")


async def a_delete_plan(bench: Bench, spoils: tuple[Spoil, ...]) -> Answer:
    bench.spoil(*spoils)
    return await bench.agent.call("delete_backup", backup_id=TARGET)


async def a_delete(bench: Bench, spoils: tuple[Spoil, ...]) -> Answer:
    """A confirmed delete; the plan was made before anything went wrong."""
    confirmation = await bench.plan("delete_backup", backup_id=TARGET)
    bench.spoil(*spoils)
    return await bench.agent.call("delete_backup", **confirmation)


async def a_restore_plan(bench: Bench, spoils: tuple[Spoil, ...]) -> Answer:
    bench.spoil(*spoils)
    return await bench.agent.call("restore_server", server_id=WEB, backup_id=SOURCE)


async def a_restore(bench: Bench, spoils: tuple[Spoil, ...]) -> Answer:
    """A confirmed restore of a server, without a safety backup."""
    confirmation = await bench.plan("restore_server", server_id=WEB, backup_id=SOURCE, safety_backup=False)
    bench.spoil(*spoils)
    return await bench.agent.call("restore_server", **confirmation)


@dataclass(frozen=True)
class Case:
    """One row of the matrix, or one way in which it happens.

    Attributes:
        row: Its id.
        code: The error's code; empty for an answer that is none.
        changed: What the answer says of the account: nothing, done or unknown; empty for a list.
        gets, posts, deletes: How many requests at least and at most, as (1, 3), or exactly.
        status: The operation's status in an answer.
        gist: Words that the answer must hold.
        applied: Whether VPS.org did it, once; None where that does not matter.
    """

    row: str
    what: str
    act: Act
    spoils: tuple[Spoil, ...]
    code: str = ""
    changed: str = ""
    gets: int | tuple[int, int] = (0, 6)
    posts: int | tuple[int, int] = 0
    deletes: int | tuple[int, int] = 0
    status: str = ""
    gist: tuple[str, ...] = ()
    applied: bool | None = None


def table(cases: list[Case]) -> pytest.MarkDecorator:
    """`@table(CASES)`: the test once for each, with the row's id in the test's."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=f"{case.row}-{case.what}") for case in cases])


def row(*ids: str) -> pytest.MarkDecorator:
    """`@row("F77")`: a test of its own for these rows; the ids stand in the test's."""
    return pytest.mark.parametrize("row", [pytest.param("+".join(ids), id="+".join(ids))])


def changed(answer: Answer) -> str:
    """What an answer says of the account; empty for a list."""
    if not answer.is_error:
        return str(answer.data.get("changed", ""))
    if "The server was not changed. Made: " in answer.text:  # a side product is named beside it
        return "nothing"
    (said,) = (word for word, sentence in CHANGED_SENTENCE.items() if sentence in answer.text)
    return said


def within(count: int, bounds: int | tuple[int, int]) -> bool:
    least, most = (bounds, bounds) if isinstance(bounds, int) else bounds
    return least <= count <= most


def times_applied(emulator: Emulator, method: str) -> int:
    """How many requests of a method VPS.org carried out."""
    with emulator.lock:
        return sum(request.applied for request in emulator.requests if request.method == method)


async def assert_case(bench: Bench, case: Case) -> Answer:
    """What is asked comes out as the row says, on the wire and in the answer."""
    answer = await case.act(bench, case.spoils)
    gets, posts, deletes = bench.requests()
    told = f"{answer.text}\n{[(request.method, request.target, request.status) for request in bench.emulator.requests]}"
    assert answer.code == case.code, told
    assert changed(answer) == case.changed, told
    assert within(gets, case.gets), told
    assert within(posts, case.posts), told
    assert within(deletes, case.deletes), told
    assert case.status in ("", answer.data.get("status", "")), told
    for words in case.gist:
        assert words in answer.text, told
    if case.applied is not None:
        assert times_applied(bench.emulator, "DELETE" if case.deletes else "POST") == int(case.applied), told
    return answer
