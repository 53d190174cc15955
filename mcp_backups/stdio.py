"""The lines of standard input and output: whatever comes is answered, or told of in the log.

The SDK drops what it cannot parse without a word, so that a host waits for its answer until it gives up, and lets the
first request choose the protocol's era for good, though well-known hosts send `server/discover` and then `initialize`.
So this module stands before it: it reads each line itself, answers what is no request, and hands on the rest to one of
two servings of the same server, a session of the handshake's era and one of 2026-07-28.

The SDK is imported where a session is served, and not before: reading a line needs none of it.
"""

import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack, suppress
from math import isfinite
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from mcp_backups.errors import InternalError
from mcp_backups.text import got, visible

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.server.lowlevel import Server
    from mcp.shared.message import SessionMessage

log = logging.getLogger(__name__)

MAX_LINE = 2**20
"""Bytes of a line that are read; no message for these tools comes near."""

PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32602, -32603

_MEANS = {PARSE_ERROR: "Parse error", INVALID_REQUEST: "Invalid request", INVALID_PARAMS: "Invalid params"}
_TAIL = 4096
_AROUND = "\ufeff \t\r\n"  # white space, and the byte order mark that some editors and shells put before a text
_STRING = r'"(?:[^"\\]++|\\.)*+"'
_TOKEN = re.compile(rf"{_STRING}|[{{}}\[\]]", re.DOTALL)
_VALUE = re.compile(rf"\s*:\s*({_STRING}|-?\d++(?:\.\d++)?(?:[eE][+-]?\d++)?)?", re.DOTALL)
_LAST_ID = re.compile(rf'"id"\s*:\s*({_STRING}|-?\d++)\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}}\s*$', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
ENVELOPE = "io.modelcontextprotocol/protocolVersion"
"""What each request of 2026-07-28 bears in its `_meta`."""

Message = dict[str, Any]


class Refusal(NamedTuple):
    """A message that goes no further.

    Attributes:
        id: The id that it is answered with, as JSON; None for what has no answer, such as a notification.
        code: JSON-RPC's.
        why: In words, for the client and for the log.
    """

    id: str | None
    code: int
    why: str

    @property
    def line(self) -> bytes:
        """The answer. The id is put in as it came: it may be one that no number or text of ours could hold."""
        error = json.dumps({"code": self.code, "message": f"{_MEANS[self.code]}: {self.why}."})
        return f'{{"jsonrpc":"2.0","id":{self.id},"error":{error}}}\n'.encode()


def open_closed_streams() -> None:
    """Put the null device where a standard stream was closed: else Python has none, and another file its number."""
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - the last of the standard streams
        os.set_inheritable(free, True)
    os.close(free)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays open
            setattr(sys, name, stream)


def endings() -> list[signal.Signals]:
    """The signals that end a server: also that its terminal was closed, unless `nohup` or the like has that ignored."""
    found = [signal.SIGTERM, signal.SIGINT]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found


def drop_output() -> None:
    """Where what was printed cannot be written out: have Python not try that again at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def take_over() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for the protocol alone: whatever else reads finds the end, what it prints is logged."""
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415

        for standard in (0, 1):
            msvcrt.setmode(standard, os.O_BINARY)
    incoming, outgoing, free = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.dup2(free, 0)
    os.dup2(2, 1)
    os.close(free)
    # They end with the process, and Python is not to complain of that.
    return open(incoming, "rb", closefd=False), open(outgoing, "wb", buffering=0, closefd=False)


def lines_of(source: BinaryIO) -> Iterator[bytes]:
    """Each line; of one over 1 MiB the beginning and the end, together still over 1 MiB."""
    while line := source.readline(MAX_LINE + 1):
        rest, tail = line, b""
        while len(line) > MAX_LINE and rest and not rest.endswith(b"\n"):
            rest = source.readline(MAX_LINE)
            tail = (tail + rest)[-_TAIL:]
        yield line + tail


def read_line(line: bytes) -> list[Message | Refusal]:
    """The messages that a line holds, checked as JSON-RPC; usually one, none if it is blank."""
    text = line.decode("utf-8", "replace").strip(_AROUND)
    if not text:
        return []
    if len(line) > MAX_LINE:
        return _unread(text, INVALID_REQUEST, f"a message must not be longer than {MAX_LINE} bytes")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return _unread(text, PARSE_ERROR, _why(error))
    if isinstance(value, list):
        return _batch(value)
    message = _checked(value)
    if isinstance(message, dict) and _ESCAPED_SURROGATE.search(text):
        # Hosts that cut text by UTF-16 units leave half an emoji, which no UTF-8 can carry on.
        whole = json.dumps(message, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        message = json.loads(whole)
    return [message]


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "the message is nested too deeply"
    is_syntax = isinstance(error, json.JSONDecodeError)
    return "it is not one JSON object" if is_syntax else "a number in it has too many digits"


def _checked(message: Any) -> Message | Refusal:
    if not isinstance(message, dict):
        return Refusal("null", INVALID_REQUEST, f"a message must be an object; got {got(message)}")
    is_answer = "method" not in message and ("result" in message or "error" in message)
    code, fault = INVALID_REQUEST, ""
    if message.get("jsonrpc") != "2.0":
        fault = f"jsonrpc must be text '2.0'; got {_field(message, 'jsonrpc')}"
    elif "id" in message and not _is_id(message["id"]):
        fault = f"id must be text or an integer; got {got(message['id'])}"
    elif is_answer:
        fault = _fault_of_answer(message)
    elif not isinstance(message.get("method"), str):
        fault = f"method must be text; got {_field(message, 'method')}"
    elif not isinstance(message.get("params", {}), dict | None):
        code, fault = INVALID_PARAMS, f"params must be an object; got {got(message['params'])}"
    if not fault:
        return message
    if is_answer and _is_id(message.get("id")):  # a call of a tool waits for it, and is to hear that there is none
        log.warning("an answer cannot be read: %s", visible(fault))
        return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": fault}}
    has_none = is_answer or ("method" in message and "id" not in message)
    return Refusal(None if has_none else _id_of(message), code, fault)


def _fault_of_answer(message: Message) -> str:
    error = message.get("error")
    if "result" in message:
        return "" if isinstance(message["result"], dict) else f"result must be an object; got {got(message['result'])}"
    if isinstance(error, dict) and type(error.get("code")) is int and isinstance(error.get("message"), str):
        return ""
    return "error must be an object with code and message"


def _field(message: Message, name: str) -> str:
    return got(message[name]) if name in message else "none"


def _is_id(value: Any) -> bool:
    return type(value) is int or (isinstance(value, str) and not _SURROGATE.search(value))


def _id_of(message: Message) -> str:
    """The id to answer with, as JSON: numbers and texts as they are, also those that MCP does not take for an id."""
    told = message.get("id")
    is_told = isinstance(told, str | int | float) and not isinstance(told, bool)
    # What no float can hold, such as 1e400, has become a word that is no JSON.
    return "null" if not is_told or (isinstance(told, float) and not isfinite(told)) else json.dumps(told)


def _batch(messages: list[Any]) -> list[Message | Refusal]:
    """Each request of a batch is refused by its id: no current protocol has batches, and half of one may destroy."""
    why = "batches are not taken; send each message by itself"
    requests = [each for each in messages if isinstance(each, dict) and "id" in each and "method" in each]
    return [Refusal(_id_of(each), INVALID_REQUEST, why) for each in requests or [{}]]


def _unread(text: str, code: int, why: str) -> list[Message | Refusal]:
    """The refusals of what cannot be parsed: one for each request whose id can be made out, or else one without."""
    outlines = list(_outlines(text)) or [{}]
    last = None if "id" in outlines[-1] else _LAST_ID.search(text, max(len(text) - _TAIL, 0))
    # Where the brackets count, an "id" that is not among the outermost is another's.
    is_another = last and code == PARSE_ERROR and any(each.start() == last.start() for each in _TOKEN.finditer(text))
    if last and not is_another:
        outlines[-1]["id"] = last[1]
    known = [each for each in outlines if "id" in each] or outlines[:1]
    return [Refusal(None if _is_answer(each) else each.get("id", "null"), code, why) for each in known]


def _is_answer(outline: dict[str, str]) -> bool:
    # Its id is one of ours: answered, it would be taken for the client's own request of that number.
    return "method" not in outline and not outline.keys().isdisjoint(("result", "error"))


def _outlines(text: str) -> Iterator[dict[str, str]]:
    """The keys of each outermost object with the JSON of their texts and numbers, as far as they can be made out."""
    depth, outline = 0, dict[str, str]()
    innermost = 2 if text.startswith("[") else 1
    for token in _TOKEN.finditer(text):
        if token[0] in "{[":
            depth += 1
        elif token[0] in "}]":
            depth = max(depth - 1, 0)
            if depth == innermost - 1 and outline:
                yield outline
                outline = {}
        elif depth == innermost and (value := _VALUE.match(text, token.end())):
            key = token[0][1:-1]
            if key != "id" or value[1]:
                outline[key] = value[1] or ""
    if outline:
        yield outline


class Eras:
    """Which of the two servings a message is for: `legacy` (with a handshake) or `modern` (2026-07-28)."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def of(self, message: Message) -> tuple[str, ...]:
        method, params = message.get("method"), message.get("params") or {}
        if method is None:
            return ("legacy",)  # answers a question, which only the handshake's era asks by a request
        if "id" not in message:
            return ("legacy", "modern")  # such as a cancellation, which tells by an id whom it concerns
        meta = params.get("_meta")
        if method != "initialize" and isinstance(meta, dict) and ENVELOPE in meta:
            self._seen.add("modern")
            return ("modern",)
        if method == "initialize":
            self._seen.add("legacy")
        # A client of 2026-07-28 that forgets the envelope is told so by that era.
        return ("modern",) if self._seen == {"modern"} and method != "ping" else ("legacy",)


class Opened(NamedTuple):
    """A session to serve, of which the beginning may have been answered already; see `opening.py`.

    Attributes:
        lines: What the client sends from now on; taken in a thread of its own.
        write: Writes a whole line, and raises OSError when nobody reads any more.
        kept: What began each era, of which the SDK has to learn, with what was answered; None for no answer.
        eras: Which eras were spoken; None if nothing was.
    """

    lines: Iterable[bytes]
    write: Callable[[bytes], object]
    kept: Sequence[tuple[Message, Message | None]] = ()
    eras: Eras | None = None


async def serve_lines(server: "Server[Any]", opened: Opened) -> None:
    """Serve one client until its lines end, or it reads no more.

    Args:
        server: Its lifespan is entered twice, once for each era.
        opened: The client.

    Raises:
        InternalError: The client was told something else at the beginning than the SDK tells it.
    """
    import anyio  # noqa: PLC0415 - see the top of the module
    from anyio.from_thread import BlockingPortal  # noqa: PLC0415

    session = _Session(opened)
    async with BlockingPortal() as portal, AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        stack.callback(session.end)

        async def write_all() -> None:
            with session.answers, suppress(OSError):
                async for answer in session.answers:
                    line = answer if isinstance(answer, bytes) else _dumped(answer)
                    if not session.was_said(line):
                        await anyio.to_thread.run_sync(opened.write, line)
                return
            log.info("the client reads no more")
            tasks.cancel_scope.cancel()

        def read() -> None:
            # Each of these says that the serving ended while this thread waited.
            with suppress(RuntimeError, CancelledError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                portal.call(session.catch_up)
                with suppress(OSError):
                    for line in opened.lines:
                        portal.call(session.take, read_line(line))
                portal.call(session.end)

        tasks.start_soon(write_all)
        for _, messages in session.inputs.values():
            tasks.start_soon(server.run, messages, session.to_client.clone(), server.create_initialization_options())
        # A thread that waits for a line cannot be interrupted, and must not keep the process.
        threading.Thread(target=read, name="standard input", daemon=True).start()


class _Session:
    """What stands between a client's lines and the two servings.

    Attributes:
        inputs: For each era both ends of what its serving reads.
        to_client: Takes what is to be written.
        answers: Gives it to whoever writes.
    """

    def __init__(self, opened: Opened) -> None:
        import anyio  # noqa: PLC0415 - see the top of the module
        from mcp.shared.message import SessionMessage  # noqa: PLC0415

        def stream() -> "tuple[MemoryObjectSendStream[SessionMessage], MemoryObjectReceiveStream[SessionMessage]]":
            return anyio.create_memory_object_stream[SessionMessage]()

        self.inputs = {"legacy": stream(), "modern": stream()}
        self.to_client, self.answers = anyio.create_memory_object_stream[SessionMessage | bytes]()
        self._eras = opened.eras or Eras()
        self._kept = opened.kept
        self._said: Message | None = None
        self._event = anyio.Event
        self._has_caught_up = self._event()

    async def catch_up(self) -> None:
        """Have the SDK learn of the beginning that was answered without it, before anything else reaches it."""
        for message, said in self._kept:
            self._said, self._has_caught_up = said, self._event()
            await self.take([message])
            if said is not None:
                await self._has_caught_up.wait()

    def was_said(self, line: bytes) -> bool:
        """Whether a line is the SDK's answer to that beginning, which the client has.

        Raises:
            InternalError: It is another than the client was given.
        """
        if self._said is None:
            return False
        answer = json.loads(line)
        if answer.get("id") != self._said["id"]:
            return False
        if answer != self._said:
            raise InternalError("The client was told something else at the beginning than is so.")
        self._said = None
        self._has_caught_up.set()
        return True

    async def take(self, messages: list[Message | Refusal]) -> None:
        """Answer what is refused, and hand on the rest."""
        from mcp.shared.message import SessionMessage  # noqa: PLC0415 - see the top of the module
        from mcp_types import jsonrpc_message_adapter  # noqa: PLC0415

        for message in messages:
            if isinstance(message, Refusal):
                log.warning("%s: %s", "refused a request" if message.id else "dropped a message", visible(message.why))
                if message.id:
                    await self.to_client.send(message.line)
                continue
            parsed = SessionMessage(jsonrpc_message_adapter.validate_python(message, by_name=False))
            for era in self._eras.of(message):
                await self.inputs[era][0].send(parsed)

    def end(self) -> None:
        """No more will come."""
        self.to_client.close()
        for send, _ in self.inputs.values():
            send.close()


def _dumped(answer: "SessionMessage") -> bytes:
    """A message of ours as a line. One that cannot be written costs itself, not the session."""
    try:
        return answer.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
    except ValueError:
        log.exception("an answer could not be written")
        error = {"code": INTERNAL_ERROR, "message": "The answer could not be written."}
        return (
            json.dumps({"jsonrpc": "2.0", "id": getattr(answer.message, "id", None), "error": error}).encode() + b"\n"
        )
