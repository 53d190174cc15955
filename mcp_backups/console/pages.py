"""The pages: what each shows, and the two things that can be decided on them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, get_args

import anyio
import anyio.to_thread
from jinja2 import Environment
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from mcp_backups.access import is_same_person
from mcp_backups.console.access import SESSION_SECONDS, Access, OneTimeAddress, Visitor
from mcp_backups.console.gate import read_form
from mcp_backups.console.records import Filters, chosen_operations, history_of, read_log, shown_status
from mcp_backups.console.timeline import Kind, rows, ticks
from mcp_backups.errors import (
    ApiError,
    BackupsError,
    ConfirmationExpiredError,
    ConfirmationInvalidError,
    PolicyDeniedError,
    TargetChangedError,
)
from mcp_backups.models import OPERATION_ID
from mcp_backups.operations import (
    Context,
    Decision,
    Operation,
    Pending,
    Present,
    PruneDetails,
    Result,
    Status,
    check_approver,
    decide,
    frozen,
    pending,
    pending_one,
    there_now,
)
from mcp_backups.settings import Settings
from mcp_backups.text import safe_text
from mcp_backups.tools.checking import fleet_of, fleet_report, orphans_told
from mcp_backups.tools.observation import observe_for

Handler = Callable[[Request], Awaitable[Response]]

_FRESH = timedelta(hours=24)
_SERVERS_ON_A_PAGE = 50
_MOST_DIGITS = 16
_LOOKS_AT_ONCE = 4

_STATUS_OF: Mapping[type[BackupsError], int] = {
    PolicyDeniedError: 403,
    ConfirmationInvalidError: 409,
    TargetChangedError: 409,
    ConfirmationExpiredError: 410,
    ApiError: 502,
    BackupsError: 503,
}
"""The first that an error is one of."""


class Card(NamedTuple):
    """An operation that somebody can decide on, as it is shown.

    Attributes:
        present: What is there now of what the plan showed.
        fault: What was wrong with what they typed; empty at first.
    """

    pending: Pending
    present: Present
    fault: str = ""


@dataclass(frozen=True)
class Pages:
    """Every page, for whoever was let in.

    Attributes:
        context: What it reads from and records decisions in.
        access: Who is let in.
        templates: The pages' frames.
    """

    context: Context
    access: Access
    templates: Environment

    # What anybody sees

    async def enter(self, request: Request) -> Response:
        """Exchange the one-time address for a cookie.

        The page that answers leads on by itself: a browser does not send a cookie that is strictly for the same site
        along with a redirect that began on another one, and the file that led here counts as that.
        """
        if request.method != "GET":  # a HEAD must not use the address up
            raise HTTPException(405, "An address is opened with GET.")
        access, once = self.access, request.query_params.get("once", "")
        if not isinstance(access, OneTimeAddress) or not (session := access.enter(once)):
            return self.message(request, "Not let in", access.refusal, status=401)
        answer = self._render("entered.html", {"visitor": None})
        answer.set_cookie(access.cookie, session, max_age=int(SESSION_SECONDS), httponly=True, samesite="strict")
        return answer

    def message(self, request: Request, title: str, what: str, next_step: str = "", *, status: int) -> Response:
        """A page that only says something."""
        shown = {"title": title, "what": what, "next_step": next_step, "visitor": self.access.visitor(request)}
        return self._render("message.html", shown, status)

    async def on_error(self, request: Request, error: Exception) -> Response:
        """An anticipated failure, told to a person."""
        if isinstance(error, HTTPException):
            return self.message(request, "That did not work", error.detail, status=error.status_code)
        if not isinstance(error, BackupsError):
            raise error
        status = next(code for kind, code in _STATUS_OF.items() if isinstance(error, kind))
        # What to do about VPS.org is told for whoever calls tools; a person looks again.
        next_step = "Look again in a minute." if isinstance(error, ApiError) else error.next_step
        return self.message(request, "That did not work", error.what, next_step, status=status)

    def only_for_visitors(self, page: Callable[["Pages", Request, Visitor], Awaitable[Response]]) -> Handler:
        """A page that is shown to whoever was let in, and to nobody else."""

        async def handle(request: Request) -> Response:
            visitor = self.access.visitor(request)
            if visitor is None:
                return self.message(request, "Not let in", self.access.refusal, status=401)
            return await page(self.for_a_call(), request, visitor)

        return handle

    def for_a_call(self) -> "Pages":
        return Pages(self.context.for_a_call(), self.access, self.templates)

    # What waits

    async def waiting(self, request: Request, visitor: Visitor) -> Response:
        """What waits for an approver, and what is approved and not begun."""
        decided = request.query_params.get("decided", "")
        return await self._waiting(visitor, decided=decided if OPERATION_ID.fullmatch(decided) else "")

    async def approve(self, request: Request, visitor: Visitor) -> Response:
        """Record a yes, if what was typed is one."""
        fields, operation_id = await read_form(request, visitor.form_token), _id_in(request)
        one = await pending_one(self.context, operation_id, approve=True)
        if not one.plan.is_confirmed_by(fields.get("typed", "")):
            fault = "That is not what was asked for. Nothing was decided."
            return await self._waiting(visitor, faults={operation_id: fault})
        return await self._decided(visitor, operation_id, fields, approve=True)

    async def decline(self, request: Request, visitor: Visitor) -> Response:
        """Record a no, which also takes an approval back."""
        fields = await read_form(request, visitor.form_token)
        return await self._decided(visitor, _id_in(request), fields, approve=False)

    async def _decided(
        self, visitor: Visitor, operation_id: str, fields: Mapping[str, str], *, approve: bool
    ) -> Response:
        plan, reason = fields.get("plan", ""), "" if approve else safe_text(fields.get("reason", ""))
        if not plan.isascii():
            raise HTTPException(400, "This form cannot be read.")
        decision = Decision(by=visitor.name, how="console", at=self.context.moment(), plan=plan, reason=reason)
        await decide(self.context, operation_id, decision, approve=approve)
        return RedirectResponse(f"/?decided={operation_id}", 303)

    async def _waiting(
        self, visitor: Visitor, *, decided: str = "", faults: Mapping[str, str] | None = None
    ) -> Response:
        faults = faults or {}
        found = await pending(self.context)
        cards = await self._cards(found, faults)
        shown = {
            "waiting": [card for card in cards if card.pending.operation.status is Status.WAITING],
            "approved": [card for card in cards if card.pending.operation.status is not Status.WAITING],
            "decided": await self.context.find(decided) if decided else None,
        }
        return await self._page("waiting.html", visitor, shown, 422 if faults else 200)

    async def _cards(self, found: list[Pending], faults: Mapping[str, str]) -> list[Card]:
        cards: dict[str, Card] = {}
        limit = anyio.Semaphore(_LOOKS_AT_ONCE)

        async def look(one: Pending) -> None:
            async with limit:
                present = await self._present(one.operation)
            cards[one.operation.id] = Card(one, present, faults.get(one.operation.id, ""))

        if found:
            await self.context.identify()  # once, before several looks need to know it
        async with anyio.create_task_group() as looks:
            for one in found:
                looks.start_soon(look, one)
        return [cards[one.operation.id] for one in found]

    async def _present(self, operation: Operation) -> Present:
        try:
            return await there_now(self.context, operation)
        except BackupsError as error:  # of the ledger: the plan is shown all the same
            return Present(unseen=error.code)

    # What there is, and what was done

    async def fleet(self, request: Request, visitor: Visitor) -> Response:
        """Every server's backups of 31 days."""
        observed = await observe_for(self.context)
        fleet = fleet_of(observed, _FRESH, ignored=self.context.settings.ignored_servers)
        report = fleet_report(fleet, self.context.settings, in_full=True)
        servers = rows(fleet, observed)
        start = min(_number_in(request, "from"), max(0, len(servers) - 1))
        shown = {
            "report": report,
            "orphans": orphans_told(report) if report.orphaned_backups else "",
            "rows": servers[start : start + _SERVERS_ON_A_PAGE],
            "start": start,
            "total": len(servers),
            "step": _SERVERS_ON_A_PAGE,
            "kinds": get_args(Kind),
            "ticks": list(ticks(observed.now)),
        }
        return await self._page("fleet.html", visitor, shown)

    async def operations(self, request: Request, visitor: Visitor) -> Response:
        """The operations that the filters choose, newest first."""
        filters = Filters.of(request.query_params)
        found, more = await chosen_operations(self.context, filters)
        shown = {"filters": filters, "operations": found, "more": more, "statuses": list(Status)}
        return await self._page("operations.html", visitor, shown)

    async def operation(self, request: Request, visitor: Visitor) -> Response:
        """One operation: what it was to do, what became of it, and each of its events."""
        operation_id = _id_in(request)
        operation = await self.context.find(operation_id) if self.context.ledger.exists() else None
        if operation is None:
            raise HTTPException(404, "There is no operation of that id.")
        action, result = self.context.actions[operation.action], Result(operation)
        shown = {
            "operation": operation,
            "card": await self._card_of(operation),
            "summary": action.summary(result) or operation.error,
            "facts": action.facts(result, self.context.now),
            "items": operation.details.items if isinstance(operation.details, PruneDetails) else (),
            "history": await history_of(self.context, operation),
        }
        return await self._page("operation.html", visitor, shown)

    async def _card_of(self, operation: Operation) -> Card | None:
        try:
            one = await pending_one(self.context, operation.id, approve=False)
        except (ConfirmationInvalidError, ConfirmationExpiredError):
            return None
        return Card(one, await self._present(one.operation))

    async def log(self, request: Request, visitor: Visitor) -> Response:
        """The event log, newest first, and whether it is whole."""
        verify = "verify" in request.query_params
        read = partial(read_log, self.context.ledger, _number_in(request, "before"), verify=verify)
        page = await anyio.to_thread.run_sync(read)
        return await self._page("log.html", visitor, {"log": page})

    # What all pages have

    async def _page(self, name: str, visitor: Visitor, shown: Mapping[str, Any], status: int = 200) -> Response:
        settings = self.context.settings
        about: dict[str, Any] = {
            "visitor": visitor,
            "may_decide": _may_decide(settings, visitor),
            "is_own": lambda each: settings.approval != "human" and is_same_person(visitor.name, each.principal),
            "account_of": settings.account_of,
            "now": self.context.now,
            "status_of": partial(shown_status, now=self.context.moment()),
        }
        try:
            freeze = await self.context.ledger.read(frozen) if self.context.ledger.exists() else None
        except BackupsError:
            freeze = None  # the log's page says what is wrong with the ledger
        return self._render(name, about | {"freeze": freeze} | dict(shown), status)

    def _render(self, name: str, shown: Mapping[str, Any], status: int = 200) -> HTMLResponse:
        return HTMLResponse(self.templates.get_template(name).render(shown), status)


def _may_decide(settings: Settings, visitor: Visitor) -> bool:
    try:
        check_approver(settings, visitor.name)
    except BackupsError:
        return False
    return True


def _id_in(request: Request) -> str:
    operation_id = str(request.path_params["operation_id"])
    if not OPERATION_ID.fullmatch(operation_id):
        raise HTTPException(404, "There is no operation of that id.")
    return operation_id


def _number_in(request: Request, name: str) -> int:
    """A number out of the address, 0 where there is none."""
    raw = request.query_params.get(name, "")
    return int(raw) if raw.isascii() and raw.isdecimal() and len(raw) <= _MOST_DIGITS else 0
