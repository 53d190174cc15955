"""The ledger: what was planned, sent and became of it, durable before anybody is told; and which processes are alive.

`Ledger` and `Transaction` are the interface. Behind them another database can take SQLite's place.
"""

from .events import LOSS_ACCEPTED, OF_THE_LEDGER, Event, wholes
from .key import KEY_BYTES, installation_key
from .liveness import Liveness
from .sqlite import Ledger, open_for_audit
from .transaction import Transaction

__all__ = [
    "KEY_BYTES",
    "LOSS_ACCEPTED",
    "OF_THE_LEDGER",
    "Event",
    "Ledger",
    "Liveness",
    "Transaction",
    "installation_key",
    "open_for_audit",
    "wholes",
]
