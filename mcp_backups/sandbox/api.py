"""The API itself: routes, the order of checks, and what every endpoint does.

The order is Django's and DRF's: route (HTML 404, 301), Accept (406), token (401), permission (403), throttle (429),
method (405), and only then the endpoint.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from . import refusals
from .access import Turnstile, authenticated, may
from .fleet import Backup, Fleet, Server
from .received import PREFIX, Received, integer, optional_text, parsed, required_integer
from .reply import Reply, json_reply
from .shapes import (
    Pages,
    account_shape,
    backup_shape,
    listed,
    restore_shape,
    server_detail_shape,
    server_shape,
    started_shape,
)


@dataclass(frozen=True)
class Site:
    """How the API is set up; `Emulator` documents the values."""

    backup_seconds: float
    restore_seconds: float
    statuses: tuple[str, str]
    size_seconds: float
    lag_seconds: float
    honour_filters: bool
    pages: Pages
    turnstile: Turnstile | None


@dataclass(frozen=True)
class Call:
    """One request on its way to an endpoint. `number` is the id in the path, 0 if there is none."""

    site: Site
    fleet: Fleet
    received: Received
    now: datetime
    token: str
    number: int


Endpoint = Callable[[Call], Reply]


@dataclass(frozen=True)
class Route:
    """A path with the endpoints behind it, and the resource a permission must name ("" = any live token will do)."""

    pattern: re.Pattern[str]
    resource: str
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)


def answer(site: Site, fleet: Fleet, received: Received, now: datetime) -> Reply:
    """What the API says to a request, having done what it asks for."""
    fleet.settle(now)
    try:
        route, number = _routed(received)
        _negotiated(received.headers.get("accept", "*/*"))
        token = authenticated(received.authorization, fleet.tokens)
        _permitted(fleet.tokens[token], route, received.method)
        if site.turnstile is not None:
            site.turnstile.enter(token, now)
        endpoint = _endpoint(route, received.method)
        return endpoint(Call(site, fleet, received, now, token, number))
    except refusals.RefusalError as refusal:
        return refusal.reply


def list_backups(call: Call) -> Reply:
    """`GET /backups/`: id descending, which is not the order of time; with a lag, what was there so long ago."""
    wanted = call.received.query if call.site.honour_filters else {}
    lag = max(call.site.lag_seconds, call.received.stale)
    shown = call.fleet.backups_at(call.now - timedelta(seconds=lag)) if lag else call.fleet.backups.values()
    backups = sorted(shown, key=lambda backup: -backup.id)
    if text := wanted.get("server_id"):
        server_id = integer(text, "server_id")
        backups = [backup for backup in backups if backup.server_id == server_id]
    if kind := wanted.get("backup_type"):
        if kind not in ("manual", "automatic"):
            text = f"Select a valid choice. {kind} is not one of the available choices."
            raise refusals.invalid("backup_type", text)
        backups = [backup for backup in backups if backup.backup_type == kind]
    return listed(backups, lambda backup: backup_shape(backup, call.fleet), call.received, call.site.pages)


def create_backup(call: Call) -> Reply:
    """`POST /backups/`: started, not finished."""
    content = parsed(call.received)
    server_id = required_integer(content, "server_id")
    description = optional_text(content, "description")
    server = _server(call.fleet, server_id)
    site = call.site
    backup = call.fleet.start_backup(
        server.id, description, call.now, site.backup_seconds, site.statuses, site.size_seconds
    )
    return json_reply(201, started_shape(backup, call.fleet))


def delete_backup(call: Call) -> Reply:
    """`DELETE /backups/{id}/`: for good."""
    call.fleet.delete_backup(_backup(call.fleet, call.number).id, call.now)
    return Reply(204)


def restore_server(call: Call) -> Reply:
    """`POST /servers/{id}/restore/`. Undocumented: 202, and 400 for a backup that cannot be put there."""
    server = _server(call.fleet, call.number)
    backup = _backup(call.fleet, required_integer(parsed(call.received), "backup_id"))
    if backup.server_id != server.id:
        raise refusals.invalid("backup_id", "Backup does not belong to this server.")
    if backup.status != "completed":
        raise refusals.invalid("backup_id", "Backup is not completed.")
    restore = call.fleet.start_restore(server.id, backup.id, call.now, call.site.restore_seconds)
    return json_reply(202, restore_shape(restore))


def list_servers(call: Call) -> Reply:
    """`GET /servers/`."""
    wanted = call.received.query if call.site.honour_filters else {}
    servers = [
        server
        for _, server in sorted(call.fleet.servers.items())
        if wanted.get("status") in (None, "", server.status) and wanted.get("location") in (None, "", server.location)
    ]
    return listed(servers, server_shape, call.received, call.site.pages)


def show_server(call: Call) -> Reply:
    """`GET /servers/{id}/`, root password included."""
    return json_reply(200, server_detail_shape(_server(call.fleet, call.number)))


def show_account(call: Call) -> Reply:
    """`GET /account/me/`."""
    return json_reply(200, account_shape(call.fleet.tokens[call.token]))


ROUTES = (
    Route(re.compile(r"/backups/"), "backups", {"GET": list_backups, "POST": create_backup}),
    Route(re.compile(r"/backups/([0-9]{1,18})/"), "backups", {"DELETE": delete_backup}),
    Route(re.compile(r"/servers/"), "servers", {"GET": list_servers}),
    Route(re.compile(r"/servers/([0-9]{1,18})/"), "servers", {"GET": show_server}),
    Route(re.compile(r"/servers/([0-9]{1,18})/restore/"), "servers", {"POST": restore_server}),
    Route(re.compile(r"/account/me/"), "", {"GET": show_account}),
)


def _routed(received: Received) -> tuple[Route, int]:
    """The route of a request and the id in its path; refuses with 301 where only the last slash is missing."""
    path = received.path if received.target.startswith(PREFIX + "/") else ""
    for route in ROUTES:
        if match := route.pattern.fullmatch(path):
            return route, int(match[1]) if match.groups() else 0
        if route.pattern.fullmatch(path + "/"):
            _, mark, query = received.target.partition("?")
            raise refusals.moved(f"{PREFIX}{path}/{mark}{query}")
    raise refusals.no_such_route()


def _negotiated(accept: str) -> None:
    """Refuses with 406 a client that will not take JSON."""
    ranges = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    if not ranges & {"*/*", "application/*", "application/json"}:
        raise refusals.not_acceptable()


def _permitted(permissions: list[str], route: Route, method: str) -> None:
    """Refuses with 403 what the token's permissions do not cover: `read` to look, `write` for all else."""
    action = "read" if method in ("GET", "HEAD", "OPTIONS") else "write"
    if route.resource and not may(permissions, route.resource, action):
        raise refusals.forbidden()


def _endpoint(route: Route, method: str) -> Endpoint:
    if method not in route.endpoints:
        raise refusals.method_not_allowed(method, ", ".join(route.endpoints))
    return route.endpoints[method]


def _server(fleet: Fleet, server_id: int) -> Server:
    if server_id not in fleet.servers:
        raise refusals.no_such("Server")
    return fleet.servers[server_id]


def _backup(fleet: Fleet, backup_id: int) -> Backup:
    if backup_id not in fleet.backups:
        raise refusals.no_such("Backup")
    return fleet.backups[backup_id]
