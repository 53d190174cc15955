"""A relay before PostgreSQL that cuts a connection at a chosen point, or hands on what it is told to change."""

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.postgres.cluster import Database
from tests.stage import PATIENCE

_MOST = 2**16
_WRITE = b"INSERT INTO"
_COMMIT = b"COMMIT\0"
"""As a question, and as the answer to it."""


@dataclass
class Relay:
    """Hands on all that comes, until it is told otherwise.

    Attributes:
        lose: `question` cuts a connection when the client commits what it wrote, `answer` when the database has.
        closes: Whether nobody gets through any more after that.
        is_open: Whether a new connection is let through; else it is closed at once.
        change: What becomes of what the database says.
    """

    port: int = 0
    lose: str = ""
    closes: bool = False
    is_open: bool = True
    change: Callable[[bytes], bytes] = lambda content: content
    _ends: list[socket.socket] = field(default_factory=list)
    _pumps: list[threading.Thread] = field(default_factory=list)

    def cut(self) -> None:
        """Cut what is connected."""
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        for pump in self._pumps:
            pump.join(PATIENCE)
        for end in self._ends:
            end.close()

    def serve(self, listening: socket.socket, target: int) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            if not self.is_open:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", target))
            self._ends += [client, server]
            asked = threading.Event()
            for source, sink, is_question in ((client, server, True), (server, client, False)):
                pump = threading.Thread(target=self._pump, args=(source, sink, asked, is_question), daemon=True)
                self._pumps.append(pump)
                pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket, asked: threading.Event, is_question: bool) -> None:
        has_written = False
        with suppress(OSError):
            while content := source.recv(_MOST):
                if is_question:
                    has_written |= _WRITE in content
                    if _COMMIT in content and has_written:
                        has_written = False
                        asked.set()
                        if self._loses("question"):
                            break
                elif asked.is_set() and _COMMIT in content:
                    asked.clear()
                    if self._loses("answer"):
                        break
                sink.sendall(content if is_question else self.change(content))
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _loses(self, what: str) -> bool:
        if self.lose != what:
            return False
        self.lose, self.is_open = "", not self.closes
        return True


def as_another_process(content: bytes) -> bytes:
    """As a connection pooler has it: the process that answers is none of the database's own."""
    another = b"K" + struct.pack("!ii", 12, 7)
    return re.sub(rb"K\x00\x00\x00\x0c....", another, content, flags=re.DOTALL)


@contextmanager
def relay_before(database: Database) -> Iterator[tuple[Relay, str]]:
    """A relay, and the database's address through it."""
    relay = Relay()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        relay.port = listening.getsockname()[1]
        serving = threading.Thread(target=relay.serve, args=(listening, database.cluster.port), daemon=True)
        serving.start()
        yield relay, database.url.replace(f":{database.cluster.port}/", f":{relay.port}/")
        listening.shutdown(socket.SHUT_RDWR)
        serving.join(PATIENCE)
        relay.close()
