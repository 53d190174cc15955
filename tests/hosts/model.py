"""A model on loopback that follows the script, in the four dialects by which hosts speak to models."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.hosts.script import call_after

Body = dict[str, Any]


class Seen(NamedTuple):
    """What a request holds that matters.

    Attributes:
        tools: The host's names of tools, by ours.
        told: What the tools answered so far, as the host hands it on.
    """

    tools: dict[str, Any]
    told: list[str]


class Model(ThreadingHTTPServer):
    """The server; what the hosts told it last is kept.

    Attributes:
        told: The answers of the tools, of the longest conversation.
        asked: Every request, by its path.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.told: list[str] = []
        self.asked: list[tuple[str, Body]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_call(self, seen: Seen) -> tuple[Any, dict[str, Any]] | None:
        """The host's name of the tool to call, and its arguments; None for a few words instead."""
        if len(seen.told) > len(self.told):
            self.told = seen.told
        call = call_after(seen.told)
        if call is None or call[0] not in seen.tools:
            return None
        return seen.tools[call[0]], call[1]


@contextmanager
def scripted_model() -> Iterator[Model]:
    with Model() as model:
        thread = threading.Thread(target=model.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield model
        model.shutdown()
        thread.join()


class _Answering(BaseHTTPRequestHandler):
    server: Model

    def do_GET(self) -> None:
        self._say(json.dumps({"object": "list", "data": [{"id": "scripted", "object": "model"}]}), "application/json")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            body = {}
        self.server.asked.append((self.path, body))
        path = self.path.partition("?")[0]
        dialect = next((speak for end, speak in _DIALECTS if path.endswith(end)), None)
        if dialect is None:
            self._say("{}", "application/json")
        else:
            self._say(*dialect(self.server, body, path))

    def _say(self, text: str, kind: str) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Nothing."""


def _events(*events: tuple[str, Body]) -> tuple[str, str]:
    """Server-sent events, each with its name where it has one."""
    heads = (f"event: {name}\n" if name else "" for name, _ in events)
    text = "".join(f"{head}data: {json.dumps(data)}\n\n" for head, (_, data) in zip(heads, events, strict=True))
    return text, "text/event-stream"


def _ours(name: str) -> str:
    """Our name of a tool by the host's, such as `mcp__backups__list_backups` or `backups-list_backups`."""
    return next((each for each in _NAMES if name.endswith(each)), "")


_NAMES = (
    "list_backups", "check_backups", "create_backup", "delete_backup", "restore_server", "prune_backups",
    "get_operation",
)  # fmt: skip


def _text(content: Any) -> str:
    """All the texts in what a host hands on, in whatever it wraps them."""
    if isinstance(content, dict | list):
        return "\n".join(_text(each) for each in (content.values() if isinstance(content, dict) else content))
    return str(content)


def _anthropic(model: Model, body: Body, _path: str) -> tuple[str, str]:
    names = {tool["name"]: _ours(tool["name"]) for tool in body.get("tools", [])}
    blocks = [
        block
        for message in body.get("messages", [])
        if isinstance(message["content"], list)
        for block in message["content"]
    ]
    ours = {block["id"] for block in blocks if block["type"] == "tool_use" and _ours(block["name"])}
    told = [_text(block.get("content")) for block in blocks if block.get("tool_use_id") in ours]
    call = model.next_call(Seen({ours: name for name, ours in names.items() if ours}, told))
    block: Body = {"type": "text", "text": "Done."}
    if call:
        block = {"type": "tool_use", "id": f"toolu_{len(told):04}", "name": call[0], "input": call[1]}
    stop, usage = "tool_use" if call else "end_turn", {"input_tokens": 1, "output_tokens": 1}
    message: Body = {
        "id": f"msg_{len(told):04}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "x"),
    }
    if not body.get("stream"):
        whole = message | {"content": [block], "stop_reason": stop, "stop_sequence": None, "usage": usage}
        return json.dumps(whole), "application/json"
    nothing: Body = {"input": {}} if call else {"text": ""}
    empty = block | nothing
    delta: Body = (
        {"type": "input_json_delta", "partial_json": json.dumps(call[1])}
        if call
        else {"type": "text_delta", "text": "Done."}
    )
    events: list[Body] = [
        {
            "type": "message_start",
            "message": message | {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage},
        },
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    return _events(*((event["type"], event) for event in events))


def _responses(model: Model, body: Body, _path: str) -> tuple[str, str]:
    tools: dict[str, Any] = {}
    for tool in body.get("tools", []):
        if tool["type"] == "namespace":
            tools |= {_ours(each["name"]): (tool["name"], each["name"]) for each in tool["tools"]}
        else:
            tools[_ours(tool.get("name", ""))] = (None, tool.get("name"))
    items = [item for item in body.get("input", []) if isinstance(item, dict)]
    ours = {item["call_id"] for item in items if item.get("type") == "function_call" and _ours(item["name"])}
    told = [
        _text(item["output"])
        for item in items
        if item.get("type") == "function_call_output" and item["call_id"] in ours
    ]
    call = model.next_call(Seen(tools, told))
    item: Body = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Done.", "annotations": []}],
    }
    if call:
        (namespace, name), number = call[0], f"{len(told):04}"
        item = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "name": name}
        item |= {"arguments": json.dumps(call[1])} | ({"namespace": namespace} if namespace else {})
    response: Body = {"id": f"resp_{len(told):04}", "object": "response", "output": [item], "status": "completed"}
    response["usage"] = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    response["usage"] |= {"input_tokens_details": None, "output_tokens_details": None}
    events: list[Body] = [
        {"type": "response.created", "response": response | {"output": [], "status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response},
    ]
    return _events(*((event["type"], event) for event in events))


def _completions(model: Model, body: Body, _path: str) -> tuple[str, str]:
    tools = {_ours(tool["function"]["name"]): tool["function"]["name"] for tool in body.get("tools") or []}
    messages = body.get("messages", [])
    calls = [call for message in messages for call in message.get("tool_calls") or []]
    ours = {call["id"] for call in calls if _ours(call["function"]["name"])}
    told = [_text(message["content"]) for message in messages if message.get("tool_call_id") in ours]
    call = model.next_call(Seen(tools, told))
    said: Body = {"role": "assistant", "content": "Done."}
    if call:
        function = {"name": call[0], "arguments": json.dumps(call[1])}
        one = {"index": 0, "id": f"call_{len(told):04}", "type": "function", "function": function}
        said = {"role": "assistant", "content": None, "tool_calls": [one]}
    about: Body = {"id": f"chatcmpl-{len(told)}", "created": 1, "model": body.get("model", "scripted")}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    stop = "tool_calls" if call else "stop"
    if not body.get("stream"):
        choice = {"index": 0, "message": said, "finish_reason": stop}
        return json.dumps(
            about | {"object": "chat.completion", "choices": [choice], "usage": usage}
        ), "application/json"
    about["object"] = "chat.completion.chunk"
    chunks: list[Body] = [
        about | {"choices": [{"index": 0, "delta": said, "finish_reason": None}]},
        about | {"choices": [{"index": 0, "delta": {}, "finish_reason": stop}], "usage": usage},
    ]
    text, kind = _events(*(("", chunk) for chunk in chunks))
    return f"{text}data: [DONE]\n\n", kind


def _gemini(model: Model, body: Body, path: str) -> tuple[str, str]:
    declared = [each for tool in body.get("tools", []) for each in tool.get("functionDeclarations", [])]
    tools = {_ours(each["name"]): each["name"] for each in declared}
    parts = [part for content in body.get("contents", []) for part in content.get("parts", [])]
    answers = [part["functionResponse"] for part in parts if "functionResponse" in part]
    told = [_text(answer["response"]) for answer in answers if _ours(answer["name"])]
    call = model.next_call(Seen(tools, told))
    part: Body = {"functionCall": {"name": call[0], "args": call[1]}} if call else {"text": "Done."}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
    answer: Body = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "scripted"}
    return _events(("", answer)) if "stream" in path else (json.dumps(answer), "application/json")


Speak = Callable[[Model, Body, str], tuple[str, str]]
_DIALECTS: tuple[tuple[str, Speak], ...] = (
    ("/messages", _anthropic),
    ("/responses", _responses),
    ("/chat/completions", _completions),
    ("enerateContent", _gemini),
)
