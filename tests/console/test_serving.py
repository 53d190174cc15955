"""`mcp-backups console` as a process."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx2
import pytest

from mcp_backups.cli import main
from mcp_backups.errors import ConfigError
from mcp_backups.web import listen_unix
from tests.process import COMMAND, PATIENCE, environment

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets and /proc")
ENTER = re.compile(r'url=(http://127\.0\.0\.1:\d+/enter\?once=[\w-]+)"')


@contextmanager
def console(state_dir: Path, *arguments: str, **settings: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [*COMMAND, "console", *arguments],
        env=environment(state_dir, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


@needs_posix
def test_on_this_machine_it_is_opened_through_a_file_and_ended_by_a_signal(state_dir: Path) -> None:
    with console(state_dir, "--port", "0", "--no-browser", MCP_BACKUPS_LOG_LEVEL="DEBUG") as process:
        assert process.stderr
        told = process.stderr.readline()
        assert told.startswith("mcp-backups serves the console. Within 60 seconds, open file:///")
        page = Path(unquote(urlsplit(told.rpartition(" ")[2].strip()).path))
        assert page.stat().st_mode & 0o777 == 0o600
        address = ENTER.search(page.read_text())
        assert address
        once = address[1].partition("once=")[2]
        assert once not in Path(f"/proc/{process.pid}/cmdline").read_text()
        with httpx2.Client(timeout=PATIENCE) as browser:
            entered = browser.get(address[1])
            assert (entered.status_code, "server" in entered.headers) == (200, False)
            home = address[1].partition("/enter")[0]
            assert "Nothing waits for an approver." in browser.get(home + "/").text
        assert not page.exists()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out) == (0, "")
        assert once not in err


@needs_posix
def test_behind_a_login_it_listens_on_a_socket_of_owner_and_group(state_dir: Path, tmp_path: Path) -> None:
    where = tmp_path / "console.sock"
    login = {"CONSOLE_LOGIN_HEADER": "Remote-User", "CONSOLE_URL": "https://backups.example.com"}
    settings = {f"MCP_BACKUPS_{name}": value for name, value in login.items()}
    with console(state_dir, "--socket", str(where), **settings) as process:
        assert process.stderr
        assert process.stderr.readline() == "mcp-backups serves the console for https://backups.example.com\n"
        assert where.stat().st_mode & 0o777 == 0o660
        transport = httpx2.HTTPTransport(uds=str(where))
        headers = {"Host": "backups.example.com", "Remote-User": "grace"}
        with httpx2.Client(transport=transport, base_url="http://proxy", headers=headers, timeout=PATIENCE) as proxy:
            assert "</span>grace</p>" in proxy.get("/").text
            assert proxy.get("/", headers={"Remote-User": ""}).status_code == 401
            assert proxy.get("/", headers={"Host": "proxy"}).status_code == 421
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert not where.exists()


@needs_posix
def test_a_socket_that_nobody_serves_any_more_is_taken_over_and_no_other(tmp_path: Path) -> None:
    where = tmp_path / "console.sock"
    with listen_unix(where), pytest.raises(ConfigError) as taken:
        listen_unix(where)
    assert taken.value.what.startswith("--socket cannot be listened on")
    with listen_unix(where):
        assert where.is_socket()
    for path in (tmp_path / "file", tmp_path / "none" / "console.sock"):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(ConfigError):
            listen_unix(path)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["console", "--host", "0.0.0.0"], "--host must be an address of this machine, unless"),
        (["console", "--socket", "/nowhere/x"], "--socket is for a login in front of the console"),
        (["--sandbox", "console"], "--sandbox does not go with it"),
    ],
)
def test_a_wrong_start_is_one_clear_line(
    state_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    fault: str,
) -> None:
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(state_dir))
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert fault in told.err
    assert told.err.count("\n") == 1
    assert not state_dir.exists()


@needs_posix
def test_a_secret_that_others_may_read_stops_the_start(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sixteen-or-more-characters\n")
    secret.chmod(0o644)
    for name, value in {
        "STATE_DIR": state_dir,
        "CONSOLE_LOGIN_HEADER": "Remote-User",
        "CONSOLE_URL": "https://backups.example.com",
        "CONSOLE_SECRET_FILE": secret,
    }.items():
        monkeypatch.setenv(f"MCP_BACKUPS_{name}", str(value))
    assert main(["console", "--port", "0"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "MCP_BACKUPS_CONSOLE_SECRET_FILE names a file that others may read" in told.err
    assert told.err.count("\n") == 1


def test_a_missing_extra_is_one_clear_line(state_dir: Path) -> None:
    code = "import sys; sys.modules['jinja2'] = None; from mcp_backups.cli import main; sys.exit(main(['console']))"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(state_dir),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (
        2,
        "mcp-backups: The console needs the extra `console`: pip install '.[console]' in the folder of mcp-backups.\n",
    )
