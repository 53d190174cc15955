"""One entry of the event log, and what chains it to the one before."""

import hashlib
import hmac
import json
from typing import NamedTuple

GENESIS = "0" * 64
"""What the first event is chained to."""

OF_THE_LEDGER = "ledger"
"""Stands in place of an operation's id where an event is about the ledger itself."""


class Event(NamedTuple):
    """One step of one operation, as it was recorded.

    Attributes:
        seq: Its number, from 1 without gaps.
        at: UTC, ISO 8601.
        document: The operation as it then was, JSON.
        hash: What version 0.1.0 chained it by: SHA-256 over the hash before and this event, hexadecimal; else empty.
        mac: HMAC-SHA256 over the MAC before and this event, hexadecimal; empty in a ledger that only 0.1.0 wrote to.
    """

    seq: int
    at: str
    operation_id: str
    status: str
    document: str
    hash: str = ""
    mac: str = ""

    def expected_hash(self, previous: str) -> str:
        return hashlib.sha256(self._content(previous)).hexdigest()

    def expected_mac(self, key: bytes, previous: str) -> str:
        return hmac.digest(key, self._content(previous), "sha256").hex()

    def _content(self, previous: str) -> bytes:
        content = [previous, self.seq, self.at, self.operation_id, self.status, self.document]
        return json.dumps(content).encode()
