"""The addresses of the pages, and the frames that they are rendered in."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mcp_backups.console.access import Access
from mcp_backups.console.gate import HostGate
from mcp_backups.console.pages import Pages
from mcp_backups.errors import BackupsError
from mcp_backups.operations import Context, Operation
from mcp_backups.text import age, duration, plural, size

_HERE = Path(__file__).parent
_STATIC = {"/console.css": "text/css", "/icon.svg": "image/svg+xml"}


def build_app(context: Context, access: Access, origins: frozenset[str]) -> ASGIApp:
    """The console as an ASGI app.

    Args:
        context: What it reads from, and records decisions in.
        access: Who is let in.
        origins: Where browsers reach it, in small letters, such as `http://127.0.0.1:8766`.
    """
    pages = Pages(context, access, _templates())
    inside = pages.only_for_visitors
    routes = [
        Route("/", inside(Pages.waiting)),
        Route("/fleet", inside(Pages.fleet)),
        Route("/operations", inside(Pages.operations)),
        Route("/operations/{operation_id}", inside(Pages.operation)),
        Route("/operations/{operation_id}/approve", inside(Pages.approve), methods=["POST"]),
        Route("/operations/{operation_id}/decline", inside(Pages.decline), methods=["POST"]),
        Route("/log", inside(Pages.log)),
        Route("/enter", pages.enter, methods=["GET"]),
        *(Route(path, _static) for path in _STATIC),
    ]
    handlers = {HTTPException: pages.on_error, BackupsError: pages.on_error}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return HostGate(app, origins)


async def _static(request: Request) -> Response:
    path = request.url.path
    return FileResponse(_HERE / "static" / path.removeprefix("/"), media_type=_STATIC[path])


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "age": age,
        "clock": _clock,
        "duration": duration,
        "ends": _ends,
        "plural": plural,
        "size": size,
        "told": _told,
        "words": lambda name: str(name).replace("_", " "),
    }
    return templates


def _clock(moment: datetime) -> str:
    """A time as people read it: `2026-11-23 03:00 UTC`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _ends(operation: Operation) -> datetime:
    """Until when it stays as it is."""
    return operation.life.since.wall + operation.life.lasts


def _told(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
