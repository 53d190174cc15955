"""The server as a process of its own, spoken to line by line."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.stage import place_of

COMMAND = (sys.executable, "-m", "mcp_backups")
PATIENCE = 30.0
"""Seconds after which a test gives up waiting for a process."""

LEGACY = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


Launch = Callable[..., Any]
"""Starts a process, as `subprocess.Popen` does."""


@contextmanager
def running(command: Sequence[Any], **options: Any) -> "Iterator[subprocess.Popen[Any]]":
    """A process that is ended at the end, whatever went wrong: `Popen` itself would wait for it for ever."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


class ServerProcess:
    """One `mcp-backups` process; every line that it writes is kept."""

    def __init__(
        self,
        environment: Mapping[str, str],
        errors: Path,
        launch: Launch = subprocess.Popen,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.lines: list[bytes] = []
        self._errors = errors
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._kept: dict[int, dict[str, Any]] = {}
        self._last_id = 0
        with errors.open("wb") as file:
            self._process = launch(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, env=dict(environment)
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def stderr(self) -> str:
        return self._errors.read_text(encoding="utf-8", errors="replace")

    def write(self, line: bytes) -> None:
        """Any bytes, and the end of the line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def send(self, method: str, params: Mapping[str, Any]) -> int:
        """Send a request; returns its id."""
        self._last_id += 1
        message = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}
        self.write(json.dumps(message).encode())
        return self._last_id

    def start_call(self, tool: str, **arguments: Any) -> int:
        """Call a tool without waiting for its answer; returns the request's id."""
        return self.send("tools/call", {"name": tool, "arguments": arguments})

    def answer(self, number: int) -> dict[str, Any]:
        """The answer to a request, within bounds: its result, or its error."""
        while number not in self._kept:
            message = self._answers.get(timeout=PATIENCE)
            self._kept[message["id"] or 0] = message
        return self._kept.pop(number)

    def request(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and wait for its result."""
        result: dict[str, Any] = self.answer(self.send(method, params or {}))["result"]
        return result

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool: `isError`, `content`, `structuredContent`."""
        result: dict[str, Any] = self.answer(self.start_call(tool, **arguments))["result"]
        return result

    def shake_hands(self) -> Self:
        """The handshake of 2025-11-25."""
        self.request("initialize", LEGACY)
        self.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        return self

    def wait_for_answer_or_end(self) -> None:
        """Wait until the next answer is there, or the process has ended without one; within bounds."""
        end = time.monotonic() + PATIENCE
        while self._answers.empty() and self._reader.is_alive() and time.monotonic() < end:
            self._reader.join(0.005)

    def close_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit code, once the process has ended and all that it wrote is read."""
        code: int = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def end(self) -> None:
        """Whatever it was at, it is no more."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)
            try:
                message = json.loads(line)
            except ValueError:
                continue  # the test that reads `lines` says so
            if isinstance(message, dict) and "id" in message and "method" not in message:
                self._answers.put(message)


def environment(state_dir: Path, **settings: str) -> dict[str, str]:
    """The environment of a process: what it needs to run, and these settings, by their whole names."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MCP_BACKUPS_", "VPS_API_"))}
    here = {"HOME": str(state_dir.parent), "XDG_CONFIG_HOME": str(state_dir.parent / "config")}
    known = place_of(state_dir)
    elsewhere = (
        {"MCP_BACKUPS_LEDGER_URL": known.ledger_url.get_secret_value(), "MCP_BACKUPS_KEY_FILE": str(known.key_file)}
        if known.ledger_url
        else {}
    )
    return kept | here | {"MCP_BACKUPS_STATE_DIR": str(state_dir)} | elsewhere | settings


@contextmanager
def server_process(
    state_dir: Path, *, launch: Launch = subprocess.Popen, command: Sequence[str] = COMMAND, **settings: str
) -> Iterator[ServerProcess]:
    """A running server with these settings; ended at the end, if it has not by then."""
    state_dir.mkdir(parents=True, exist_ok=True)
    errors = state_dir.parent / f"stderr-{len(list(state_dir.parent.glob('stderr-*')))}"
    process = ServerProcess(environment(state_dir, **settings), errors, launch, command)
    try:
        yield process
    finally:
        process.end()
