"""One entry of the event log, and the hash that chains it to the one before."""

import hashlib
import json
from typing import NamedTuple

GENESIS = "0" * 64
"""What the first event is chained to."""


class Event(NamedTuple):
    """One step of one operation, as it was recorded.

    Attributes:
        seq: Its number, from 1 without gaps.
        at: UTC, ISO 8601.
        document: The operation as it then was, JSON.
        hash: SHA-256 over the previous event's hash and this event, hexadecimal.
    """

    seq: int
    at: str
    operation_id: str
    status: str
    document: str
    hash: str

    def expected_hash(self, previous: str) -> str:
        content = json.dumps([previous, self.seq, self.at, self.operation_id, self.status, self.document])
        return hashlib.sha256(content.encode()).hexdigest()
