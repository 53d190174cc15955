"""What an examination tells."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        todo: What to do about it; empty when it is ok.
        details: More lines about it.
    """

    part: str
    verdict: Severity
    what: str
    todo: str = ""
    details: tuple[str, ...] = ()
