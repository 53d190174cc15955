"""What every refusal must be."""

import re

from mcp_backups.settings import Settings
from tests.stage import Answer

LIFTS = re.compile(
    "|".join(rf"\b{name}\b" for name in Settings.model_fields)
    + r"|MCP_BACKUPS|VPS_API|--\w|\bsettings?\b|\bconfirm\b|\ballow_duplicate\b|\bflag\b",
    re.IGNORECASE,
)
"""What would lift a rule: every setting's name, and the arguments that sound like it."""


def assert_refused(answer: Answer, code: str) -> None:
    """Refused with that code, with nothing changed and not a word on how the rule could be lifted."""
    assert answer.code == code, answer.text
    assert answer.structured is None
    assert "Nothing was changed." in answer.text
    told = answer.text.partition(": ")[2]
    assert LIFTS.search(told) is None, told
