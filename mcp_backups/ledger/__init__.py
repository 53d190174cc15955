"""The ledger: what was planned, sent and became of it, durable before anybody is told; and which processes are alive.

`Ledger`, `Transaction` and `Liveness` are the interface; `ledger_for` opens the store that the settings name.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from mcp_backups.clock import Clock, system_clock
from mcp_backups.settings import Settings

from .interface import Ledger, Liveness
from .key import KEY_BYTES, installation_key
from .sqlite import SqliteLedger
from .tables import LOSS_ACCEPTED, OF_THE_LEDGER, Event, Kept, wholes
from .transaction import Transaction

__all__ = [
    "KEY_BYTES",
    "LOSS_ACCEPTED",
    "OF_THE_LEDGER",
    "Event",
    "Ledger",
    "Liveness",
    "SqliteLedger",
    "Transaction",
    "installation_key",
    "ledger_for",
    "open_for_audit",
    "wholes",
]


def ledger_for(settings: Settings, kind: type[Kept], clock: Clock) -> Ledger[Kept]:
    """The ledger that the settings name: in PostgreSQL where an address is set, else in the state folder.

    Args:
        settings: Where it is, and where its key is.
        kind: What it keeps.
        clock: This process's.
    """
    if settings.ledger_url and settings.key_file:
        from .postgres import PostgresLedger  # noqa: PLC0415 - an extra, which most installations go without

        url = settings.ledger_url.get_secret_value()
        return PostgresLedger(url, kind, clock, settings.state_dir, settings.key_file)
    return SqliteLedger(settings.state_dir, kind, clock.wall, settings.key_file)


@contextmanager
def open_for_audit(settings: Settings, kind: type[Kept]) -> Iterator[Transaction[Kept] | None]:
    """The same as it is, for reading only; see `Ledger.audit`."""
    with closing(ledger_for(settings, kind, system_clock())) as ledger, ledger.audit() as entries:
        yield entries
