"""The ledger: what was planned, sent and became of it, durable before anybody is told; and which processes are alive.

`Ledger`, `Transaction` and `Liveness` are the interface; `ledger_for` opens the store that the settings name.
"""

from .events import LOSS_ACCEPTED, OF_THE_LEDGER, Event, wholes
from .interface import Ledger, Liveness
from .key import KEY_BYTES, installation_key
from .sqlite import SqliteLedger
from .stores import ledger_for, open_for_audit
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
