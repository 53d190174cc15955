"""Metrics behind a credential, without a request to VPS.org; and logs whose lines tell which request they are about."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mcp_backups.logs import REQUEST_ID, configure_logging
from mcp_backups.metrics import MOST_SERVERS, Prometheus
from mcp_backups.models import Backup, Gap, Listing
from mcp_backups.sandbox import SANDBOX_TOKEN, Emulator, Fault
from tests.consent.test_http import HEADERS, listing
from tests.stage import NOW, Era, MakeSettings, ManualClock
from tests.web.stage import serving


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Each sample by its name and the values of its labels in the order of their names, but for times of making."""
    return {
        (each.name, *(value for _, value in sorted(each.labels.items()) if value)): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if not each.name.endswith(("_created", "_bucket", "_sum"))
    }


@pytest.mark.anyio
async def test_metrics_are_only_read(emulator: Emulator, clock: ManualClock, make_settings: MakeSettings) -> None:
    async with serving(emulator, make_settings(), clock, metrics=Prometheus()) as served:
        let_in = served.let_in("prometheus", "read")
        url = httpx2.URL(served.url).join("/metrics")
        assert (await served.http.head(url, headers=let_in)).status_code == 200
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
            refused = await served.http.request(method, url, headers=let_in)
            assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD"), method


@pytest.mark.anyio
async def test_calls_requests_and_the_newest_good_backups_are_told(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, era: Era
) -> None:
    async with serving(emulator, make_settings(), clock, metrics=Prometheus()) as served:
        token = served.token("prometheus", "read")
        let_in = {"Authorization": f"Bearer {token}"}
        assert (await served.get("/metrics")).status_code == 401
        assert (await served.get("/metrics", Host="evil.example", **let_in)).status_code == 421
        assert not any("timestamp" in name for name, *_ in samples((await served.get("/metrics", **let_in)).text))
        async with served.client(served.token("her", "destroy"), era) as agent:
            await agent.call("list_backups")
            await agent.call("list_backups", limit=1000)
            await agent.call("delete_backup", backup_id=499)
            await agent.call("delete_backup", backup_id=1)
            emulator.fail(Fault.status(503), method="GET", times=None)
            await agent.call("list_backups")
        asked = len(emulator.requests)
        told = await served.get("/metrics", **let_in)
        assert len(emulator.requests) == asked
    found = samples(told.text)
    assert told.headers["content-type"].startswith("text/plain")
    calls = {each[1:]: value for each, value in found.items() if each[0] == "mcp_backups_tool_calls_total"}
    assert calls == {
        ("ok", "list_backups"): 1,
        ("invalid_argument", "list_backups"): 1,
        ("upstream_unavailable", "list_backups"): 1,
        ("needs_confirmation", "delete_backup"): 1,
        ("not_found", "delete_backup"): 1,
    }
    assert found["mcp_backups_upstream_request_seconds_count", "GET /backups/", "503"] == 3
    assert found["mcp_backups_upstream_request_seconds_count", "GET /backups/", "200"] >= 1
    newest = max(
        each.created_at for each in emulator.fleet.backups.values() if each.server_id == 12345 and each.size_mb
    )
    assert found["mcp_backups_newest_good_backup_timestamp_seconds", "12345"] <= newest.timestamp()
    assert found["mcp_backups_last_complete_list_timestamp_seconds",] == NOW.timestamp()
    for secret in (SANDBOX_TOKEN, token, "web-server-01", "Pre-update backup"):
        assert secret not in told.text


@pytest.mark.anyio
async def test_without_the_extra_there_are_no_metrics(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    async with serving(emulator, make_settings(), clock) as served:
        assert (await served.get("/metrics", **served.let_in("her", "read"))).status_code == 404


def a_backup(number: int, server_id: int, made: int) -> Backup:
    return Backup(
        id=number,
        server_id=server_id,
        server_name="",
        type="manual",
        status="completed",
        size_mb=1.0,
        created_at=NOW.replace(year=2000 + made),
        expires_at=None,
        description="",
    )


def test_a_list_that_is_not_complete_tells_nothing_and_doubtful_backups_do_not_count() -> None:
    metrics = Prometheus()
    whole = Listing((a_backup(1, 7, 20), a_backup(2, 7, 21), a_backup(3, 8, 22)))
    metrics.of("").seen(whole, {2}, NOW)
    before = samples(metrics.exposition([""])[0].decode())
    metrics.of("").seen(Listing(whole.rows[:1], (Gap("a page is missing"),)), {}, NOW)
    assert samples(metrics.exposition([""])[0].decode()) == before
    name = "mcp_backups_newest_good_backup_timestamp_seconds"

    assert before[name, "7"] == NOW.replace(year=2020).timestamp()
    assert before[name, "8"] == NOW.replace(year=2022).timestamp()


def test_of_many_servers_those_whose_newest_backup_is_oldest_are_told() -> None:
    metrics = Prometheus()
    rows = tuple(a_backup(number + 1, number + 1, number % 26) for number in range(MOST_SERVERS + 50))
    metrics.of("").seen(Listing(rows), {}, NOW)
    name = "mcp_backups_newest_good_backup_timestamp_seconds"
    told = [value for (each, *_), value in samples(metrics.exposition([""])[0].decode()).items() if each == name]
    assert len(told) == MOST_SERVERS
    assert max(told) < NOW.replace(year=2025).timestamp()


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Everything that is logged from now on, as JSON."""
    root, raises = logging.getLogger(), logging.raiseExceptions
    before, level = root.handlers[:], root.level
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    configure_logging("INFO", "s3cret", as_json=True)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines() if line.startswith("{")]
    root.handlers, logging.raiseExceptions = before, raises
    root.setLevel(level)
    logging.getLogger("mcp_backups").setLevel(logging.NOTSET)


@pytest.mark.anyio
async def test_each_line_of_the_log_tells_its_request(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, era: Era, log_lines: Any
) -> None:
    async with serving(emulator, make_settings(), clock) as served:
        token = served.token("her", "read")
        async with served.client(token, era) as agent:
            await agent.call("list_backups")
            await agent.call("list_backups")
    calls = [each for each in log_lines() if each["message"].startswith("list_backups: ok")]
    requests = [each for each in log_lines() if each["message"].startswith("GET /backups/")]
    assert len(calls) == 2
    assert len({each["request_id"] for each in calls}) == 2
    assert {each["request_id"] for each in requests} == {each["request_id"] for each in calls}
    assert token not in json.dumps(log_lines())


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("given", "taken"),
    [("from-the-proxy.1", True), ("", False), ("two\twords", False), ("x" * 65, False), ("a{b}", False)],
)
async def test_a_request_keeps_the_id_that_a_proxy_gave_it(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, given: str, taken: bool
) -> None:
    async with serving(emulator, make_settings(), clock) as served:
        for status, headers in ((401, {}), (200, served.let_in("her", "read"))):
            told = await served.post(listing(), **HEADERS, **headers, **({"X-Request-Id": given} if given else {}))
            assert told.status_code == status
            assert (told.headers["x-request-id"] == given) == taken
            assert told.headers["x-request-id"].isprintable()


def test_a_record_as_json_is_one_line_with_secrets_masked(log_lines: Any) -> None:
    REQUEST_ID.set("")
    try:
        int("s3cret\nsecond line\x1b[31m")
    except ValueError:
        logging.getLogger("mcp_backups").exception("s3cret\x1b[31m %s", "and\nmore")
    (told,) = log_lines()
    assert told["message"] == "***\\x1b[31m and | more"
    assert "s3cret" not in told["exception"]
    assert "second line" in told["exception"]
    assert told.keys() == {"time", "level", "logger", "message", "exception"}
