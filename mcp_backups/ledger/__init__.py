"""The ledger: what was planned, sent and became of it, durable before anybody is told; and which processes are alive.

`Ledger` and `Transaction` are the interface. Behind them another database can take SQLite's place.
"""

from .events import Event
from .liveness import Liveness
from .sqlite import Ledger, Transaction, open_for_audit

__all__ = ["Event", "Ledger", "Liveness", "Transaction", "open_for_audit"]
