"""Names of settings that are meant to be ours and are misspelt, told from those of other products."""

import re
import unicodedata
from collections.abc import Collection

from mcp_backups.text import safe_text

_FEW_LETTERS = 2
_FROM_KUBERNETES = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$")
"""What Kubernetes adds to the environment for a service that is called as we are."""

_OF_OURS = re.compile("MCP|VPS|BACKUP")
"""Words of our names: two of them are no other product's."""

_GUARD = re.compile("(READONLY|KEEPMIN|PROTECTED(SERVERS|BACKUPS)|APPROV(AL|ERS)|PER(HOUR|DAY)|SAFETYBACKUP)$")
"""How names end that set a rule: whoever sets `VPS_BACKUPS_READ_ONLY` or `BACKUPS_READ_ONLY` relies on it."""


def is_misspelt(name: str, known: Collection[str]) -> bool:
    """Whether a name that is none of the known ones is likely to be meant as one of them.

    It begins as ours do, or is one of ours but for a letter or two, whatever its case and the signs between letters.
    Other products have names as near as GCP_BACKUP_BUCKET, WP_BACKUPS_DIR and VPN_API_TOKEN: so the first three letters
    must be ours in some order, unless the whole name is one of ours but for one letter, or ends as a rule of ours does.
    """
    letters = _letters(name)
    if letters in {"MCPBACKUPS", "MCPBACKUP", "VPSAPI"} or _FROM_KUBERNETES.search(name.upper()):
        return False
    if _GUARD.search(letters) and (len(set(_OF_OURS.findall(letters))) > 1 or f"MCP{letters}" in map(_letters, known)):
        return True
    first = {frozenset(letters[:3]), frozenset(letters[:4])}  # four: one of them may be doubled
    if frozenset("MCP") in first:
        return min(_distances("MCPBACKUPS", letters[:12])[8:], default=9) <= _FEW_LETTERS
    if frozenset("VPS") in first:
        return letters.startswith("VPSAPI") or any(_distance(name, each) <= _FEW_LETTERS for each in known)
    return "BACKUPS" in letters and any(_distance(name, each) == 1 for each in known)


def _nearest(name: str, known: Collection[str]) -> str:
    """The known name that a misspelt one is likely to be meant for; empty if none is near, or two may be meant.

    `ALLOWED_SERVERS` ends as `SERVERS` does and looks like `IGNORED_SERVERS`: a wrong guess of a rule would do harm.
    """
    ends = [each for each in known if _letters(name).endswith(_gist(each))]
    near = [(min(_distance(_gist(name), _gist(each)), _distance(name, each)), each) for each in known]
    distance, found = min(near)
    end, is_near = max(ends, key=len, default=""), distance <= (len(_gist(name)) + 1) // 3
    if is_near and end and end != found and distance > _FEW_LETTERS:
        return ""
    return found if is_near else end


def name_shown(name: str) -> str:
    """A name that is none of ours; what nobody sees of it may be all that is wrong."""
    shown = safe_text(name)
    return shown if shown == name else f"{shown} (with spaces or invisible characters, or cut here)"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """How to go on with a sentence about a name that is none of the known ones."""
    found = _nearest(name, known)
    return f"; did you mean {found}?" if found else "."


def _gist(name: str) -> str:
    return _letters(name).removeprefix("MCPBACKUPS").removeprefix("MCPBACKUP")


def _letters(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", unicodedata.normalize("NFKC", name).upper())


def _distance(name: str, other: str) -> int:
    return _distances(_letters(name), _letters(other))[-1]


def _distances(word: str, other: str) -> list[int]:
    """How many letters set a word apart from each beginning of another, the whole of it last.

    A letter that is missing, too many or another one counts as 1, and so do two that are swapped.
    """
    above, row = list[int](), list(range(len(other) + 1))
    for i, letter in enumerate(word):
        above, before, row = row, above, [i + 1]
        for j, its in enumerate(other):
            least = min(above[j + 1] + 1, row[j] + 1, above[j] + (letter != its))
            if i and j and letter == other[j - 1] and word[i - 1] == its:
                least = min(least, before[j - 1] + 1)
            row.append(least)
    return row
