"""`mcp-backups audit` and `operations`: the ledger as people read it, whole or damaged."""

import hmac
import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from mcp_backups.cli import main
from mcp_backups.ledger import SqliteLedger
from mcp_backups.operations import CreateDetails, DeleteDetails, Status
from mcp_backups.operations.operation import Operation
from tests.operations.made import operation
from tests.operations.tampering import connect
from tests.stage import NOW, MakeSettings, ManualClock


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Said]

CREATED, REFUSED = "op_aaaaaaaaaaaaaaaa", "op_bbbbbbbbbbbbbbbb"

NOTHING_YET = "There is no ledger yet: nothing has been recorded.\n"


@pytest.fixture
def command(
    make_settings: MakeSettings,
    state_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """`command("audit", "--verify")`, without a token."""
    make_settings()
    config = tmp_path / "config.toml"
    config.touch(mode=0o600)
    monkeypatch.setenv("MCP_BACKUPS_CONFIG", str(config))
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(state_dir))

    def call(*arguments: str) -> Said:
        code = main(arguments)
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture
def ledger(state_dir: Path, clock: ManualClock) -> Path:
    """The file of a ledger of two operations: a backup that was made, and a delete that was refused."""
    moment = clock.moment()
    wanted = Operation(
        id=CREATED,
        action="create_backup",
        status=Status.SENDING,
        details=CreateDetails(),
        arguments={"server_id": 12345, "description": ""},
        server_id=12345,
        server_name="web-server-01",
        approved_by="not_required",
        created=moment,
        sent=moment,
    )
    made = wanted.updated(status="succeeded", backup_id=502, evidence="its row in the list of backups")
    refused = Operation(
        id=REFUSED,
        action="delete_backup",
        status=Status.REFUSED,
        details=DeleteDetails(),
        arguments={"backup_id": 447},
        server_id=12362,
        server_name="build-runner-01",
        backup_id=447,
        approved_by="plan",
        created=moment,
        error_code="policy_denied",
        error="At least 1 must stay.",
    )
    written = SqliteLedger(state_dir, Operation, clock.wall)

    async def write() -> None:
        await written.write(lambda entries: [entries.save(operation) for operation in (wanted, refused, made)])

    anyio.run(write)
    written.close()
    return written.path


def tamper(ledger: Path, statement: str, *values: object) -> None:
    """Change the ledger behind the program's back."""
    with connect(ledger) as connection:
        connection.execute(statement, values)
    connection.close()


FORGERY = "UPDATE events SET packed = edited(packed, '447', '448') WHERE seq = 2"


@pytest.mark.usefixtures("ledger")
def test_audit_shows_who_did_what_to_which_backup_and_how_it_is_known(command: Command) -> None:
    said = command("audit")
    assert (said.code, said.err) == (0, "")
    at = NOW.strftime("%Y-%m-%d %H:%M:%SZ")
    assert [line.rstrip().split(maxsplit=4) for line in said.out.splitlines() if line.strip()] == [
        [CREATED, "create_backup", "web-server-01", "(12345)", "backup 502"],
        ["1", *at.split(), "sending", "approved by: not_required"],
        ["3", *at.split(), "succeeded", "evidence: its row in the list of backups"],
        [REFUSED, "delete_backup", "build-runner-01", "(12362)", "backup 447"],
        ["2", *at.split(), "refused", "approved by: plan; policy_denied: At least 1 must stay."],
        ["3", "events,", "chain", "intact"],
    ]


@pytest.mark.usefixtures("ledger")
def test_audit_of_one_operation_shows_and_verifies_only_that(command: Command) -> None:
    """However long the chain is, which `audit --verify` checks."""
    said = command("audit", CREATED)
    assert CREATED in said.out
    assert REFUSED not in said.out
    assert "2 events, as recorded; mcp-backups audit --verify checks the whole chain" in said.out


@pytest.mark.parametrize(
    "statement", ["UPDATE events SET at = '2020' WHERE seq = 3", "DELETE FROM events WHERE seq = 2"]
)
def test_an_operation_whose_events_were_changed_is_said_to_be_that(
    command: Command, ledger: Path, statement: str
) -> None:
    tamper(ledger, statement)
    assert "2 events, NOT to be trusted: changed since they were recorded" in command("audit", CREATED).out


def test_without_its_key_nobody_can_tell_whether_an_operation_is_as_it_was_recorded(
    command: Command, ledger: Path
) -> None:
    ledger.with_name("installation.key").unlink()
    assert "2 events, NOT to be trusted: the ledger's key cannot be read" in command("audit", CREATED).out


def test_a_plan_that_nobody_consented_to_is_shown_though_it_is_no_event(
    command: Command, ledger: Path, clock: ManualClock
) -> None:
    plan = operation(status="refused", error_code="policy_denied", error="At least 1 must stay.")
    written = SqliteLedger(ledger.parent, Operation, clock.wall)
    anyio.run(written.write_plan, lambda entries: entries.save(plan))
    written.close()
    said = command("audit", plan.id)
    assert "policy_denied: At least 1 must stay." in said.out
    assert "Nobody consented to it: a plan, which is no event of the chain." in said.out
    assert plan.id not in command("audit").out
    assert plan.id in command("operations").out


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("form", [(), ("--export",)])
def test_an_operation_that_is_not_in_the_ledger_is_said_to_be_unknown(command: Command, form: tuple[str, ...]) -> None:
    assert command("audit", "op_zzzzzzzzzzzzzzzz", *form) == (
        1,
        "",
        "The ledger has no events of op_zzzzzzzzzzzzzzzz.\n",
    )


@pytest.mark.usefixtures("ledger")
def test_an_intact_chain_is_verified_in_one_line(command: Command) -> None:
    assert command("audit", "--verify") == (0, "3 events, chain intact\n", "")


def test_an_export_lets_whoever_has_the_key_recompute_the_chain(command: Command, ledger: Path) -> None:
    installation_key = ledger.with_name("installation.key").read_bytes()
    key = hmac.digest(installation_key, b"mcp-backups ledger", "sha256")
    previous = "0" * 64
    events = command("audit", "--export").lines
    for event in events:
        content = [previous, *(event[name] for name in ("seq", "at", "operation_id", "status", "document"))]
        previous = hmac.digest(key, json.dumps(content).encode(), "sha256").hex()
        assert event["mac"] == previous
    assert [event["seq"] for event in events] == [1, 2, 3]
    assert [event["seq"] for event in command("audit", REFUSED, "--export").lines] == [2]


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        (FORGERY, "event 2 was changed or taken out"),
        ("UPDATE events SET at = '2020-01-01T00:00:00+00:00' WHERE seq = 1", "event 1 was changed or taken out"),
        ("DELETE FROM events WHERE seq = 2", "event 2 was changed or taken out"),
        ("DELETE FROM events WHERE seq = 3", f"operation {CREATED} is not as its last event says"),
        ("UPDATE operations SET status = 'declined' WHERE status = 'refused'", f"operation {REFUSED} is not as"),
        ("DELETE FROM operations WHERE status = 'refused'", "operation "),
    ],
)
def test_a_tampered_ledger_fails_verification(command: Command, ledger: Path, statement: str, fault: str) -> None:
    tamper(ledger, statement)
    said = command("audit", "--verify")
    assert said.code == 1
    assert f"chain BROKEN: {fault}" in said.out
    assert len(said.out.splitlines()) == 1


def test_a_tampered_ledger_is_still_shown_and_exported_and_said_to_be_broken(command: Command, ledger: Path) -> None:
    """A broken chain stops every write, so it is just then that people must be able to read it."""
    tamper(ledger, FORGERY)
    shown, exported = command("audit"), command("audit", "--export")
    assert shown.code == exported.code == 0
    assert "backup 448" in shown.out
    assert "3 events, chain BROKEN: event 2" in shown.out
    assert [event["seq"] for event in exported.lines] == [1, 2, 3]
    assert "chain BROKEN" in exported.err


def test_what_was_smuggled_into_the_ledger_does_not_reach_the_terminal(command: Command, ledger: Path) -> None:
    tamper(ledger, "UPDATE events SET status = ?, packed = ? WHERE seq = 2", "\x1b[2Jdone", b"not JSON")
    said = command("audit")
    assert said.code == 0
    assert "\x1b" not in said.out
    assert "its document cannot be read" in said.out


@pytest.mark.usefixtures("ledger")
def test_operations_are_listed_newest_first(command: Command) -> None:
    said = command("operations")
    head, *rows = said.out.splitlines()
    assert (said.code, said.err) == (0, "")
    assert head.split() == ["age", "operation", "action", "status", "server", "backup", "by"]
    assert [row[row.index("op_") :].split() for row in rows] == [
        [REFUSED, "delete", "refused", "build-runner-01", "447", "plan"],
        [CREATED, "create", "succeeded", "web-server-01", "502", "-"],
    ]


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--server", "12345"), [CREATED]),
        (("--server", "12346"), []),
        (("--since", NOW.isoformat()), [REFUSED, CREATED]),
        (("--since", f"{NOW:%Y-%m-%dT%H:%M}"), [REFUSED, CREATED]),
        (("--since", f"{NOW + timedelta(seconds=1):%Y-%m-%dT%H:%M:%S}+00:00"), []),
        (("--since", f"{NOW + timedelta(hours=1):%Y-%m-%dT%H:%M}+01:00"), [REFUSED, CREATED]),
        (("--since", "99999w"), [REFUSED, CREATED]),
        (("--since", "0h"), []),
        (("--since", "2000-01-01", "--server", "12362", "--limit", "1"), [REFUSED]),
    ],
)
def test_operations_of_one_server_or_since_a_time_are_listed_alone(
    command: Command, arguments: tuple[str, ...], found: list[str]
) -> None:
    said = command("operations", "--json", *arguments)
    assert [each["operation_id"] for each in said.lines] == found
    assert (said.code, said.err) == (0, "")


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(("zone", "hours"), [("Asia/Kolkata", 5.5), ("UTC", 0)])
def test_people_are_told_their_own_time_beside_utc(
    command: Command, monkeypatch: pytest.MonkeyPatch, zone: str, hours: float
) -> None:
    here = f" ({NOW + timedelta(hours=hours):%H:%M} here)" if hours else ""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert f"{NOW:%Y-%m-%d %H:%M:%S}Z{here}  s" in command("audit").out
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.usefixtures("ledger")
def test_operations_can_be_had_as_json_lines(command: Command) -> None:
    (operation,) = command("operations", "--limit", "1", "--json").lines
    assert operation == {
        "operation_id": REFUSED,
        "action": "delete_backup",
        "status": "refused",
        "changed": "nothing",
        "server_id": 12362,
        "server": "build-runner-01",
        "backup_id": 447,
        "approved_by": "plan",
        "principal": "",
        "planned_at": NOW.isoformat(),
        "sent_at": None,
        "evidence": "",
        "error_code": "policy_denied",
        "error": "At least 1 must stay.",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("audit",), Said(0, NOTHING_YET, "")),
        (("audit", CREATED), Said(1, "", NOTHING_YET)),
        (("audit", "--export", CREATED), Said(1, "", NOTHING_YET)),
        (("audit", "--verify"), Said(0, NOTHING_YET, "")),
        (("audit", "--export"), Said(0, "", NOTHING_YET)),
        (("operations",), Said(0, NOTHING_YET, "")),
        (("operations", "--json"), Said(0, "", NOTHING_YET)),
    ],
)
def test_without_a_ledger_that_is_said_and_none_is_made(
    command: Command, state_dir: Path, arguments: tuple[str, ...], said: Said
) -> None:
    assert command(*arguments) == said
    assert not state_dir.exists()


@pytest.mark.parametrize("arguments", [("audit",), ("audit", "--verify"), ("audit", "--export"), ("operations",)])
def test_reading_changes_nothing_in_the_folder(command: Command, ledger: Path, arguments: tuple[str, ...]) -> None:
    before = {path: path.read_bytes() for path in ledger.parent.iterdir()}
    assert command(*arguments).code == 0
    assert {path: path.read_bytes() for path in ledger.parent.iterdir()} == before


def test_the_ledger_can_be_read_while_a_server_writes_to_it(command: Command, ledger: Path, clock: ManualClock) -> None:
    served = SqliteLedger(ledger.parent, Operation, clock.wall)

    async def write_on() -> None:
        await served.write(lambda entries: [entries.save(operation) for operation in entries.find()])

    anyio.run(write_on)
    assert command("audit", "--verify").out == "5 events, chain intact\n"
    anyio.run(write_on)
    assert command("audit", "--verify").out == "7 events, chain intact\n"
    served.close()


@pytest.mark.parametrize("arguments", [("audit", "--verify"), ("operations",)])
def test_a_file_that_is_no_ledger_is_said_to_be_damaged(
    command: Command, state_dir: Path, arguments: tuple[str, ...]
) -> None:
    state_dir.mkdir()
    (state_dir / "ledger.sqlite3").write_bytes(b"certainly not a database")
    said = command(*arguments)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("mcp-backups: ledger_unavailable: ")
    assert "`mcp-backups doctor` says how to go on" in said.err, "audit says no more than it just did"


@pytest.mark.parametrize(
    "line",
    [
        "audit --verify --export",
        "operations --limit 0",
        "operations --limit x",
        "operations --server web",
        "operations --since soon",
        "operations --since 7",
        "operations --since 2026-02-30",
    ],
)
def test_arguments_that_make_no_sense_are_refused(command: Command, line: str) -> None:
    with pytest.raises(SystemExit) as refused:
        command(*line.split())
    assert refused.value.code == 2
