"""`mcp-backups check` tells those who watch: Prometheus by a file, a monitor by a ping. Neither ever breaks a check."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mcp_backups.cli import main
from mcp_backups.commands.check import check, metric_lines
from mcp_backups.errors import ConfigError
from mcp_backups.health import FleetHealth, server_health
from mcp_backups.metrics import MOST_SERVERS
from mcp_backups.sandbox import Emulator, Fault, Fleet, serve_in_thread
from mcp_backups.settings import Settings
from tests.stage import NOW, MakeSettings, ManualClock

from .test_check import DAY, keep_only

SECRET = "5ecret-uuid"


class Monitor(ThreadingHTTPServer):
    """Answers each request with the next status, the last again and again; remembers what it was asked."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.statuses = list(statuses)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{SECRET}"


class Answering(BaseHTTPRequestHandler):
    server: Monitor

    def do_GET(self) -> None:
        self.server.asked.append(self.path.replace(SECRET, "URL"))
        status = self.server.statuses.pop(0) if len(self.server.statuses) > 1 else self.server.statuses[0]
        if status:
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Nothing."""


@contextmanager
def watching(*statuses: int) -> Iterator[Monitor]:
    with Monitor(*statuses) as monitor:
        thread = threading.Thread(target=monitor.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield monitor
        monitor.shutdown()
        thread.join()


@pytest.fixture
def fine(api: Emulator) -> Fleet:
    keep_only(api.fleet, 12345, 12346)
    return api.fleet


def samples(text: str) -> dict[tuple[str, str], float]:
    """Each sample by its name without ours before it and its one label, as Prometheus' own parser reads them."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            assert len(sample.labels) < 2
            found[sample.name.removeprefix("mcp_backups_"), "".join(sample.labels.values())] = sample.value
    return found


def test_a_file_for_prometheus_tells_of_each_server(
    settings: Settings, clock: ManualClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "backups.prom"
    assert check(settings, DAY, 0, as_json=False, metrics=path, clock=clock.clock) == 1
    assert capsys.readouterr().out.startswith("not_ok: ")
    told = samples(path.read_text())
    assert told["check_timestamp_seconds", ""] == NOW.timestamp()
    assert [told["check_verdict", each] for each in ("ok", "not_ok", "cannot_tell")] == [0, 1, 0]
    fresh = {label: value for (name, label), value in told.items() if name == "server_has_fresh_backup"}
    assert len(fresh) == 8
    assert (fresh["12345"], fresh["12360"], fresh["12370"]) == (1, 0, 0)
    assert told["newest_good_backup_timestamp_seconds", "12345"] == NOW.timestamp() - 5 * 3600
    assert ("newest_good_backup_timestamp_seconds", "12360") not in told
    assert sum(value for (name, _), value in told.items() if name == "servers") == 8
    assert "web-server" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    ("fault", "path"),
    [(Fault.status(401, {"detail": "No."}), "^/"), (Fault.status(503), "^/"), (Fault.reset_before(), "^/backups/$")],
    ids=["token", "maintenance", "network"],
)
def test_where_vps_org_cannot_be_read_the_file_says_so_and_calls_no_server_bad(
    settings: Settings, api: Emulator, clock: ManualClock, tmp_path: Path, fault: Fault, path: str
) -> None:
    file = tmp_path / "backups.prom"
    file.write_text("old")
    api.fail(fault, path=path, times=None)
    assert check(settings, DAY, 0, as_json=False, metrics=file, clock=clock.clock) == 3
    told = samples(file.read_text())
    assert told["check_verdict", "cannot_tell"] == 1
    assert {name for name, _ in told} == {"check_timestamp_seconds", "check_verdict"}


def test_of_what_cannot_be_judged_the_file_says_nothing(
    settings: Settings, api: Emulator, clock: ManualClock, tmp_path: Path
) -> None:
    keep_only(api.fleet, 12345, 12360)
    api.fail(Fault.edited(lambda listing: listing.update(count=99)), path="^/backups/$", times=None)
    assert check(settings, DAY, 0, as_json=False, metrics=tmp_path / "b.prom", clock=clock.clock) == 3
    told = samples((tmp_path / "b.prom").read_text())
    assert told["server_has_fresh_backup", "12345"] == 1
    assert ("server_has_fresh_backup", "12360") not in told
    assert told["servers", "cannot_tell"] == 1


def test_the_file_tells_of_no_more_than_a_thousand_servers() -> None:
    servers = tuple(server_health(number, [], DAY, NOW) for number in range(1, MOST_SERVERS + 500))
    told = samples("\n".join(metric_lines(FleetHealth(servers, DAY, NOW, (), "not_ok"), NOW)) + "\n")
    assert len([name for name, _ in told if name == "server_has_fresh_backup"]) == MOST_SERVERS
    assert told["servers", "no_good_backup"] == MOST_SERVERS + 499


@pytest.mark.parametrize("place", ["nowhere/b.prom", "file/b.prom", "folder.prom"])
@pytest.mark.usefixtures("fine")
def test_a_file_that_cannot_be_written_is_told_after_the_check(
    settings: Settings, clock: ManualClock, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.prom").mkdir()
    with pytest.raises(ConfigError, match=r"--prometheus names a file that cannot be written: \w+"):
        check(settings, DAY, 0, as_json=False, metrics=tmp_path / place, clock=clock.clock)
    assert capsys.readouterr().out.startswith("ok: Of 2 servers 2 have")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "state") == ["file", "folder.prom"]


@pytest.mark.usefixtures("fine")
def test_a_monitor_is_told_that_a_check_begins_and_that_all_is_well(settings: Settings, clock: ManualClock) -> None:
    with watching(200) as monitor:
        assert check(settings, DAY, 0, as_json=False, ping=monitor.url, clock=clock.clock) == 0
    assert monitor.asked == ["/URL/start", "/URL"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [(None, 1), (Fault.status(401, {"detail": "No."}), 3), (Fault.status(503), 3), (Fault.delay(0), 1)],
    ids=["a server without", "token", "maintenance", "slow"],
)
def test_a_monitor_is_told_of_whatever_is_not_well(
    settings: Settings, api: Emulator, clock: ManualClock, fault: Fault | None, code: int
) -> None:
    if fault:
        api.fail(fault, times=None)
    with watching(200) as monitor:
        assert check(settings, DAY, 0, as_json=False, ping=monitor.url, clock=clock.clock) == code
    assert monitor.asked == ["/URL/start", "/URL/fail"]


def test_a_monitor_is_told_of_settings_that_do_not_work_too(settings: Settings, clock: ManualClock) -> None:
    wrong = settings.model_copy(update={"vps_api_url": "https://vps.test:1/\x00"})
    with watching(200) as monitor, pytest.raises(ConfigError):
        check(wrong, DAY, 0, as_json=False, ping=monitor.url, clock=clock.clock)
    assert monitor.asked == ["/URL/start", "/URL/fail"]


@pytest.mark.parametrize(
    ("tail", "asked"),
    [
        ("/", ["/URL/start", "/URL"]),
        ("?rid=1", ["/URL/start?rid=1", "/URL?rid=1"]),
        ("/slug/?create=1", ["/URL/slug/start?create=1", "/URL/slug?create=1"]),
    ],
)
@pytest.mark.usefixtures("fine")
def test_what_is_told_is_put_to_the_path(settings: Settings, clock: ManualClock, tail: str, asked: list[str]) -> None:
    with watching(200) as monitor:
        assert check(settings, DAY, 0, as_json=False, ping=monitor.url + tail, clock=clock.clock) == 0
    assert monitor.asked == asked


@pytest.mark.parametrize(
    ("statuses", "asked", "fault"),
    [
        ((500, 500, 200), ["/URL/start", "/URL", "/URL"], "HTTP 500"),
        ((200, 500, 503, 200), ["/URL/start", "/URL", "/URL", "/URL"], ""),
        ((404,), ["/URL/start", "/URL", "/URL", "/URL"], "HTTP 404"),
        ((302,), ["/URL/start", "/URL", "/URL", "/URL"], "HTTP 302"),
        ((0,), ["/URL/start", "/URL", "/URL", "/URL"], "RemoteProtocolError"),
    ],
)
@pytest.mark.usefixtures("fine")
def test_a_monitor_that_fails_is_asked_again_and_never_breaks_the_check(
    settings: Settings,
    clock: ManualClock,
    capsys: pytest.CaptureFixture[str],
    statuses: tuple[int, ...],
    asked: list[str],
    fault: str,
) -> None:
    with watching(*statuses) as monitor:
        assert check(settings, DAY, 0, as_json=False, ping=monitor.url, clock=clock.clock) == 0
    assert monitor.asked == asked
    told = capsys.readouterr()
    assert told.out.startswith("ok: ")
    assert (f"was not told: {fault}." in told.err) == bool(fault)
    assert SECRET not in told.err


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9/5ecret-uuid", "https://127.0.0.1:9/5ecret-uuid", "http://no.such.host.invalid/5ecret-uuid"],
)
@pytest.mark.usefixtures("fine")
def test_a_monitor_that_is_not_there_never_breaks_the_check_and_is_not_shown(
    settings: Settings,
    clock: ManualClock,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    url: str,
) -> None:
    assert check(settings, DAY, 0, as_json=False, ping=url, clock=clock.clock) == 0
    told = capsys.readouterr()
    assert told.err.count("was not told: ConnectError.") == 2
    assert SECRET not in told.out + told.err + caplog.text


@pytest.mark.parametrize(
    "url",
    [
        SECRET,
        f"ftp://hc.test/{SECRET}",
        f"https:///{SECRET}",
        f"https://u:{SECRET}@hc.test/",
        f"https://hc.test/ {SECRET}",
        f"https://hc.test:port/{SECRET}",
        f"https://hc.test/{SECRET}\x1b",
        f"https://hc.test/é{SECRET}",
        f"@/{SECRET}",
        "@/dev/zero",
        "@",
        "",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_shown(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["check", "--ping", url])
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert "--ping: an address that begins with https:// or http://, or @FILE that holds one" in told
    assert SECRET not in told


@pytest.mark.parametrize("path", ["backups.txt", "prom", "/x/backups.prom/", ""])
def test_a_file_that_the_collector_would_not_read_is_refused(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["check", "--prometheus", path])
    assert end.value.code == 2
    assert "ends in .prom" in capsys.readouterr().err


def test_the_command_takes_both_and_the_address_from_a_file(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_in_thread() as emulator, watching(200) as monitor:
        for name, value in (
            ("VPS_API_URL", emulator.base_url),
            ("VPS_API_TOKEN", emulator.token),
            ("MCP_BACKUPS_STATE_DIR", str(make_settings().state_dir)),
        ):
            monkeypatch.setenv(name, value)
        (tmp_path / "ping").write_text(f"{monitor.url}\r\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        told = ["--ping", "@~/ping", "--prometheus=~/b.prom"]
        assert main(["check", "--server", "12345", *told]) == 0
    assert monitor.asked == ["/URL/start", "/URL"]
    assert samples((tmp_path / "b.prom").read_text())["server_has_fresh_backup", "12345"] == 1
