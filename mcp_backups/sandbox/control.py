"""The control surface under `/_sandbox/`: what the emulator can be told and asked by programs in other processes.

    GET    /_sandbox/requests   what it received, and how often what
    GET    /_sandbox/fleet      servers, backups, restores
    POST   /_sandbox/faults     spoil requests: {"kind": "status", "code": 503, "method": "GET", "path": "^/backups/$"}
    DELETE /_sandbox/faults     nothing goes wrong any more
    POST   /_sandbox/behaviour  behave otherwise: {"lag_seconds": 30, "statuses": ["queued", "available"]}
    POST   /_sandbox/finish     every backup and restore in progress is finished

A fault's `kind` is the name of a constructor of `Fault`, and the other members are its parameters, with `late`
(seconds) for one that is applied after it was answered, and `method`, `path`, `times` and `skip` as in `FaultRule`.
What behaviour there is, `Emulator` documents: see `BEHAVIOUR`.
No token is needed: only this machine is answered.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sized
from ipaddress import ip_address
from typing import Any, Protocol

from .faults import Fault
from .fleet import Fleet
from .received import Received
from .refusals import RefusalError, detail, method_not_allowed, no_such_route
from .reply import Reply, json_reply
from .shapes import JsonObject, backup_shape, server_shape, timestamp

PREFIX = "/_sandbox/"

KINDS: dict[str, Callable[..., Fault]] = {
    "delay": Fault.delay,
    "status": Fault.status,
    "reset_before": Fault.reset_before,
    "reset_after": Fault.reset_after,
    "close_after": Fault.close_after,
    "silence": Fault.silence,
    "half_header": Fault.half_header,
    "cut_body": Fault.cut_body,
    "drip": Fault.drip,
    "endless_body": Fault.endless_body,
    "gzip_bomb": Fault.gzip_bomb,
    "rows": Fault.rows,
    "lagging": Fault.lagging,
    "raw": lambda data, apply=False: Fault.raw(data.encode("latin-1"), apply=apply),
}

ADDRESS = ("method", "path", "times", "skip")
"""The members that say which requests are meant."""

TYPES = {"code": int, "headers": dict, "content_type": str, "apply": bool, "values": dict}
"""What the constructors do not check for themselves."""

BEHAVIOUR: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("backup_seconds", "restore_seconds", "size_seconds", "lag_seconds"), lambda value: value >= 0),
    "statuses": lambda value: len(value) == 2 and all(isinstance(word, str) for word in value),  # noqa: PLR2004
    "honour_filters": lambda value: isinstance(value, bool),
}
"""What can be changed while it serves, and what is a value for it."""


class Controlled(Protocol):
    """What the control surface tells and asks the emulator."""

    fleet: Fleet
    requests: list[Received]

    @property
    def faults(self) -> Sized: ...
    @property
    def fail(self) -> Callable[..., object]: ...
    def clear_faults(self) -> None: ...
    def change(self, **values: Any) -> None: ...
    def finish_all(self) -> None: ...
    def settle(self) -> None: ...


def answer(emulator: Controlled, received: Received, peer: str) -> Reply:
    """What the control surface says; to other machines it does not exist. The emulator's lock is held."""
    endpoints = ENDPOINTS.get(received.path.rstrip("/"))
    try:
        if endpoints is None or not ip_address(peer).is_loopback:
            raise no_such_route()
        if received.method not in endpoints:
            raise method_not_allowed(received.method, ", ".join(endpoints))
        return endpoints[received.method](emulator, received)
    except RefusalError as refusal:
        return refusal.reply


def show_requests(emulator: Controlled, _: Received) -> Reply:
    """Every request in order, tokens masked, and a count for each method and path."""
    counts = Counter(f"{request.method} {request.path}" for request in emulator.requests)
    rows = [request_shape(request) for request in emulator.requests]
    return json_reply(200, {"count": len(rows), "counts": counts, "requests": rows})


def show_fleet(emulator: Controlled, _: Received) -> Reply:
    """The account's state, as it is by now."""
    emulator.settle()
    return json_reply(200, fleet_shape(emulator.fleet))


def add_fault(emulator: Controlled, received: Received) -> Reply:
    """`Emulator.fail`, told in JSON."""
    try:
        content = json.loads(received.body)
        address = {name: content.pop(name) for name in ADDRESS if name in content}
        emulator.fail(fault_from(content), **address)
    except (ValueError, TypeError, AttributeError, LookupError, re.error) as problem:
        raise detail(400, f"Not a fault: {problem!r}. Kinds: {', '.join(KINDS)}.") from None
    return json_reply(201, {"faults": len(emulator.faults)})


def clear_faults(emulator: Controlled, _: Received) -> Reply:
    """`Emulator.clear_faults`."""
    emulator.clear_faults()
    return Reply(204)


def behave(emulator: Controlled, received: Received) -> Reply:
    """`Emulator.change`, told in JSON."""
    try:
        values = json.loads(received.body)
        sound = all(BEHAVIOUR[name](value) for name, value in values.items())
    except (ValueError, TypeError, AttributeError, LookupError):
        sound = False
    if not sound:
        raise detail(400, f"Not a behaviour. There is: {', '.join(BEHAVIOUR)}.")
    emulator.change(**{name: tuple(value) if name == "statuses" else value for name, value in values.items()})
    return Reply(204)


def finish(emulator: Controlled, _: Received) -> Reply:
    """`Emulator.finish_all`."""
    emulator.finish_all()
    return Reply(204)


def fault_from(content: JsonObject) -> Fault:
    """A fault from its JSON form. Raises ValueError, TypeError or LookupError if it makes no sense."""
    late = content.pop("late", 0.0)
    make = KINDS[content.pop("kind")]
    for name, kind in TYPES.items():
        if name in content and not isinstance(content[name], kind):
            raise TypeError(f"{name}: {kind.__name__}")
    fault = make(**content)
    return fault.late(late) if late else fault


def request_shape(request: Received) -> JsonObject:
    """A request without its token."""
    return {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": request.masked_headers,
        "body": request.body.decode("utf-8", "replace"),
        "fault": request.rule is not None,
        "applied": request.applied,
        "status": request.status,
    }


def fleet_shape(fleet: Fleet) -> JsonObject:
    """The account's state without tokens and passwords."""
    return {
        "servers": [server_shape(server) | {"disk": server.disk} for server in fleet.servers.values()],
        "backups": [backup_shape(backup, fleet) for backup in fleet.backups.values()],
        "restores": [
            {
                "server_id": restore.server_id,
                "backup_id": restore.backup_id,
                "started_at": timestamp(restore.started_at),
                "ends_at": timestamp(restore.ends_at),
            }
            for restore in fleet.restores
        ],
    }


ENDPOINTS: dict[str, dict[str, Callable[[Any, Received], Reply]]] = {
    "/_sandbox/requests": {"GET": show_requests},
    "/_sandbox/fleet": {"GET": show_fleet},
    "/_sandbox/faults": {"POST": add_fault, "DELETE": clear_faults},
    "/_sandbox/behaviour": {"POST": behave},
    "/_sandbox/finish": {"POST": finish},
}
