"""`mcp-backups doctor`: each thing that can be wrong is said to be, with what to do, and nothing is changed."""

import json
import os
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
import trustme
from pydantic import SecretStr

from mcp_backups.api import VpsClient
from mcp_backups.cli import main
from mcp_backups.commands.doctor import (
    Finding,
    doctor,
    examine_account,
    examine_ledger,
    examine_server,
    examine_settings,
)
from mcp_backups.ledger import SqliteLedger, Transaction
from mcp_backups.operations import DeleteDetails, Operation, Status
from mcp_backups.sandbox import Emulator, Fault, serve_in_thread
from mcp_backups.settings import Settings, load_settings
from tests.stage import PATIENCE, MakeSettings, ManualClock

QUICK = partial(VpsClient, jitter=lambda: 0.0, deadline=2.0)

TOOLLESS = """
import anyio
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp_types import ListToolsResult

async def none(context, params):
    return ListToolsResult(tools=[])

async def main():
    server = Server("other", on_list_tools=none)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())

anyio.run(main)
"""


PARTS = ("settings", "approval", "network", "token", "backups", "servers", "clock", "ledger", "server")


class Report(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def examine(settings: Settings, clock: ManualClock) -> Callable[..., dict[str, Finding]]:
    """`examine(read_only=True)["token"]`: network, token and clock under these settings."""

    def run(connect: Callable[..., VpsClient] = QUICK, **changes: object) -> dict[str, Finding]:
        changed = settings.model_copy(update=changes)
        return {found.part: found for found in anyio.run(examine_account, changed, clock.clock, connect)}

    return run


@pytest.fixture
def installed(make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with an empty settings file, whose path this is, and a state folder."""
    make_settings()
    config = tmp_path / "config.toml"
    config.touch(mode=0o600)
    monkeypatch.setenv("MCP_BACKUPS_CONFIG", str(config))
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(tmp_path / "state"))
    return config


@pytest.mark.usefixtures("installed")
def test_where_all_is_well_it_says_so_and_asks_vps_org_only_harmless_questions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve_in_thread() as emulator:
        monkeypatch.setenv("VPS_API_URL", emulator.base_url)
        monkeypatch.setenv("VPS_API_TOKEN", emulator.token)
        code = main(["doctor"])
        asked = [(each.method, each.path) for each in emulator.requests]
        assert asked == [("GET", "/account/me/"), ("GET", "/backups/"), ("GET", "/servers/")]
    said = Report(code, *capsys.readouterr())
    found = [line.split()[:2] for line in said.out.splitlines()[1:] if not line.startswith(" ")]
    assert (said.code, said.err) == (0, "")
    assert found == [["ok", part] for part in PARTS]
    assert "lists its 7 tools; protocol 2026-07-28 and 2025-11-25." in said.out
    assert emulator.token not in said.out
    assert "\x1b" not in said.out


@pytest.mark.usefixtures("installed")
def test_what_is_broken_makes_it_fail_and_every_other_part_is_still_looked_at(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert doctor(as_json=True, command=(sys.executable, "-c", "raise SystemExit('no server today')")) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "failure"
    verdicts = {found["part"]: found["verdict"] for found in told["findings"]}
    fine = dict.fromkeys(("settings", "approval", "ledger"), "ok")
    assert verdicts == fine | {"network": "warning", "token": "failure", "server": "failure"}
    assert all(found["todo"] for found in told["findings"] if found["verdict"] != "ok")


@pytest.mark.usefixtures("installed")
def test_wrong_settings_are_named_without_their_value_and_exit_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MCP_BACKUPS_KEEP_MIN", "plenty")
    assert main(["doctor", "--json"]) == 2
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["part"], finding["verdict"]) == ("settings", "failure")
    assert "MCP_BACKUPS_KEEP_MIN" in finding["what"]
    assert "plenty" not in json.dumps(finding)


def test_each_setting_is_told_with_where_it_comes_from(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = installed.parent / "token"
    token.write_text("vps_tests_own_token\n")
    token.chmod(0o600)
    installed.write_text(f'keep_min = 2\nread_only = true\nvps_api_token_file = "{token}"\n')
    monkeypatch.setenv("MCP_BACKUPS_READ_ONLY", "false")
    monkeypatch.setenv("MCP_BACKUPS_PROTECTED_SERVERS", "12346, 12345")
    found = examine_settings(load_settings())
    assert set(found.details) == {
        "VPS_API_TOKEN = ********** (token file)",
        f"VPS_API_TOKEN_FILE = {token} (settings file)",
        "MCP_BACKUPS_READ_ONLY = false (environment)",
        "MCP_BACKUPS_PROTECTED_SERVERS = 12345, 12346 (environment)",
        "MCP_BACKUPS_KEEP_MIN = 2 (settings file)",
        f"MCP_BACKUPS_STATE_DIR = {installed.parent / 'state'} (environment)",
    }
    assert str(installed) in found.what


WORDS = [["*"], ["servers:*"], [], ["backups"], ["full_access"], ["read", "write"], ["Backups:Read"], ["a:b"] * 40]


@pytest.mark.parametrize("permissions", WORDS, ids=str)
def test_what_permissions_mean_is_not_guessed_where_all_calls_work(
    examine: Callable[..., dict[str, Finding]], api: Emulator, permissions: list[str]
) -> None:
    """VPS.org documents no complete list of its words: the endpoints tell what the token may do."""

    def told(account: dict[str, Any]) -> None:
        account["token"]["permissions"] = permissions

    api.fail(Fault.edited(told), path="^/account/me/$", times=None)
    found = examine()
    assert {part: each.verdict for part, each in found.items()} == dict.fromkeys(PARTS[2:7], "ok")
    assert all(word in found["token"].what for word in permissions)
    assert (found["token"].todo, "lacks" in str(found)) == ("", False)


@pytest.mark.parametrize(
    ("permissions", "failing"),
    [
        (["*:*"], set()),
        (["backups:read", "servers:read"], set()),
        (["backups:read"], {"servers"}),
        (["servers:*"], {"backups"}),
        ([], {"backups", "servers"}),
    ],
)
def test_it_asks_the_endpoints_what_the_token_may_read(
    examine: Callable[..., dict[str, Finding]], api: Emulator, permissions: list[str], failing: set[str]
) -> None:
    api.fleet.tokens[api.token] = permissions
    found = examine()
    assert {part for part, each in found.items() if each.verdict == "failure"} == failing
    assert found["network"].verdict == found["token"].verdict == "ok"
    assert all(found[part].todo for part in failing)


@pytest.mark.parametrize("fault", [Fault.status(403), Fault.status(404, "<html>"), Fault.status(200, b"[]")])
def test_an_account_that_cannot_be_read_is_no_failure_where_the_lists_can(
    examine: Callable[..., dict[str, Finding]], api: Emulator, fault: Fault
) -> None:
    api.fail(fault, path="^/account/me/$", times=None)
    found = examine()
    assert {part: each.verdict for part, each in found.items()} == dict.fromkeys(PARTS[2:7], "ok") | {
        "token": "warning"
    }


@pytest.mark.parametrize("path", ["^/backups/$", "^/servers/$"])
@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (Fault.status(500), "failure"),
        (Fault.status(404, "<html>"), "failure"),
        (Fault.status(429, headers={"Retry-After": "60"}), "warning"),
        (Fault.edited(lambda listing: listing.update(count=99)), "warning"),
    ],
    ids=["500", "404", "429", "incomplete"],
)
def test_a_list_that_cannot_be_read_is_told(
    examine: Callable[..., dict[str, Finding]], api: Emulator, path: str, fault: Fault, verdict: str
) -> None:
    api.fail(fault, path=path, times=None)
    found = examine()
    part = path[2:9]
    assert {each.part: each.verdict for each in found.values() if each.verdict != "ok"} == {part: verdict}
    assert found[part].todo


@pytest.mark.parametrize(
    ("fault", "network", "token", "said"),
    [
        (Fault.status(401), "ok", "failure", "refused the token"),
        (Fault.status(403, {"detail": "Not yours."}), "ok", "failure", "read the account"),
        (Fault.status(429, headers={"Retry-After": "60"}), "warning", "warning", "limits how often"),
        (Fault.status(404), "failure", "warning", "no VPS.org API at the address"),
        (Fault.status(503), "failure", "warning", "VPS.org failed"),
        (Fault.status(200, b"[]"), "ok", "warning", "no account as documented"),
        (Fault.reset_before(), "failure", "warning", "VPS.org"),
    ],
    ids=["401", "403", "429", "404", "503", "no account", "reset"],
)
def test_it_tells_a_bad_token_from_a_bad_network(
    examine: Callable[..., dict[str, Finding]], api: Emulator, fault: Fault, network: str, token: str, said: str
) -> None:
    api.fail(fault, times=None)
    found = examine()
    assert (found["network"].verdict, found["token"].verdict) == (network, token)
    assert any(said in each.what for each in found.values())
    assert all(each.todo for each in found.values() if each.verdict != "ok")
    assert found["token"].details in ((), ('VPS.org said: "Not yours."',))


def test_an_address_at_which_nobody_answers_is_a_failure(
    examine: Callable[..., dict[str, Finding]], api: Emulator
) -> None:
    api.run(api.down())
    found = examine()
    assert found["network"].verdict == "failure"
    assert "could not be reached" in found["network"].what
    assert found["clock"].verdict == "warning"


def test_a_certificate_that_is_not_trusted_is_a_failure_and_the_token_is_not_sent(
    examine: Callable[..., dict[str, Finding]], clock: ManualClock
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with serve_in_thread(Emulator(now=clock.now, ssl=context)) as secure:
        found = examine(vps_api_url=secure.base_url)["network"]
        assert secure.requests == []
    assert found.verdict == "failure"
    assert "TLS verification failed" in found.what
    assert "certificates" in found.todo


def test_a_certificate_that_is_trusted_is_said_to_be(
    examine: Callable[..., dict[str, Finding]], clock: ManualClock, tmp_path: Path
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with serve_in_thread(Emulator(now=clock.now, ssl=context)) as secure:
        found = examine(vps_api_url=secure.base_url, vps_api_ca_file=tmp_path / "ca.pem")["network"]
    assert (found.verdict, found.what) == ("ok", f"{secure.base_url} answers, and its certificate is trusted.")


@pytest.mark.parametrize(
    ("seconds", "verdict", "said"),
    [
        (0, "ok", "Within 1 s"),
        (-60, "ok", "Within 60 s"),
        (61, "warning", "61 s ahead of"),
        (-300, "warning", "300 s behind"),
        (301, "failure", "301 s ahead of"),
        (-86400, "failure", "86400 s behind"),
    ],
)
def test_a_clock_that_is_off_is_said_to_be(
    examine: Callable[..., dict[str, Finding]], clock: ManualClock, seconds: int, verdict: str, said: str
) -> None:
    clock.step(seconds=seconds)
    found = examine()["clock"]
    assert found.verdict == verdict
    assert said in found.what


@pytest.mark.parametrize("header", ["", "soon", "Mon, 23 Nov 2026 09:30:00"])
def test_a_date_that_tells_nothing_is_no_failure(
    examine: Callable[..., dict[str, Finding]], api: Emulator, header: str
) -> None:
    api.fail(Fault.status(401, headers={"Date": header}))
    assert examine()["clock"].verdict == "warning"


def test_a_clock_is_compared_even_where_the_token_is_refused(
    examine: Callable[..., dict[str, Finding]], clock: ManualClock
) -> None:
    """A clock that is off can be why a certificate or a token is thought to have expired."""
    clock.step(hours=-2)
    found = examine(vps_api_token=SecretStr("vps_unknown"))
    assert (found["token"].verdict, found["clock"].verdict) == ("failure", "failure")


def write_ledger(folder: Path, clock: ManualClock, *statuses: str) -> Path:
    """A ledger with one operation of each status; returns its file."""
    moment = clock.moment()
    ledger = SqliteLedger(folder, Operation, clock.wall)

    async def write() -> None:
        for number, status in enumerate(statuses):
            operation = Operation(
                id=f"op_{'abcdefgh'[number] * 16}",
                action="delete_backup",
                status=Status(status),
                details=DeleteDetails(),
                arguments={"backup_id": 499},
                server_id=12345,
                approved_by="" if status == "planned" else "plan",
                created=moment,
            )
            await ledger.write(partial(Transaction[Operation].save, operation=operation))

    anyio.run(write)
    ledger.close()
    return ledger.path


def test_a_ledger_that_is_whole_is_left_as_it_is(state_dir: Path, clock: ManualClock) -> None:
    path = write_ledger(state_dir, clock, "succeeded", "planned")
    before = {each: each.read_bytes() for each in state_dir.iterdir()}
    found = anyio.run(examine_ledger, Settings(state_dir=state_dir), clock.clock)
    assert found.verdict == "ok"
    assert "1 event, chain intact, can be written to; 1 operation open." in found.what
    assert found.details == (f"op_{'b' * 16}: delete_backup on server 12345 is planned",)
    assert {each: each.read_bytes() for each in path.parent.iterdir()} == before


def test_an_operation_whose_outcome_is_unknown_is_a_warning_with_what_to_do(
    state_dir: Path, clock: ManualClock
) -> None:
    write_ledger(state_dir, clock, "unknown")
    found = anyio.run(examine_ledger, Settings(state_dir=state_dir), clock.clock)
    assert found.verdict == "warning"
    assert "is unknown" in found.details[0]
    assert "get_operation" in found.todo


def test_a_plan_that_has_expired_is_not_called_open(state_dir: Path, clock: ManualClock) -> None:
    write_ledger(state_dir, clock, "planned")
    clock.advance(minutes=11)
    assert anyio.run(examine_ledger, Settings(state_dir=state_dir), clock.clock).details == ()


def test_a_ledger_that_was_tampered_with_is_a_failure(state_dir: Path, clock: ManualClock) -> None:
    path = write_ledger(state_dir, clock, "succeeded")
    connection = sqlite3.connect(path)
    connection.execute("UPDATE events SET status = 'failed'")
    connection.commit()
    connection.close()
    found = anyio.run(examine_ledger, Settings(state_dir=state_dir), clock.clock)
    assert found.verdict == "failure"
    assert "cannot be trusted: event 1 was changed" in found.what


def test_a_file_that_is_no_ledger_is_a_failure(state_dir: Path, clock: ManualClock) -> None:
    state_dir.mkdir()
    (state_dir / "ledger.sqlite3").write_bytes(b"certainly not a database")
    found = anyio.run(examine_ledger, Settings(state_dir=state_dir), clock.clock)
    assert (found.verdict, bool(found.todo)) == ("failure", True)
    assert "it is damaged: keep a copy of it as evidence, move it away, and say `mcp-backups ledger" in found.todo


@pytest.mark.parametrize("name", ["installation.key", "ledger.end", "ledger.lock"])
def test_a_file_beside_the_ledger_that_is_a_folder_is_named(state_dir: Path, clock: ManualClock, name: str) -> None:
    write_ledger(state_dir, clock, "succeeded")
    state_dir.joinpath(name).unlink()
    state_dir.joinpath(name).mkdir()
    found = anyio.run(examine_ledger, Settings(state_dir=state_dir), clock.clock)
    assert (found.verdict, name in found.what) == ("failure", True)
    assert "move that folder away" in found.todo
    assert "accept" not in found.todo


def test_a_key_that_is_a_link_to_nowhere_is_named(state_dir: Path, clock: ManualClock) -> None:
    """The disk that it leads to may be away: then all is well once that is back."""
    write_ledger(state_dir, clock, "succeeded")
    key = state_dir / "installation.key"
    key.unlink()
    key.symlink_to(state_dir / "away" / "key")
    found = anyio.run(examine_ledger, Settings(state_dir=state_dir), clock.clock)
    assert "its key, the file installation.key, cannot be read" in found.what
    assert found.todo.startswith("If a file of it was lost or exchanged, put that back.")


def test_a_key_that_was_named_and_is_gone_is_told_as_a_setting(state_dir: Path, clock: ManualClock) -> None:
    write_ledger(state_dir, clock, "succeeded")
    settings = Settings(state_dir=state_dir, key_file=state_dir / "gone")
    found = anyio.run(examine_ledger, settings, clock.clock)
    assert (found.verdict, found.todo) == ("failure", "The operator of mcp-backups must correct the setting.")


def test_where_there_is_no_ledger_none_is_made(state_dir: Path, clock: ManualClock) -> None:
    found = anyio.run(examine_ledger, Settings(state_dir=state_dir), clock.clock)
    assert (found.verdict, state_dir.exists()) == ("ok", False)


def test_a_folder_that_cannot_be_made_is_a_failure(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "file").touch()
    found = anyio.run(examine_ledger, Settings(state_dir=tmp_path / "file" / "state"), clock.clock)
    assert found.verdict == "failure"
    assert "MCP_BACKUPS_STATE_DIR" in found.todo


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise SystemExit('no server today')", "no server today"),
        (TOOLLESS, "It lists 0 tools instead of its 7."),
    ],
    ids=["ends at once", "other tools"],
)
def test_a_server_that_does_not_serve_is_a_failure(source: str, said: str) -> None:
    found = anyio.run(examine_server, (sys.executable, "-c", source))
    assert found.verdict == "failure"
    assert said in found.what
    assert found.todo


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_in_a_terminal_a_failure_is_red_unless_no_colour_is_wanted(
    tmp_path: Path, no_color: str, coloured: bool
) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MCP_BACKUPS_", "VPS_API_"))}
    kept |= {"HOME": str(tmp_path), "TERM": "xterm-256color", "VPS_API_URL": "ftp://x"}
    kept.pop("NO_COLOR", None)
    environment = kept | ({"NO_COLOR": no_color} if no_color else {})
    process = subprocess.Popen(
        [sys.executable, "-m", "mcp_backups", "doctor"], env=environment, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        assert process.wait(PATIENCE) == 2
        shown = os.read(ours, 4096)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"VPS_API_URL" in shown
    assert (b"31m" in shown) == coloured


def test_the_offset_is_that_of_the_last_answer_and_none_before_the_first(
    settings: Settings, clock: ManualClock
) -> None:
    async def ask() -> list[timedelta | None]:
        async with QUICK(settings.vps_api_url, settings.vps_api_token, clock=clock.clock) as client:
            offsets = [client.clock_offset]
            for minutes in (0, -10):
                clock.step(minutes=minutes)
                await client.account()
                offsets.append(client.clock_offset)
            return offsets

    assert anyio.run(ask) == [None, timedelta(0), timedelta(minutes=10)]
