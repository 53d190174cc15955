"""Telling people through Apprise what waits for an approver, what was decided, and what became unknown.

A task beside the server reads that from the ledger, so that no operation ever waits for a message. Of the processes on
one ledger one tells; none tells what was so before it began.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import anyio.to_thread
from pydantic import SecretStr

from mcp_backups.errors import ConfigError
from mcp_backups.operations import Context, Entries, Operation, Result, Status
from mcp_backups.text import quoted, stamp

if TYPE_CHECKING:
    from apprise import Apprise

Send = Callable[[str], Awaitable[bool]]
"""Sends a message to every address; whether all took it."""

LOOK_SECONDS = 5.0
GAP_SECONDS = 300.0
"""At most one message within it."""
PAUSES = (10.0, 60.0)
"""Seconds before the second try, and before the third, which is the last."""

_MOST_LINES = 20
_TOLD = frozenset({Status.WAITING, Status.APPROVED, Status.UNKNOWN})

_log = logging.getLogger(__name__)

_Seen = dict[str, Operation]


async def keep_told(context: Context, send: Send) -> None:
    """Tell what is new, until cancelled; whatever goes wrong with it is logged, and no more."""
    known: _Seen | None = None
    lines: list[str] = []
    quiet_until = 0.0
    while True:
        await context.clock.sleep(LOOK_SECONDS)
        try:
            known, news = await _look(context, known)
            # All look, so that another can go on at once; only the one that tells keeps what is still to be told.
            is_here = context.ledger.exists() and await context.liveness.has_turn("notify")
            lines = [*lines, *news] if is_here else []
            if lines and context.clock.ticks() >= quiet_until:
                text = _message(lines, context.settings.console_url)
                lines, quiet_until = [], context.clock.ticks() + GAP_SECONDS
                await _send(context, send, text)
        except Exception as error:  # noqa: BLE001 - nothing that goes wrong here may end the server
            # No more than its kind: an address, which is a secret, may stand in the rest.
            _log.warning("What is new could not be looked up or told: %s", type(error).__name__)


async def _look(context: Context, before: _Seen | None) -> tuple[_Seen, list[str]]:
    """What is to be told of now, and a line for each thing that is new since the look before; none at the first."""
    if not context.ledger.exists():
        return {}, []

    def read(entries: Entries) -> tuple[_Seen, list[Operation]]:
        now = {each.id: each for each in entries.under_way(_TOLD)}
        past = [entries.get(each) for each in before or {} if each not in now]
        return now, [each for each in past if each]

    now, past = await context.ledger.read(read)
    if before is None:
        return now, []
    changed = [each for each in reversed(now.values()) if each.id not in before or _is_news(each, before[each.id])]
    decided = [each for each in past if each.decision != before[each.id].decision]
    return now, [_line(context, each) for each in (*changed, *decided)]


def _is_news(operation: Operation, before: Operation) -> bool:
    return (operation.status, operation.decision) != (before.status, before.decision)


def _line(context: Context, operation: Operation) -> str:
    """One operation, in our words alone: nothing that others wrote, so nothing that they could have people click."""
    account = context.settings.account_of(operation.account)
    which = f"{operation.id} (account {account})" if account else operation.id
    if operation.status is Status.UNKNOWN:
        return f"{which}: {context.actions[operation.action].summary(Result(operation))}"
    told = context.actions[operation.action].summary(Result(operation.as_planned))
    if decision := operation.decision:
        verdict = "declined" if operation.status is Status.DECLINED else "approved"
        return f"{which} was {verdict} by {quoted(decision.by)} ({decision.how}). It was: {told}"
    end = operation.life.since.wall + operation.life.lasts
    return f"{which} waits for an approver until {stamp(end)}: {told}"


def _message(lines: Sequence[str], console_url: str | None) -> str:
    shown = [*lines[:_MOST_LINES], *([f"And {len(lines) - _MOST_LINES} more."] if len(lines) > _MOST_LINES else [])]
    return "\n".join([*shown, *([console_url] if console_url else [])])


async def _send(context: Context, send: Send, text: str) -> None:
    for pause in (*PAUSES, None):
        if await send(text):
            return
        if pause is not None:
            await context.clock.sleep(pause)
    _log.warning("A message was given up after %d tries.", len(PAUSES) + 1)


def through_apprise(addresses: Sequence[SecretStr]) -> Send:
    """What sends to Apprise addresses; they are looked at when there is something to send."""

    def notify(text: str) -> bool:
        known = check_addresses(addresses)
        return bool(known.notify(text, title="mcp-backups", body_format="text"))

    async def send(text: str) -> bool:
        return await anyio.to_thread.run_sync(notify, text, abandon_on_cancel=True)

    return send


def check_addresses(addresses: Sequence[SecretStr]) -> "Apprise":
    """Whether Apprise knows each of them. Each is a secret: from here on the libraries log nothing of them.

    Raises:
        ConfigError: One is none; its place is told, not what it is.
    """
    import apprise  # noqa: PLC0415 - an extra, and half a second

    for name in ("apprise", "requests", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    known = apprise.Apprise()
    for number, address in enumerate(addresses, start=1):
        if not known.add(address.get_secret_value()):
            raise ConfigError(f"MCP_BACKUPS_NOTIFY: its address number {number} is none that Apprise knows.")
    return known
