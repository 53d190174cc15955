"""`mcp-backups approvals`, `approve` and `decline`: what waits for an approver, and what they decide on a terminal."""

import getpass
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mcp_backups.commands.terminal import ACCENT, Whole, open_console, printable, toned
from mcp_backups.errors import ConfigError
from mcp_backups.operations import (
    Context,
    Decision,
    Operation,
    Pending,
    Present,
    RenderedPlan,
    Status,
    check_approver,
    decide,
    pending,
    pending_one,
    there_now,
)
from mcp_backups.settings import Settings
from mcp_backups.text import age, listed, plural, quoted, size, stamp
from mcp_backups.transport import open_idle_context

_WATCH_SECONDS = 1.0
_LOGIN_UID = Path("/proc/self/loginuid")
_NO_LOGIN = 2**32 - 1
_FATES = {"delete": "delete", "later": "delete later", "keep": "keep"}

_Known = TypeVar("_Known")


def system_user(environ: Mapping[str, str] = os.environ, login_uid: Path = _LOGIN_UID) -> str:
    """Who sits at the terminal: as whom they logged in, whatever user they became since, where that can be told."""
    try:
        import pwd  # noqa: PLC0415 - Windows has none

        uid = int(login_uid.read_text(encoding="ascii"))
        if uid != _NO_LOGIN:
            return pwd.getpwuid(uid).pw_name
    except (ImportError, OSError, ValueError, KeyError):
        pass
    return environ.get("SUDO_USER") or getpass.getuser()


def require_terminal(command: str) -> None:
    """Whether somebody sits there, and not a program.

    Raises:
        ConfigError: Nobody does.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError(f"{command} asks a person on a terminal, and this is none.")


def show_approvals(settings: Settings, *, as_json: bool, watch: bool = False) -> int:
    """Print what waits for an approver, and what is approved and not begun. Returns the exit code.

    Args:
        settings: Where the ledger is; of one account, what is of that one alone.
        as_json: Print a JSON line for each instead of a table.
        watch: Go on, and print it anew whenever it is not the same any more, until Ctrl-C.
    """
    before: list[Pending] | None = None
    while True:
        every = _in_context(settings, pending)
        found = [each for each in every if settings.account in {"", each.operation.account}]
        if found != before:
            _print_all(found, settings, as_json=as_json)
        before = found
        if not watch:
            return 0
        sys.stdout.flush()
        time.sleep(_WATCH_SECONDS)


def approve(settings: Settings, operation_id: str, by: str) -> int:
    """Show a plan beside what is there now, and let the approver type their consent. Returns the exit code.

    Raises:
        ConfigError: This is no terminal.
        BackupsError: It cannot be decided on; nothing has changed.
    """
    require_terminal("approve")
    check_approver(settings, by)
    one = _in_context(settings, lambda context: pending_one(context, operation_id, approve=True))
    account = settings.account_of(one.operation.account)
    theirs = settings.for_account(account) if account else settings
    now = _in_context(theirs, lambda context: there_now(context, one.operation))
    open_console().print(plan_view(one, now, account))
    try:
        typed = input(f"\n{one.plan.label}; anything else leaves it as it is: ")
    except EOFError:
        typed = ""
    if not one.plan.is_confirmed_by(typed):
        _say(f"That is not what was asked for: {one.operation.id} is as it was, and nothing was decided.")
        return 1
    decided = _in_context(settings, partial(_decide, one, by, approve=True))
    _say(f"{decided.id} is approved. It is carried out when it is called again, until {_ends(decided)}.")
    return 0


def decline(settings: Settings, operation_id: str, reason: str, by: str) -> int:
    """Record an approver's no, which also takes an approval back. Returns the exit code. Raises as `approve`."""
    check_approver(settings, by)
    one = _in_context(settings, lambda context: pending_one(context, operation_id, approve=False))
    decided = _in_context(settings, partial(_decide, one, by, approve=False, reason=reason))
    _say(f"{decided.id} is declined; nothing more is sent for it.")
    return 0


def _in_context(settings: Settings, work: Callable[[Context], Awaitable[_Known]]) -> _Known:
    async def run() -> _Known:
        async with open_idle_context(settings) as context:
            return await work(context.for_a_call())

    return anyio.run(run)


async def _decide(one: Pending, by: str, context: Context, *, approve: bool, reason: str = "") -> Operation:
    decision = Decision(by=by, how="terminal", at=context.moment(), plan=one.mac, reason=reason)
    return await decide(context, one.operation.id, decision, approve=approve)


# What is printed


def _print_all(found: list[Pending], settings: Settings, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.writelines(json.dumps(_flat(each, settings)) + "\n" for each in found)
    elif found:
        open_console().print(Whole(_table(found, settings, datetime.now(UTC))))
    else:
        _say("Nothing waits for an approver.")


def _flat(one: Pending, settings: Settings) -> dict[str, object]:
    operation = one.operation
    return {
        **({"account": settings.account_of(operation.account)} if settings.accounts else {}),
        "status": operation.status,
        "since": operation.life.since.wall.isoformat(),
        "until": (operation.life.since.wall + operation.life.lasts).isoformat(),
        "asked_by": operation.principal,
        "approved_by": operation.decision.by if operation.decision else None,
        **one.plan.model_dump(mode="json", exclude={"expected"}),
    }


def _table(found: list[Pending], settings: Settings, now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("since", "operation", "status", "until"):
        table.add_column(name, no_wrap=True)
    has_principals = any(each.operation.principal for each in found)
    for name in ["asked for by"] * has_principals + ["account"] * bool(settings.accounts):
        table.add_column(name, overflow="fold")
    table.add_column("what")
    for operation, plan, _ in found:
        waited = age(operation.life.since.wall, now)
        table.add_row(
            waited,
            Text(operation.id, ACCENT),
            toned(operation.status),
            _ends(operation),
            *([printable(operation.principal)] if has_principals else []),
            *([settings.account_of(operation.account) or "-"] if settings.accounts else []),
            plan.summary,
        )
    return table


def plan_view(one: Pending, now: Present, account: str = "") -> RenderableType:
    """A whole plan for a terminal: our facts, what is there now, and last what others wrote."""
    operation, plan, _ = one
    status = "approved" if operation.status is Status.APPROVED else "waits"
    parts: list[RenderableType] = [
        Text.assemble((plan.operation_id, "bold"), "  ", (plan.call, ACCENT)),
        Text(plan.summary, style="bold"),
        _pairs({name.replace("_", " "): _shown(value) for name, value in plan.facts.items()}),
    ]
    if plan.backups:
        parts += [Text(), _backups(plan)]
    parts += [
        Text(),
        _pairs(
            {name: told for name, told in {"account": account, "asked for by": operation.principal}.items() if told}
        ),
        _pairs({"there now": _present(now, operation), status: f"until {_ends(operation)}"}),
        Text(),
        Text("Written by others, and no word of mcp-backups:", style="dim"),
        _pairs({name: quoted(text) for name, text in plan.written_by_others.items()}),
    ]
    return Group(*parts)


def _pairs(told: Mapping[str, str]) -> Whole:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in told.items():
        table.add_row(f"  {name}", printable(value))
    return Whole(table)


def _backups(plan: RenderedPlan) -> Whole:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("plan", "backup", "made (UTC)", "size", "status"):
        table.add_column(name, no_wrap=True)
    table.add_column("why")
    table.add_column("description, by others")
    for fate, word in _FATES.items():
        for backup, reason in ((item.backup, item.reason) for item in plan.backups if item.fate == fate):
            cells = (str(backup.id), stamp(backup.created_at), size(backup.size_mb), quoted(backup.status))
            described = quoted(backup.description) if backup.description else ""
            table.add_row(word, *cells, "" if fate == "later" else reason, described)
    return Whole(table)


def _present(now: Present, operation: Operation) -> str:
    if now.unseen:
        return f"not known ({now.unseen}); it is read again before anything is sent"
    if now.gone or now.changed:
        told = {"gone": now.gone, "changed": now.changed}
        return "; ".join(f"{word}: {listed(ids, 10)}" for word, ids in told.items() if ids)
    if operation.action == "restore_server":
        return "as the plan shows it"
    return f"as the plan shows it; {plural(now.good_left, 'proven backup')} would be left"


def _shown(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _ends(operation: Operation) -> str:
    """Until when it stays as it is, by the wall here and in UTC."""
    end = operation.life.since.wall + operation.life.lasts
    return f"{end.astimezone():%Y-%m-%d %H:%M} here ({stamp(end)})"


def _say(line: str) -> None:
    sys.stdout.write(printable(line) + "\n")
