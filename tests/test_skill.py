"""The skill for hosts that take skills says what the prompts say: `python packaging/skill.py` writes it anew."""

import re
import runpy
from pathlib import Path

import yaml

from mcp_backups.tools import TOOLS
from mcp_backups.tools.prompts import WAYS

ROOT = Path(__file__).parent.parent
SKILL = ROOT / "skills" / "vps-backups" / "SKILL.md"
TEXT = SKILL.read_text(encoding="utf-8")


def test_it_is_what_the_prompts_say_now() -> None:
    assert runpy.run_path(str(ROOT / "packaging" / "skill.py"))["skill"]() == TEXT


def test_hosts_find_what_it_is_for() -> None:
    """Of all skills a host's model sees name and description alone; the limits are those of the format."""
    head = yaml.safe_load(TEXT.split("---\n")[1])
    assert head.keys() == {"name", "description"}
    assert head["name"] == SKILL.parent.name
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", head["name"])
    assert len(head["description"]) <= 1024
    assert all(word in head["description"].lower() for word in ("vps", "backup", "snapshot", "restore", "roll back"))
    assert len(TEXT.splitlines()) < 500


def test_it_holds_every_way_whole_and_leaves_no_sample_in_it() -> None:
    assert re.findall(r"^## (.*)$", TEXT, re.MULTILINE) == [way.title for way in WAYS.values()]
    assert all(
        way.compose({"server_id": "7"}).splitlines()[-1].replace("7", "SERVER_ID") in TEXT for way in WAYS.values()
    )
    assert re.findall(r"\d{5,}", TEXT) == []
    assert {"SERVER_ID", "BACKUP_ID", "TIME"} <= set(re.findall(r"[A-Z_]{4,}", TEXT))


def test_it_calls_no_tool_that_is_not_there() -> None:
    called = set(re.findall(r"\b([a-z]+_[a-z_]+)\(", TEXT))
    assert called <= {tool.name for tool in TOOLS}
    assert len(called) >= 6
