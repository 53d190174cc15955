"""`mcp-backups operations settle`: what an operator found out, recorded."""

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from mcp_backups.cli import main
from mcp_backups.ledger import SqliteLedger
from mcp_backups.operations import Operation, RestoreDetails, Status
from tests.stage import NOW, ManualClock, recorded

RESTORE = "op_" + "r" * 16

Put = Callable[[Status], None]


@pytest.fixture
def put(state_dir: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Puts a restore of that status into the ledger."""
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(state_dir))

    def put_restore(status: str) -> None:
        operation = Operation(
            id=RESTORE,
            action="restore_server",
            status=Status(status),
            details=RestoreDetails(),
            arguments={"server_id": 12345, "backup_id": 499, "safety_backup": False},
            server_id=12345,
            backup_id=499,
            approved_by="person",
            created=clock.moment(),
            sent=clock.moment(),
            error_code="outcome_unknown",
            error="VPS.org gave no certain answer.",
        )
        ledger = SqliteLedger(state_dir, Operation, lambda: NOW)
        try:
            anyio.run(ledger.write, lambda entries: entries.save(operation))
        finally:
            ledger.close()

    return put_restore


@pytest.mark.parametrize("status", ["unknown", "sending"])
@pytest.mark.parametrize("verdict", ["succeeded", "failed"])
def test_the_verdict_is_recorded_beside_who_had_approved_it(
    put: Put, state_dir: Path, capsys: pytest.CaptureFixture[str], status: Status, verdict: str
) -> None:
    put(status)
    assert main(["operations", "settle", RESTORE, "--as", verdict]) == 0
    assert capsys.readouterr().out == f"{RESTORE} (restore_server on server 12345) is recorded as {verdict}.\n"
    (settled,) = recorded(state_dir)
    assert (settled.status, settled.approved_by, settled.evidence) == (verdict, "person", "settled by the operator")
    assert settled.changed == ("done" if verdict == "succeeded" else "nothing")
    assert bool(settled.error) == (verdict == "failed")


def test_what_is_known_stays_as_it_is(put: Put, state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(Status.ACCEPTED)
    before = recorded(state_dir)
    assert main(["operations", "settle", RESTORE, "--as", "failed"]) == 1
    assert f"{RESTORE} is accepted: that is known." in capsys.readouterr().err
    assert recorded(state_dir) == before


@pytest.mark.usefixtures("put")
def test_without_a_ledger_none_is_made(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["operations", "settle", RESTORE, "--as", "failed"]) == 1
    assert "There is no operation of that id." in capsys.readouterr().err
    assert not state_dir.exists()


@pytest.mark.usefixtures("put")
@pytest.mark.parametrize("arguments", [[], [RESTORE], [RESTORE, "--as", "unknown"], ["--as", "failed"]])
def test_a_verdict_must_be_given_in_full(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["operations", "settle", *arguments])
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err
