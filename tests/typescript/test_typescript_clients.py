"""The official TypeScript SDKs, which most MCP clients are built on: 1.x (the handshake) and 2.x (2026-07-28)."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mcp_backups.tools import TOOLS
from tests.consent.conftest import House
from tests.process import COMMAND
from tests.stage import PATIENCE

HERE = Path(__file__).parent
NODE, NPM = shutil.which("node"), shutil.which("npm")
OLDEST_NODE = 20
INSTALL = ("install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
INSTALL_SECONDS = 300.0

Session = dict[str, Any]

YES = {"action": "accept", "content": {"delete": True}}
NAME = {"action": "accept", "content": {"server_name": "web-server-01"}}
NO = {"action": "decline"}


def node_version() -> int:
    if not NODE or not NPM:
        return 0
    told = subprocess.run([NODE, "--version"], capture_output=True, text=True, timeout=PATIENCE, check=True)
    found = re.match(r"v(\d+)", told.stdout)
    return int(found[1]) if found else 0


pytestmark = [
    pytest.mark.skipif(not (NODE and NPM), reason="node and npm are not installed; the TypeScript SDKs need them"),
    pytest.mark.skipif(0 < node_version() < OLDEST_NODE, reason="the TypeScript SDK 2.x needs Node 20 or newer"),
    pytest.mark.parametrize("sdk", [1, 2]),
    pytest.mark.parametrize("transport", ["stdio", "HTTP"]),
    pytest.mark.unmeasured,
]


def installed(config: pytest.Config, script: Path) -> Path:
    """A script with what its package.json names beside it, installed once for each version of that.

    Tests that need the same may begin at once in several processes, and npm does not wait for another npm.
    """
    package = script.with_name("package.json").read_bytes()
    folder = config.cache.mkdir(f"{script.parent.name}-{hashlib.sha256(package).hexdigest()[:12]}")
    with FileLock(folder / "lock", timeout=INSTALL_SECONDS):
        if not (folder / "installed").exists():
            (folder / "package.json").write_bytes(package)
            subprocess.run([str(NPM), *INSTALL], cwd=folder, timeout=INSTALL_SECONDS, check=True, capture_output=True)
            (folder / "installed").touch()
        return Path(shutil.copy(script, folder))


@pytest.fixture(scope="module")
def script(pytestconfig: pytest.Config) -> Path:
    """The client, with both SDKs."""
    return installed(pytestconfig, HERE / "client.mjs")


class Client:
    """Runs sessions of one SDK over one transport."""

    def __init__(self, script: Path, house: House, sdk: int, transport: str) -> None:
        self._script, self._house, self._sdk, self._transport = script, house, sdk, transport

    def session(self, *calls: tuple[Any, ...], can_ask: bool) -> Session:
        """Make calls one after the other, each with what the user does when asked."""
        task: dict[str, Any] = {"sdk": self._sdk, "canAsk": can_ask, "calls": calls}
        if self._transport == "HTTP":
            url = self._house.url("auto")
            task |= {"url": url, "token": self._house.token(url)}
            environment = None
        else:
            task["command"], environment = COMMAND, self._house.environment("auto")
        ended = subprocess.run(
            [str(NODE), str(self._script)],
            input=json.dumps(task),
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        session: Session = json.loads(ended.stdout)
        return session


@pytest.fixture
def client(script: Path, house: House, sdk: int, transport: str) -> Client:
    return Client(script, house, sdk, transport)


def test_its_user_is_asked_before_anything_is_deleted_or_restored(client: Client, house: House) -> None:
    kept, gone = house.new_backup(), house.new_backup()
    restore = {"server_id": 12345, "backup_id": kept, "safety_backup": False, "wait_seconds": 0, "confirm": True}
    session = client.session(
        ("list_backups", {"server_id": 12345, "limit": 3}),
        ("delete_backup", {"backup_id": kept, "confirm": True}, NO),
        ("delete_backup", {"backup_id": gone, "confirm": True}, YES),
        ("restore_server", restore, YES),
        ("restore_server", restore, NAME),
        can_ask=True,
    )
    assert session["tools"] == [tool.name for tool in TOOLS]
    listed, refused, deleted, unconfirmed, restored = session["answers"]
    assert (listed["data"]["returned"], listed["isError"], listed["asked"]) == (3, False, [])
    assert refused["text"].startswith(
        "declined: The client answered no to the question. A client without a person at it does so by itself. "
        "Nothing was changed."
    )
    assert deleted["asked"][0].startswith(f"Delete backup {gone} of server 12345 ")
    assert unconfirmed["text"].startswith("declined: The question was answered, and the answer did not confirm it.")
    assert [each["data"]["approved_by"] for each in (deleted, restored)] == ["person", "person"]
    assert [len(each["asked"]) for each in session["answers"][1:]] == [1, 1, 1, 1]
    assert [house.deletes(kept), house.deletes(gone), house.restores(kept)] == [0, 1, 1]


def test_where_it_cannot_ask_a_plan_is_made_and_confirmed(client: Client, house: House) -> None:
    backup_id = house.new_backup()
    alone = {"backup_id": backup_id, "confirm": True}
    named = ("delete_backup", alone | {"operation_id": "$operation"})
    session = client.session(("delete_backup", alone), named, named, can_ask=False)
    plan, deleted, again = (answer["data"] for answer in session["answers"])
    assert (plan["status"], deleted["status"], again["replayed"]) == ("needs_confirmation", "succeeded", True)
    assert {each["operation_id"] for each in (plan, deleted, again)} == {plan["operation_id"]}
    assert house.deletes(backup_id) == 1
