"""`mcp-backups freeze` and `thaw`: nothing is sent by any process on this ledger until that is lifted."""

import sys
from contextlib import closing
from functools import partial

import anyio

from mcp_backups.clock import system_clock
from mcp_backups.commands.approvals import require_terminal
from mcp_backups.ledger import ledger_for, open_for_audit
from mcp_backups.operations import Operation, check_approver, check_is_another, set_frozen
from mcp_backups.settings import Settings


def freeze(settings: Settings, by: str, reason: str) -> int:
    """Freeze everything. Returns the exit code."""
    was_free = _set(settings, by, reason, freeze=True)
    _say("Nothing is sent any more until `mcp-backups thaw`." if was_free else "Everything is frozen already.")
    return 0


def thaw(settings: Settings, by: str) -> int:
    """Lift that; by whoever may approve, on a terminal. Returns the exit code."""
    require_terminal("thaw")
    check_approver(settings, by)
    _check_is_another(settings, by)
    was_frozen = _set(settings, by, "", freeze=False)
    _say("Lifted: operations are sent again." if was_frozen else "Nothing is frozen.")
    return 0


def _set(settings: Settings, by: str, reason: str, *, freeze: bool) -> bool:
    with closing(ledger_for(settings, Operation, system_clock())) as ledger:
        return anyio.run(partial(set_frozen, ledger, by, reason, freeze=freeze))


def _check_is_another(settings: Settings, by: str) -> None:
    with open_for_audit(settings, Operation) as entries:
        if entries is not None:
            check_is_another(settings, entries, by, system_clock().moment())


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
