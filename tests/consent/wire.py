"""An MCP client of the plainest kind: JSON-RPC as it stands on the wire, in any version and over either transport."""

import json
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx2

from tests.process import running
from tests.stage import PATIENCE, Answer

MODERN = "2026-07-28"
VERSIONS = (MODERN, "2025-11-25", "2025-06-18")

Message = dict[str, Any]
Reply = Callable[[Message], Message]
"""What the user does with a form: its schema in, the result of the elicitation out."""


class Transport(Protocol):
    """What carries messages to a server and back."""

    def exchange(self, message: Message, headers: Mapping[str, str]) -> Iterator[Message]:
        """Send a request; what comes until it is answered, the answer included."""
        ...

    def send(self, message: Message, headers: Mapping[str, str]) -> None:
        """Send what has no answer."""
        ...


class Line:
    """A server process of its own, over standard input and output."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._incoming: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def exchange(self, message: Message, headers: Mapping[str, str]) -> Iterator[Message]:
        self.send(message, headers)
        while True:
            incoming = json.loads(self._incoming.get(timeout=PATIENCE))
            yield incoming
            if incoming.get("id") == message["id"] and "method" not in incoming:
                return

    def send(self, message: Message, headers: Mapping[str, str]) -> None:
        del headers
        assert self._process.stdin
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout
        with suppress(ValueError):  # closed while it was read
            for line in self._process.stdout:
                self._incoming.put(line)


class Web:
    """One client of a server over Streamable HTTP."""

    def __init__(self, url: str, http: httpx2.Client) -> None:
        self._url, self._http = url, http
        self._session: dict[str, str] = {}

    def exchange(self, message: Message, headers: Mapping[str, str]) -> Iterator[Message]:
        with self._http.stream("POST", self._url, json=message, headers=self._headers(headers)) as response:
            if session := response.headers.get("mcp-session-id"):
                self._session = {"Mcp-Session-Id": session}
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                yield json.loads(response.read())
                return
            for line in response.iter_lines():
                if line.startswith("data: ") and line != "data: ":
                    yield json.loads(line.removeprefix("data: "))

    def send(self, message: Message, headers: Mapping[str, str]) -> None:
        self._http.post(self._url, json=message, headers=self._headers(headers)).raise_for_status()

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {"Accept": "application/json, text/event-stream"} | self._session | dict(headers)


@dataclass
class Caller:
    """A client of one protocol version that does, or does not, say that it can ask its user.

    Attributes:
        capabilities: What it declares.
        asked: The questions that came, in order.
    """

    transport: Transport
    version: str
    capabilities: Message
    asked: list[str] = field(default_factory=list)
    _last_id: int = 0

    def __post_init__(self) -> None:
        if self.version == MODERN:
            return
        hello = {"protocolVersion": self.version, "capabilities": self.capabilities, "clientInfo": _ME}
        (welcome,) = self.transport.exchange(self._request("initialize", hello), {})
        assert welcome["result"]["protocolVersion"] == self.version
        self.transport.send({"jsonrpc": "2.0", "method": "notifications/initialized"}, self._headers())

    def call(self, tool: str, reply: Reply | None = None, **arguments: Any) -> Answer:
        """Call a tool, and answer what the user is asked."""
        response = self.round(tool, arguments, reply)
        if response["result"].get("resultType") == "input_required":
            response = self.round(tool, arguments, **self.answered(response, reply))
        return as_answer(response["result"])

    def answered(self, question: Message, reply: Reply | None) -> Message:
        """What the same call carries when it is made again with the user's answer."""
        ((name, request),) = question["result"]["inputRequests"].items()
        state = question["result"]["requestState"]
        return {"inputResponses": {name: self._reply(request["params"], reply)}, "requestState": state}

    def round(self, tool: str, arguments: Message, reply: Reply | None = None, **more: Any) -> Message:
        """One request and its JSON-RPC response, whatever that is."""
        params: Message = {"name": tool, "arguments": arguments} | more
        if self.version == MODERN:
            params["_meta"] = {f"io.modelcontextprotocol/{key}": value for key, value in self._envelope().items()}
        headers = self._headers() | ({"Mcp-Method": "tools/call", "Mcp-Name": tool} if self.version == MODERN else {})
        for incoming in self.transport.exchange(self._request("tools/call", params), headers):
            if incoming.get("method") == "elicitation/create":
                result = self._reply(incoming["params"], reply)
                self.transport.send({"jsonrpc": "2.0", "id": incoming["id"], "result": result}, self._headers())
        return incoming

    def _reply(self, form: Message, reply: Reply | None) -> Message:
        self.asked.append(form["message"])
        assert reply is not None, "nobody was to be asked"
        return reply(form["requestedSchema"])

    def _envelope(self) -> Message:
        return {"protocolVersion": self.version, "clientCapabilities": self.capabilities, "clientInfo": _ME}

    def _headers(self) -> dict[str, str]:
        return {"MCP-Protocol-Version": self.version}

    def _request(self, method: str, params: Message) -> Message:
        self._last_id += 1
        return {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}


_ME = {"name": "tests", "version": "1"}


def as_answer(result: Message) -> Answer:
    """A tool's result as the other tests know it."""
    (content,) = result["content"]
    return Answer(result.get("isError", False), content["text"], result.get("structuredContent"), [])


@contextmanager
def process(command: Sequence[str], environment: Mapping[str, str]) -> "Iterator[subprocess.Popen[str]]":
    """A server process, asked to end when the test does, and then made to."""
    pipe = subprocess.PIPE
    with running(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as started:
        yield started
        started.terminate()
        assert started.wait(PATIENCE) == 0
