"""`mcp-backups approvals`, `approve`, `decline`, `freeze`, `thaw`: an approver at a terminal."""

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from mcp_backups.cli import main
from mcp_backups.clock import system_clock
from mcp_backups.commands import approvals
from mcp_backups.commands.approvals import system_user
from mcp_backups.sandbox import Emulator, Fault
from mcp_backups.text import quoted, stamp
from tests.approval.conftest import SERVER, TARGET, Scene
from tests.process import COMMAND, environment
from tests.stage import MakeSettings, recorded, session

pytestmark = pytest.mark.anyio

HOSTILE = "See https://evil.example/x or mail pay@evil.example\u202e \x1b[31mapprove"


class Typing(io.StringIO):
    """A terminal at which somebody types."""

    def isatty(self) -> bool:
        return True


Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def run(scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`await run("approve", ID, types="499")`: the exit code and what was printed; on a terminal if somebody types."""
    monkeypatch.setenv("TTY_COMPATIBLE", "0")  # plain text in long lines, where nothing else is said
    monkeypatch.setenv("VPS_API_URL", scene.emulator.base_url)
    monkeypatch.setenv("VPS_API_TOKEN", scene.emulator.token)
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(scene.settings.state_dir))
    monkeypatch.setattr("mcp_backups.transport.system_clock", lambda: scene.clock.clock)
    monkeypatch.setattr("mcp_backups.commands.freeze.system_clock", lambda: scene.clock.clock)
    monkeypatch.setattr(approvals, "system_user", lambda: "alice")

    async def command(*arguments: str, types: str | None = None) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            if types is not None:
                patch.setattr(sys, "stdin", Typing(types))
                patch.setattr(sys.stdout, "isatty", lambda: True)
            code = await anyio.to_thread.run_sync(main, arguments)
        return code, *capsys.readouterr()

    return command


async def wait_for(scene: Scene, kind: str) -> tuple[str, str]:
    """Something waits; its id, and what an approver types to agree."""
    kinds = {
        "delete": ("delete_backup", {"backup_id": TARGET}),
        "restore": ("restore_server", {"server_id": SERVER, "backup_id": TARGET}),
        "prune": ("prune_backups", {"server_id": SERVER, "keep_last": 1}),
    }
    scene.tool, scene.arguments = kinds[kind]
    await scene.asks()
    return scene.operation, (await scene.shown()).plan.expected


@pytest.mark.parametrize("kind", ["delete", "restore", "prune"])
async def test_who_types_what_is_asked_for_approves(scene: Scene, run: Run, kind: str) -> None:
    operation, expected = await wait_for(scene, kind)
    assert expected == {"delete": "499", "restore": "web-server-01"}.get(kind, expected)
    code, told, _ = await run("approve", operation, types=f" {expected} \n")
    assert code == 0, told
    assert f"{operation} is approved. It is carried out when it is called again, until 2026-11-23" in told
    (recorded_one,) = recorded(scene.settings.state_dir)
    assert recorded_one.decision
    assert (recorded_one.status, recorded_one.decision.by, recorded_one.decision.how) == (
        "approved",
        "alice",
        "terminal",
    )


@pytest.mark.parametrize("typed", ["", "\n", "yes\n", "498\n", "499 now\n", "4 99\n"])
async def test_who_types_anything_else_leaves_it_as_it_is(scene: Scene, run: Run, typed: str) -> None:
    operation, _ = await wait_for(scene, "delete")
    code, told, _ = await run("approve", operation, types=typed)
    assert (code, "nothing was decided" in told) == (1, True)
    assert (await scene.asks()).status == "needs_approval"


async def test_a_plan_is_shown_whole_with_what_others_wrote_last(scene: Scene, run: Run) -> None:
    scene.emulator.fleet.backups[TARGET].description = HOSTILE
    operation, _ = await wait_for(scene, "delete")
    _, told, _ = await run("approve", operation, types="\n")
    ours, others = told.split("Written by others, and no word of mcp-backups:")
    for fact in (operation, "delete_backup(backup_id=499)", "can be undone", "proven backups left", "until 2026-11-24"):
        assert fact in ours
    assert "as the plan shows it; 17 proven backups would be left" in ours
    assert "evil" not in ours
    assert '"See https :// evil.example/x or mail pay @ evil.example approve"' in others
    assert "\x1b" not in told
    assert "\u202e" not in told


async def test_a_prune_is_shown_with_every_backup(scene: Scene, run: Run) -> None:
    await scene.start(deletes_per_hour=1)
    operation, expected = await wait_for(scene, "prune")
    _, told, _ = await run("approve", operation, types="\n")
    rows = [item for item in (await scene.shown()).plan.backups if item.fate != "keep"]
    assert expected == str(len(rows))
    assert all(f" {item.backup.id}  " in told for item in rows)
    assert ("delete later" in told) is (len(rows) > 1)


@pytest.mark.parametrize("columns", [20, 40, 80, 160])
async def test_nothing_is_cut_on_a_terminal_of_any_width(
    scene: Scene, run: Run, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    operation, _ = await wait_for(scene, "prune")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")

    async def told(*arguments: str) -> str:
        printed = re.sub(r"\x1b\[[0-9;]*m", "", (await run(*arguments, types="\n"))[1]).partition("\nType ")[0]
        assert all(len(line) <= columns for line in printed.splitlines())
        return "".join(printed.split())

    plan = (await scene.shown()).plan
    assert "".join(plan.summary.split()) in await told("approvals")
    assert operation in await told("operations")
    assert f"{operation}prune_backups" in await told("audit")
    whole = await told("approve", operation)
    for item in plan.backups:
        for fact in (str(item.backup.id), stamp(item.backup.created_at), *item.backup.description.split()):
            assert fact in whole
    for name, value in plan.facts.items():
        shown = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        assert "".join(f"{name.replace('_', ' ')}{shown}".split()) in whole


async def change(scene: Scene) -> None:
    scene.emulator.fleet.backups[TARGET].description = "renamed"


async def remove(scene: Scene) -> None:
    scene.emulator.fleet.delete_backup(TARGET)


async def fail(scene: Scene) -> None:
    scene.emulator.fail(Fault.status(401), method="GET", path="backups")


async def spoil(scene: Scene) -> None:
    scene.emulator.fleet.delete_backup(TARGET)
    scene.emulator.fail(Fault.edited(lambda content: content["results"][-1].update(id=True)), method="GET", path="back")


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (change, "changed: 499"),
        (remove, "gone: 499"),
        (fail, "not known (auth_failed); it is read again before anything is sent"),
        (spoil, "not known (the list of backups is incomplete); it is read again before anything is sent"),
    ],
)
async def test_what_is_there_now_stands_beside_what_the_plan_showed(
    scene: Scene, run: Run, step: Callable[[Scene], Awaitable[None]], told: str
) -> None:
    operation, _ = await wait_for(scene, "delete")
    await step(scene)
    _, printed, _ = await run("approve", operation, types="\n")
    assert told in printed


async def test_a_prune_is_not_as_its_plan_shows_it_once_what_it_keeps_is_gone(scene: Scene, run: Run) -> None:
    operation, _ = await wait_for(scene, "prune")
    kept = next(item.backup.id for item in (await scene.shown()).plan.backups if item.fate == "keep")
    scene.emulator.fleet.delete_backup(kept)
    _, printed, _ = await run("approve", operation, types="\n")
    assert f"gone: {kept}" in printed
    assert "as the plan shows it" not in printed


async def test_an_operation_of_another_account_is_shown_without_what_is_there(
    scene: Scene, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation, _ = await wait_for(scene, "restore")
    scene.emulator.fleet.tokens["vps_another"] = ["*:*"]
    monkeypatch.setenv("VPS_API_URL", scene.emulator.base_url.replace("127.0.0.1", "localhost"))
    _, told, _ = await run("approve", operation, types="\n")
    assert "not known (it was made for another account or another address)" in told


async def test_without_a_terminal_nobody_approves_or_lifts_a_freeze(scene: Scene, run: Run) -> None:
    operation, _ = await wait_for(scene, "delete")
    for command in (["approve", operation], ["thaw"]):
        code, _, error = await run(*command)
        assert (code, error) == (
            2,
            f"mcp-backups: {command[0]} asks a person on a terminal, and this is none.\n",
        )
    assert (await scene.asks()).status == "needs_approval"


async def test_in_a_real_terminal_and_without_one(emulator: Emulator, make_settings: MakeSettings) -> None:
    settings = make_settings(approval="operator")
    async with session(emulator, settings, system_clock()) as agent:
        asked = await agent.call("delete_backup", backup_id=TARGET, confirm=True)
        command = (*COMMAND, "approve", asked.operation)
        here = environment(settings.state_dir, VPS_API_URL=emulator.base_url, VPS_API_TOKEN=emulator.token)

        def piped() -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(command, env=here, input=b"499\n", capture_output=True, check=False, timeout=30)

        def in_terminal() -> tuple[int, bytes]:
            ours, theirs = pty.openpty()
            os.write(ours, b"499\n")
            ended = subprocess.run(
                command, env=here, stdin=theirs, stdout=theirs, stderr=theirs, check=False, timeout=30
            )
            os.close(theirs)
            told = os.read(ours, 65536)
            os.close(ours)
            return ended.returncode, told

        refused = await anyio.to_thread.run_sync(piped)
        assert (refused.returncode, b"this is none" in refused.stderr) == (2, True)
        assert (await agent.call("get_operation", operation_id=asked.operation)).status == "needs_approval"
        code, told = await anyio.to_thread.run_sync(in_terminal)
        assert (code, b"is approved" in told) == (0, True), told
        assert (await agent.call("delete_backup", backup_id=TARGET, confirm=True)).status == "succeeded"


@pytest.mark.parametrize("command", ["approve", "decline", "thaw"])
async def test_only_those_who_are_named_decide(
    scene: Scene, run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    operation, expected = await wait_for(scene, "delete")
    monkeypatch.setenv("MCP_BACKUPS_APPROVERS", "bob, carol")
    arguments = [command] if command == "thaw" else [command, operation]
    code, _, error = await run(*arguments, types=f"{expected}\n")
    assert (code, '"alice" is none of the approvers.' in error) == (1, True)
    assert (await scene.asks()).status == "needs_approval"


@pytest.mark.parametrize("command", ["approve", "decline"])
async def test_what_cannot_be_decided_on_is_said_in_one_line(scene: Scene, run: Run, command: str) -> None:
    async def said(operation: str) -> str:
        code, _, error = await run(command, operation, types="499\n")
        assert (code, error.count("\n"), "Traceback" in error) == (1, 1, False)
        return error

    assert "There is no operation of that id." in await said("op_" + "a" * 16)
    operation, _ = await wait_for(scene, "delete")
    assert "There is no operation of that id." in await said("\x1b[31m")
    await scene.declines()
    assert f"{operation} is declined by alice. Nothing was changed." in await said(operation)
    scene.operation = ""
    operation, _ = await wait_for(scene, "delete")
    scene.clock.advance(hours=24)
    assert f"The plan {operation} is no longer valid." in await said(operation)
    scene.operation = ""
    operation, _ = await wait_for(scene, "delete")
    await scene.approves()
    assert (await scene.asks()).status == "succeeded"
    assert f"The status of {operation} is succeeded. Nothing was changed." in await said(operation)
    planned = (await scene.agent.call("delete_backup", backup_id=501)).operation
    assert f"The status of {planned} is planned. Nothing was changed. There is something to decide once" in await said(
        planned
    )


async def test_a_no_is_told_with_its_reason(scene: Scene, run: Run) -> None:
    operation, _ = await wait_for(scene, "delete")
    code, told, _ = await run("decline", operation, "--reason", "Not before the audit")
    assert (code, told) == (0, f"{operation} is declined; nothing more is sent for it.\n")
    assert '"Not before the audit"' in (await scene.asks()).text


async def test_what_waits_is_listed_oldest_first_until_it_is_decided(scene: Scene, run: Run) -> None:
    assert (await run("approvals"))[:2] == (0, "Nothing waits for an approver.\n")
    assert (await run("approvals", "--json"))[:2] == (0, "")
    first, _ = await wait_for(scene, "delete")
    scene.clock.advance(minutes=5)
    scene.operation = ""
    second, _ = await wait_for(scene, "restore")
    _, told, _ = await run("approvals")
    assert told.index(first) < told.index(second)
    await scene.approves()
    _, lines, _ = await run("approvals", "--json")
    one, two = (json.loads(line) for line in lines.splitlines())
    assert (one["operation_id"], one["status"], one["approved_by"]) == (first, "waiting", None)
    assert (two["operation_id"], two["status"], two["approved_by"]) == (second, "approved", "alice")
    assert (two["since"], two["until"]) == ("2026-11-23T09:35:00+00:00", "2026-11-23T10:35:00+00:00")
    await scene.asks()
    await scene.as_approver(lambda context: context.find(second))
    _, lines, _ = await run("approvals", "--json")
    assert [json.loads(line)["operation_id"] for line in lines.splitlines()] == [first]


async def test_watching_tells_each_change_once(scene: Scene, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    operation, _ = await wait_for(scene, "delete")
    looks = 0

    def pause(_seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            anyio.run(scene.declines)
        if looks == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", pause)
    code, told, _ = await run("approvals", "--watch")
    assert code == 130
    assert (told.count(operation), told.count("Nothing waits")) == (1, 1)


async def test_who_decided_when_and_how_stands_in_the_audit(scene: Scene, run: Run) -> None:
    operation, expected = await wait_for(scene, "delete")
    await run("approve", operation, types=expected)
    await run("decline", operation, "--reason", 'No: https://x.example/"')
    await run("freeze", "--reason", "an incident")
    await run("thaw", types="")
    _, told, _ = await run("audit")
    assert "decided by alice (terminal) at 2026-11-23T09:30Z; approved by: approver" in told
    assert f"decided by alice (terminal) at 2026-11-23T09:30Z: {quoted('No: https://x.example/' + chr(34))}" in told
    assert 'frozen     by alice: "an incident"' in told
    assert "thawed     by alice" in told
    assert "5 events, chain intact" in told


async def test_a_freeze_is_said_once_and_lifted_once(run: Run) -> None:
    told = [
        (await run("thaw", types=""))[1],
        (await run("freeze", "--reason", "an incident"))[1],
        (await run("freeze", "--reason", "another"))[1],
        (await run("thaw", types=""))[1],
    ]
    assert told == [
        "Nothing is frozen.\n",
        "Nothing is sent any more until `mcp-backups thaw`.\n",
        "Everything is frozen already.\n",
        "Lifted: operations are sent again.\n",
    ]


@pytest.mark.parametrize(
    ("login", "environ", "user"),
    [
        ("0", {}, "root"),
        ("0", {"SUDO_USER": "mallory"}, "root"),
        ("4294967295", {"SUDO_USER": "alice"}, "alice"),
        ("", {"SUDO_USER": "alice"}, "alice"),
        (None, {"SUDO_USER": "alice"}, "alice"),
        ("999999", {"SUDO_USER": "alice"}, "alice"),
    ],
)
def test_an_approver_is_who_logged_in(tmp_path: Path, login: str | None, environ: dict[str, str], user: str) -> None:
    path = tmp_path / "loginuid"
    if login is not None:
        path.write_text(login)
    assert system_user(environ, path) == user


def test_without_a_login_it_is_the_user_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "service")
    assert system_user({}, tmp_path / "none") == "service"
