"""A server that kills itself with SIGKILL at a chosen point, as a process of its own.

Points lie where nothing outside the process could hit them: before, inside and after each transaction that writes
the ledger, and before and after each write to VPS.org. What happens while VPS.org has the request is held by the
emulator instead, and the process killed from outside.

The processes are forked from one that has everything imported, so that hundreds of them take seconds.
"""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerContext
from typing import IO, Any, Literal, get_args

from mcp_backups.api.link import Link
from mcp_backups.clock import system_clock
from mcp_backups.ledger import Ledger, Transaction, ledger_for
from mcp_backups.operations import Entries
from mcp_backups.operations.operation import Operation
from mcp_backups.settings import load_settings

Point = Literal["write begins", "write inside", "write ended", "request begins", "request ended"]
POINTS: tuple[Point, ...] = get_args(Point)


class Forked:
    """A forked server that looks like the `subprocess.Popen` of one: a command is the point and its number.

    Args:
        command: `("any", "3")`: it dies at the third point that it passes; 0 = at none.
    """

    def __init__(
        self, command: Sequence[str], *, stdin: int, stdout: int, stderr: IO[bytes], env: Mapping[str, str]
    ) -> None:
        del stdin, stdout
        point, number = command
        sent, received = socket.socketpair(), socket.socketpair()
        with sent[0], sent[1], received[0], received[1]:
            ends = (sent[1], received[1])
            self._process = nursery().Process(
                target=_serve, args=(*ends, stderr.name, dict(env), point, int(number)), daemon=True
            )
            self._process.start()
            self.stdin, self.stdout = sent[0].makefile("wb"), received[0].makefile("rb")

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        assert code is not None, f"it still runs after {timeout} s"
        return code

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()


def nursery() -> ForkServerContext:
    """Where processes are forked from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "tests.doom",
            "mcp_backups.cli",
            "mcp_backups.transport",
            "mcp_backups.web",
            "mcp_backups.ledger.postgres",
            "anyio._backends._asyncio",
        ]
    )
    return context


def _serve(
    incoming: socket.socket, outgoing: socket.socket, errors: str, env: dict[str, str], point: Any, number: int
) -> None:
    """The forked process, with standard streams and an environment of its own."""
    from mcp_backups.cli import main

    os.environ.clear()
    os.environ.update(env)
    for end, descriptor in ((incoming, 0), (outgoing, 1)):
        os.dup2(end.fileno(), descriptor)
        end.close()
    sys.stdin, sys.stdout, sys.stderr = open(0, closefd=False), open(1, "w", closefd=False), open(errors, "a")  # noqa: SIM115, PTH123
    kill_at(point, number)
    sys.exit(main([]))


def kill_at(point: Point | Literal["any"], number: int) -> None:
    """From now on this process dies when it passes the point, or any point, for the `number`th time."""
    passed = 0

    def at(here: Point) -> None:
        nonlocal passed
        passed += point in ("any", here)
        if passed == number:
            os.kill(os.getpid(), signal.SIGKILL)

    _wrap_writes(at)
    _wrap_requests(at)


def _wrap_writes(at: Callable[[Point], None]) -> None:
    kind = type(ledger_for(load_settings(), Operation, system_clock()))
    write, save = kind.write, Transaction[Operation].save

    async def doomed_write(ledger: Ledger[Operation], work: Callable[[Entries], Any]) -> Any:
        at("write begins")
        result = await write(ledger, work)
        at("write ended")
        return result

    def doomed_save(transaction: Entries, operation: Operation) -> Operation:
        saved = save(transaction, operation)
        at("write inside")
        return saved

    kind.write = doomed_write  # type: ignore[method-assign, assignment]
    Transaction.save = doomed_save  # type: ignore[method-assign, assignment]


def _wrap_requests(at: Callable[[Point], None]) -> None:
    send = Link.send

    async def doomed_send(link: Link, call: Any, progress: Any) -> Any:
        if call.write:
            at("request begins")
        response = await send(link, call, progress)
        if call.write:
            at("request ended")
        return response

    Link.send = doomed_send  # type: ignore[method-assign, assignment]
