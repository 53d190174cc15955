"""What clients of several principals do at once, and whether what each of them is told was so."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
from mcp import MCPError

from tests.consent.user import agreeing
from tests.stage import Answer, Session
from tests.team.replicas import LEGACY, MODERN, ROLES, Team

UNKNOWN_PLAN = "confirmation_invalid: There is no operation of that id"
NOT_FOUND = 404
_TRIES = 20
"""So often a client asks for what it wants once no replica is killed any more."""


@dataclass
class Write:
    """One thing that a client wants done, once, however often it has to ask.

    Attributes:
        principal: Whose client it is.
        tool: What does it.
        arguments: Of the call that is made again until it is answered.
        answer: What was said in the end.
        asked: How often it was asked for, and of that after the last replica was killed.
    """

    principal: str
    tool: str
    arguments: dict[str, Any]
    answer: Answer | None = None
    asked: int = 0
    asked_late: int = 0

    @property
    def operation(self) -> str:
        """Its id, as far as it was told."""
        return str(self.answer.data.get("operation_id", "")) if self.answer else ""


class BeginAnewError(Exception):
    """The client's session is gone, as it is with the replica that had it."""


@dataclass
class Day:
    """What went on.

    Attributes:
        calls_left: How many calls are still to be made, at least.
        kills_left: How many replicas are still to be killed, at least, while clients call.
        pause: How many seconds a client waits at most between two calls.
        writes: Everything that was to be done.
        wrong: What was told that was not so, one sentence each.
        told: Answers by tool and what they said.
        statuses: Answers over HTTP by their status.
        unknown: Calls that brought no answer, by what the client was told instead.
        begun_anew: How often a client began a new session.
    """

    team: Team
    random: Random
    calls_left: int
    kills_left: int
    pause: float
    writes: list[Write] = field(default_factory=list)
    plans: dict[str, tuple[str, int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    begun_anew: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing new is begun."""
        return self.calls_left <= 0 and self.kills_left <= 0

    def there(self) -> set[int]:
        """The backups that there are."""
        with self.team.emulator.lock:
            return set(self.team.fleet.backups)

    def nascent(self) -> set[int]:
        """Those that nobody was told of yet: once one is deleted, the same wish rightly makes another."""
        told = {int((each.answer.data.get("backup") or {"id": 0})["id"]) for each in self.writes if each.answer}
        with self.team.emulator.lock:
            return {number for number, _ in self.team.fleet.made} - told


@dataclass
class Agent:
    """One client.

    Attributes:
        principal: Who it shows to be.
        version: Of the protocol.
        can_ask: Whether it can ask its user, who agrees.
    """

    day: Day
    number: int
    principal: str
    version: str
    can_ask: bool
    write: Write | None = None
    statuses: list[int] = field(default_factory=list)

    async def live(self) -> None:
        """Call until there are no calls left and all is answered that was asked for; with a pause between two calls."""
        while not self.day.is_over or self.write:
            try:
                async with self._connected() as session:
                    while not self.day.is_over or self.write:
                        await self._step(session)
                        await anyio.sleep(self.day.random.uniform(0, self.day.pause))
            except BeginAnewError:
                self.day.begun_anew += 1

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Session]:
        options = {"elicitation_callback": agreeing()} if self.can_ask else {}
        try:
            async with self.day.team.client(self.principal, self.version, self.statuses, **options) as session:
                yield session
        except* (
            httpx2.TransportError
        ) as errors:  # the SDK's client ends where the body of an answer does not come whole
            self.day.unknown[type(errors.exceptions[0]).__name__] += 1
            raise BeginAnewError from None
        except* (MCPError, BeginAnewError):
            await anyio.sleep(0.02)  # both replicas are away
            raise BeginAnewError from None

    async def _step(self, session: Session) -> None:
        role, random = ROLES[self.principal], self.day.random
        if self.write:
            await self._ask_for(session, self.write)
        elif random.random() < 0.1 and (others := self._plans_of_others()):
            await self._intrude(session, *random.choice(others))
        elif role != "read" and random.random() < (0.25 if role == "destroy" else 0.4):
            self._want("create_backup", server_id=self._server(), description=f"wish {len(self.day.writes)}")
        elif role == "destroy" and random.random() < 0.3:
            await self._delete(session)
        else:
            await random.choice((self._list, self._check, self._look, self._overstep))(session)

    def _server(self) -> int:
        return self.day.random.choice(sorted(self.day.team.fleet.servers))

    def _want(self, tool: str, **arguments: Any) -> None:
        self.write = Write(self.principal, tool, arguments)
        self.day.writes.append(self.write)

    async def _ask_for(self, session: Session, write: Write) -> None:
        """Ask, again if need be: it is for the server to tell that it was asked before."""
        write.asked += 1
        write.asked_late += self.day.is_over
        write.answer = await self._call(session, write.tool, **write.arguments)
        if write.answer or write.asked_late >= _TRIES:
            self.write = None

    async def _delete(self, session: Session) -> None:
        """Plan it, and then want it; where the user can be asked, want it at once."""
        backup = self.day.random.choice(sorted(self.day.there() - self.day.nascent()))
        if self.can_ask:
            self._want("delete_backup", backup_id=backup, confirm=True)
            return
        plan = await self._call(session, "delete_backup", backup_id=backup)
        if plan and plan.data.get("status") == "needs_confirmation":
            self.day.plans[plan.operation] = (self.principal, backup)
            await self._list(session)
            self._want("delete_backup", backup_id=backup, confirm=True, operation_id=plan.operation)
            await anyio.lowlevel.checkpoint()
            self.day.plans.pop(plan.operation)

    def _plans_of_others(self) -> list[tuple[str, int]]:
        return [(plan, backup) for plan, (whose, backup) in self.day.plans.items() if whose != self.principal]

    async def _intrude(self, session: Session, plan: str, backup: int) -> None:
        """Try to see, and to redeem, what another planned."""
        seen = await self._call(session, "get_operation", operation_id=plan)
        if seen and plan in self.day.plans and not seen.text.startswith(UNKNOWN_PLAN):
            self.day.wrong.append(f"CROSSED: {self.principal} sees a plan: {seen.text[:200]}")
        redeemed = await self._call(session, "delete_backup", backup_id=backup, confirm=True, operation_id=plan)
        expected = UNKNOWN_PLAN if ROLES[self.principal] == "destroy" else "policy_denied"
        if redeemed and not redeemed.text.startswith(expected):
            self.day.wrong.append(f"CROSSED: {self.principal} redeems a plan: {redeemed.text[:200]}")

    async def _list(self, session: Session) -> None:
        server, fleet = self._server(), self.day.team.fleet
        before, last = self.day.there(), max(fleet.backups)
        answer = await self._call(session, "list_backups", server_id=server, limit=100)
        after = self.day.there()
        if answer and not answer.is_error:
            shown = {row["id"] for row in answer.data["backups"]}
            stayed = {number for number in before & after if fleet.backups[number].server_id == server}
            if answer.data["complete"] and not stayed <= shown:
                self.day.wrong.append(f"FALSE: {stayed - shown} of server {server} are not listed")
            if gone := {number for number in shown if number <= last} - before:
                self.day.wrong.append(f"FALSE: {gone} are listed, and were gone before")

    async def _check(self, session: Session) -> None:
        server, before = self._server(), self.day.there()
        answer = await self._call(session, "check_backups", server_id=server)
        for row in () if answer is None or answer.is_error else answer.data["servers"]:
            if row.get("restore_to") and row["restore_to"] not in before | self.day.there():
                self.day.wrong.append(f"FALSE: {row['restore_to']} is said to be a restore point")

    async def _look(self, session: Session) -> None:
        """Look at what became of something, whoever asked for it."""
        if known := [each.operation for each in self.day.writes if each.operation]:
            operation = self.day.random.choice(known)
            seen = await self._call(session, "get_operation", operation_id=operation)
            if seen and not seen.is_error and seen.operation != operation:
                self.day.wrong.append(f"CROSSED: {seen.text[:200]}")

    async def _overstep(self, session: Session) -> None:
        """What is beyond the role."""
        beyond = {"read": "create_backup", "write": "delete_backup"}.get(ROLES[self.principal])
        if beyond:
            target = {"server_id": self._server()} if beyond == "create_backup" else {"backup_id": 1, "confirm": True}
            answer = await self._call(session, beyond, **target)
            if answer and answer.code != "policy_denied":
                self.day.wrong.append(f"CROSSED: {self.principal} was let {beyond}: {answer.text[:200]}")

    async def _call(self, session: Session, tool: str, **arguments: Any) -> Answer | None:
        """An answer, None if it is not known whether there will have been one."""
        self.day.calls_left -= 1
        self.statuses.clear()
        try:
            answer = await session.call(tool, **arguments)
        except MCPError as error:
            self.day.unknown[error.error.message] += 1
            if NOT_FOUND in self.statuses:
                raise BeginAnewError from None
            return None
        except TimeoutError:  # the SDK's client waits without end for an answer of which it lost the stream
            self.day.unknown["no answer"] += 1
            raise BeginAnewError from None
        finally:
            self.day.statuses.update(self.statuses)
        self.day.told[f"{tool}: {answer.code or answer.data.get('status', 'ok')}"] += 1
        return answer


def agents(day: Day, count: int) -> list[Agent]:
    """Clients of every principal, on both protocols; some can ask their user."""
    names = list(ROLES)
    return [
        Agent(day, number, names[number % len(names)], (MODERN, LEGACY)[number // len(names) % 2], number % 4 == 3)
        for number in range(count)
    ]


async def busy(day: Day, clients: int, meanwhile: Callable[[], Any]) -> None:
    """Have so many clients call until there are no calls left, while something else goes on."""
    async with anyio.create_task_group() as other:
        other.start_soon(meanwhile)
        async with anyio.create_task_group() as tasks:
            for agent in agents(day, clients):
                tasks.start_soon(agent.live)
        other.cancel_scope.cancel()
