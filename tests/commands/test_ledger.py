"""`mcp-backups ledger accept`, and what the other commands say of a ledger of which part is missing."""

import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from mcp_backups.cli import main
from mcp_backups.commands.doctor import examine_ledger
from mcp_backups.ledger import SqliteLedger
from mcp_backups.operations.operation import Operation
from mcp_backups.sandbox import Emulator
from mcp_backups.settings import Settings
from mcp_backups.transport import open_sandbox_context
from tests.operations.made import begun
from tests.operations.tampering import Tampering, cut, empty, forged, remove, replace_with_a_new_one, sql
from tests.stage import NOW, MakeSettings, ManualClock, session

Call = Callable[..., tuple[int, str, str]]

LOST = {
    "removed": (remove, "it is gone, though event 3 was recorded here"),
    "emptied": (empty, "it is gone, though event 3 was recorded here"),
    "cut": (cut(1), "it ends at event 2, but event 3 was recorded here"),
    "replaced": (replace_with_a_new_one, "it is empty, but event 3 was recorded here"),
    "all rows gone": (
        sql("DELETE FROM events", "DELETE FROM operations"),
        "it is empty, but event 3 was recorded here",
    ),
}
lost = pytest.mark.parametrize(("lose", "missing"), LOST.values(), ids=LOST.keys())


@pytest.fixture
def command(state_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    for name in os.environ:
        if name.startswith(("MCP_BACKUPS_", "VPS_API_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(state_dir))

    def call(*arguments: str) -> tuple[int, str, str]:
        return main(arguments), *capsys.readouterr()

    return call


@pytest.fixture
def path(state_dir: Path) -> Path:
    """The file of a ledger of three plans."""
    ledger = SqliteLedger(state_dir, Operation, lambda: NOW)
    for _ in range(3):
        anyio.run(ledger.write, partial(_save, begun()))
    ledger.close()
    return ledger.path


def _save(saved: Operation, entries: object) -> None:
    entries.save(saved)  # type: ignore[attr-defined]


@lost
def test_what_is_missing_is_told_accepted_and_recorded(
    command: Call, path: Path, lose: Tampering, missing: str
) -> None:
    lose(path)
    code, out, err = command("audit", "--verify")
    assert (code, missing in out + err) == (1, True)
    assert command("ledger", "accept") == (
        0,
        f"Accepted, and recorded: {missing}. The ledger goes on from what is there.\n",
        "",
    )
    code, out, err = command("audit", "--verify")
    assert (code, "chain intact" in out) == (0, True)
    assert f"the operator accepted: {missing}" in command("audit")[1]
    assert command("ledger", "accept") == (
        0,
        "Nothing that was recorded here is missing: there is nothing to accept.\n",
        "",
    )


@lost
def test_the_doctor_says_what_is_missing_and_how_to_go_on(
    path: Path, clock: ManualClock, lose: Tampering, missing: str
) -> None:
    lose(path)
    found = anyio.run(examine_ledger, Settings(state_dir=path.parent), clock.clock)
    assert (found.verdict, missing in found.what) == ("failure", True)
    assert "`mcp-backups ledger accept`" in found.todo


@pytest.mark.parametrize(
    "tampering",
    [
        sql("UPDATE operations SET status = 'failed' WHERE seq = 1"),
        sql("UPDATE events SET packed = edited(packed, '501', '502')"),
        sql("DELETE FROM operations WHERE seq = 2"),
        sql("UPDATE events SET operation_id = char(27) || '[2J' || char(10) || 'forged' WHERE seq = 2"),
        sql("UPDATE operations SET id = char(27) || '[2J' || char(10) || 'forged' WHERE seq = 2"),
        forged("approved"),
    ],
)
def test_what_was_changed_is_not_accepted_and_reaches_no_terminal(
    command: Call, path: Path, clock: ManualClock, tampering: Tampering
) -> None:
    tampering(path)
    code, out, err = command("ledger", "accept")
    assert (code, out) == (1, "")
    assert "cannot be trusted" in err
    assert "move it away" in err
    for words in (("audit",), ("audit", "--verify"), ("audit", "--export"), ("operations",), ("operations", "--json")):
        _, out, err = command(*words)
        assert "\x1b" not in out + err
        assert "\nforged" not in out + err
    found = anyio.run(examine_ledger, Settings(state_dir=path.parent), clock.clock)
    assert (found.verdict, "move it away" in found.todo) == ("failure", True)


def test_without_a_ledger_there_is_nothing_to_accept_and_none_is_made(command: Call, state_dir: Path) -> None:
    assert command("ledger", "accept")[0] == 0
    assert not state_dir.exists()


def test_while_another_process_holds_the_ledger_it_is_busy(
    command: Call, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_backups.ledger.sqlite.LOCK_WAIT_SECONDS", 0.05)
    cut(1)(path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    code, _, err = command("ledger", "accept")
    holder.close()
    assert (code, err.startswith("mcp-backups: busy: ")) == (1, True)
    assert command("ledger", "accept")[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("operations",),
        ("operations", "--json"),
        ("operations", "settle", "op_aaaaaaaaaaaaaaaa", "--as", "failed"),
        ("audit",),
        ("audit", "--verify"),
        ("ledger", "accept"),
    ],
)
def test_the_sandboxs_ledger_is_not_mistaken_for_the_accounts(
    command: Call, path: Path, words: tuple[str, ...]
) -> None:
    before = path.read_bytes()
    code, out, err = command("--sandbox", *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "--sandbox does not go with it" in err
    assert path.read_bytes() == before


@pytest.mark.parametrize("rules", [{}, {"key_file": Path("/nowhere")}])
def test_play_on_the_sandbox_uses_up_nothing_of_the_account(
    state_dir: Path, make_settings: MakeSettings, rules: dict[str, Path]
) -> None:
    async def play(settings: Settings) -> Path:
        async with open_sandbox_context(settings, 0.1) as context:
            await context.record(begun())
            return context.settings.state_dir

    made = anyio.run(play, make_settings(**rules))
    assert not made.exists()
    assert not state_dir.exists()


@pytest.mark.anyio
@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize(
    "tampering",
    [
        forged("approved"),
        forged("sending"),
        cut(1),
        remove,
        empty,
        sql("UPDATE operations SET sent = 0"),
        sql("DELETE FROM operations WHERE seq = 1"),
    ],
)
async def test_nothing_is_sent_on_the_word_of_a_ledger_that_was_tampered_with(
    emulator: Emulator, make_settings: MakeSettings, clock: ManualClock, running: bool, tampering: Tampering
) -> None:
    settings = make_settings()
    path = settings.state_dir / "ledger.sqlite3"
    async with session(emulator, settings, clock) as agent:
        await agent.call("create_backup", server_id=12345)
        plan = await agent.call("delete_backup", backup_id=499)
        arguments = {"backup_id": 499, "confirm": True, "operation_id": plan.operation}
        if running:
            tampering(path)
            refused = await agent.call("delete_backup", **arguments)
            listed = await agent.call("list_backups")
    if not running:
        tampering(path)
        async with session(emulator, settings, clock) as agent:
            refused = await agent.call("delete_backup", **arguments)
            listed = await agent.call("list_backups")
    assert (refused.code, "Nothing was changed." in refused.text) == ("ledger_unavailable", True)
    assert "accept" not in refused.text
    assert not listed.is_error
    assert (emulator.count("DELETE"), emulator.count("POST")) == (0, 1)
