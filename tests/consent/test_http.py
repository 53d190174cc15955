"""`mcp-backups serve --http`: for this machine only, by any number of processes, and ended without losing a write."""

import contextlib
import http.client
import json
import socket
import stat
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from mcp_backups.sandbox import Fault
from mcp_backups.transport import sealing_key
from mcp_backups.web import listen, loopback_names
from tests.consent.conftest import House
from tests.consent.test_matrix import accept
from tests.consent.test_replies import FORGED
from tests.consent.wire import MODERN, VERSIONS, Caller, Message, Web, as_answer
from tests.process import COMMAND, environment
from tests.stage import PATIENCE, recorded

CAN_ASK: Message = {"elicitation": {}}
HEADERS = {
    "Accept": "application/json, text/event-stream",
    "Content-Type": "application/json",
    "MCP-Protocol-Version": MODERN,
    "Mcp-Method": "tools/list",
}


@pytest.fixture
def web(house: House) -> Callable[[str], Caller]:
    """`web(url)`: a client of 2026-07-28 that can ask its user."""
    return lambda url: Caller(Web(url, house.http), MODERN, CAN_ASK)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "localhost.example.com"])
def test_it_listens_on_this_machine_only(tmp_path: Path, host: str) -> None:
    command = [*COMMAND, "serve", "--http", "--port", "0", "--host", host]
    ended = subprocess.run(
        command, env=environment(tmp_path), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("mcp-backups: --host must be an address of this machine")


def test_a_port_in_use_is_told(house: House, tmp_path: Path) -> None:
    port = str(urlsplit(house.url("auto")).port)
    command = [*COMMAND, "serve", "--http", "--port", port]
    ended = subprocess.run(
        command, env=environment(tmp_path), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (ended.returncode, ended.stderr) == (
        2,
        f"mcp-backups: --port {port} cannot be listened on; take another one.\n",
    )


@pytest.mark.parametrize("host", ["127.0.0.2", "localhost"])
def test_a_client_reaches_it_by_the_address_it_tells(house: House, host: str) -> None:
    url = house.serve("auto", "--host", host)
    assert urlsplit(url).hostname == host
    assert not Caller(Web(url, house.http), MODERN, {}).call("list_backups").is_error


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:{port}"}, 200),
        ({"Host": "evil.example:{port}"}, 421),
        ({"Host": "127.0.0.1.evil.example:{port}"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_requests_that_a_web_page_could_make_are_refused(house: House, headers: dict[str, str], status: int) -> None:
    url = house.url("auto")
    port = urlsplit(url).port
    sent = {name: value.format(port=port) for name, value in headers.items()}
    assert post(house, url, listing(), **sent).status_code == status


@pytest.mark.parametrize("path", ["/", "/mcp", "/mcp/", "/mcp//", "/mcp/x", "/healthz", "//evil.example/mcp"])
@pytest.mark.parametrize(
    ("name", "value", "status"), [("Host", "evil.example", 421), ("Origin", "http://evil.example", 403)]
)
def test_host_and_origin_are_checked_on_every_path_and_never_lead_elsewhere(
    house: House, path: str, name: str, value: str, status: int
) -> None:
    for headers, expected in (({name: value}, {status}), ({}, {200, 404})):
        told = _request(house, path, HEADERS | headers)
        assert told.status in expected
        assert told.getheader("Location") is None


def test_a_slash_at_the_end_does_not_matter(house: House) -> None:
    url = house.url("auto")
    assert post(house, f"{url}/", listing()).json() == post(house, url, listing()).json()


def test_a_client_may_leave_out_the_port_that_http_has_anyway() -> None:
    assert {"localhost", "localhost:80", "127.0.0.1", "[::1]"} <= loopback_names("127.0.0.1", 80)
    assert {name.rpartition(":")[2] for name in loopback_names("127.0.0.1", 8765)} == {"8765"}


def test_localhost_is_both_of_ipv4_and_ipv6(house: House) -> None:
    url = house.serve("auto", "--host", "localhost")
    port = urlsplit(url).port
    for address in ("127.0.0.1", "[::1]") if _has_ipv6() else ("127.0.0.1",):
        assert post(house, f"http://{address}:{port}/mcp", listing()).status_code == 200


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


def test_no_answer_waits_for_another_packet_to_be_acknowledged() -> None:
    """Otherwise each on a kept connection takes 40 ms more."""
    (listening,) = listen("127.0.0.1", 0)
    with listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_stream_that_cannot_be_resumed_begins_anew(house: House) -> None:
    url = house.url("auto")
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}
    accept_all = {"Accept": "application/json, text/event-stream"}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    session = house.http.post(url, json=message, headers=accept_all).headers["mcp-session-id"]
    resumed = {"Accept": "text/event-stream", "Mcp-Session-Id": session, "Last-Event-ID": "17"}
    with house.http.stream("GET", url, headers=resumed) as stream:
        assert stream.status_code == 200
        assert stream.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize(("size", "status"), [(200 * 1024, 200), (257 * 1024, 413), (5 * 2**20, 413)])
def test_bodies_over_256_kib_are_refused(house: House, size: int, status: int) -> None:
    body = listing()
    body["params"]["_meta"]["filler"] = "x" * size
    assert post(house, house.url("auto"), body).status_code == status


def test_a_body_that_does_not_tell_its_size_is_refused_all_the_same(house: House) -> None:
    parts = urlsplit(house.url("auto"))
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
    headers = HEADERS | {"Authorization": f"Bearer {house.token(house.url('auto'))}"}
    connection.request("POST", "/mcp", (b"x" * 1024 for _ in range(300)), headers, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_one_process_asks_and_another_takes_the_answer(house: House, web: Callable[[str], Caller]) -> None:
    backup_id = house.new_backup()
    first, second = web(house.url("auto")), web(house.serve("auto"))
    arguments = {"backup_id": backup_id, "confirm": True}
    answered = first.answered(first.round("delete_backup", arguments), accept)
    done = as_answer(second.round("delete_backup", arguments, **answered)["result"])
    again = as_answer(first.round("delete_backup", arguments, **answered)["result"])
    assert (done.status, done.approved_by, done.replayed) == ("succeeded", "person", False)
    assert (again.operation, again.replayed) == (done.operation, True)
    assert house.deletes(backup_id) == 1


def test_two_processes_that_get_the_answer_at_once_delete_once(house: House, web: Callable[[str], Caller]) -> None:
    backup_id = house.new_backup()
    callers = [web(house.url("auto")), web(house.serve("auto"))] * 4
    arguments = {"backup_id": backup_id, "confirm": True}
    answered = callers[0].answered(callers[0].round("delete_backup", arguments), accept)
    with ThreadPoolExecutor(len(callers)) as pool:
        told = list(pool.map(lambda caller: caller.round("delete_backup", arguments, **answered), callers))
    answers = [as_answer(each["result"]) for each in told]
    assert {answer.code or answer.status for answer in answers} == {"succeeded"}
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 7
    assert house.deletes(backup_id) == 1


def test_an_answer_to_another_installations_question_is_none(house: House, web: Callable[[str], Caller]) -> None:
    backup_id = house.new_backup()
    here, elsewhere = web(house.url("auto")), web(house.serve("auto", installation="elsewhere"))
    arguments = {"backup_id": backup_id, "confirm": True}
    answered = elsewhere.answered(elsewhere.round("delete_backup", arguments), accept)
    assert as_answer(here.round("delete_backup", arguments, **answered)["result"]).text == FORGED
    assert house.deletes(backup_id) == 0


def test_the_state_tells_the_client_nothing(house: House, web: Callable[[str], Caller]) -> None:
    caller = web(house.url("auto"))
    backup_id = house.new_backup()
    plan = caller.call("delete_backup", backup_id=backup_id)
    arguments = {"backup_id": backup_id, "confirm": True, "operation_id": plan.operation}
    state = caller.round("delete_backup", arguments)["result"]["requestState"]
    assert plan.operation not in state
    assert "operation" not in state


def test_the_sealing_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: sealing_key(folder), range(32)))
    (key,) = keys
    assert key is not None
    assert len(key) == 32
    assert sealing_key(folder) == key
    assert sealing_key(tmp_path / "other") != key
    assert {each.name for each in folder.iterdir()} == {"installation.key", "ledger.end", "ledger.lock"}
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}


def test_the_key_that_0_1_0_sealed_questions_with_goes_on_sealing_them(tmp_path: Path) -> None:
    (tmp_path / "sealing.key").write_bytes(bytes(range(32)))
    assert sealing_key(tmp_path) == bytes(range(32))


def test_without_a_place_for_the_key_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    assert sealing_key(tmp_path / "state") is None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_write_under_way_is_recorded_before_the_end(house: House, version: str) -> None:
    """The process is told to end between the request and VPS.org's answer."""
    backup_id, installation = house.new_backup(), f"ending-{version}"
    with house.serving("flag", installation=installation) as (process, url):
        house.emulator.fail(Fault.delay(0.7), method="DELETE", path=f"/backups/{backup_id}/")
        caller = Caller(Web(url, house.http), version, {})
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(caller.round, "delete_backup", {"backup_id": backup_id, "confirm": True})
            house.wait_until(lambda: house.deletes(backup_id) == 1)
            process.terminate()
            assert process.wait(PATIENCE) == 0
            call.exception(PATIENCE)  # whether the answer still reached the client is the network's affair
    assert backup_id not in house.emulator.fleet.backups
    (operation,) = recorded(house.folder(installation))
    assert (operation.status, house.deletes(backup_id)) == ("succeeded", 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_call_that_waits_is_answered_before_the_end(house: House, version: str) -> None:
    with house.serving("flag", installation=f"waiting-{version}") as (process, url):
        caller = Caller(Web(url, house.http), version, {})
        made = house.emulator.count("POST")
        arguments: Message = {"server_id": 12346, "wait_seconds": 45, "allow_duplicate": True}
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(caller.call, "create_backup", **arguments)
            house.wait_until(lambda: house.emulator.count("POST") == made + 1)
            process.terminate()
            assert call.result(PATIENCE).status == "succeeded"
        assert process.wait(PATIENCE / 3) == 0


def test_a_question_under_way_does_not_keep_the_process(house: House) -> None:
    """Before 2026-07-28, when a call stays open while the user thinks."""
    backup_id, installation = house.new_backup(), "asking"
    with house.serving("auto", installation=installation) as (process, url):
        caller = Caller(Web(url, house.http), "2025-11-25", CAN_ASK)

        def end_it(_: Message) -> Message:
            process.terminate()
            assert process.wait(PATIENCE / 3) == 0
            return {"action": "decline"}

        with contextlib.suppress(httpx2.TransportError, KeyError):
            caller.call("delete_backup", end_it, backup_id=backup_id, confirm=True)
    assert len(caller.asked) == 1
    assert house.deletes(backup_id) == 0
    assert [operation.status for operation in recorded(house.folder(installation))] == ["planned"]


def _request(house: House, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    parts = urlsplit(house.url("auto"))
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
    let_in = {"Authorization": f"Bearer {house.token(house.url('auto'))}"}
    try:
        connection.request("POST", path, json.dumps(listing()), let_in | headers)
        return connection.getresponse()
    finally:
        connection.close()


def listing() -> Message:
    """A request for the tools."""
    envelope = {"protocolVersion": MODERN, "clientCapabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}
    meta = {f"io.modelcontextprotocol/{name}": value for name, value in envelope.items()}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}


def post(house: House, url: str, body: Message, **headers: str) -> httpx2.Response:
    return house.http.post(url, json=body, headers=HEADERS | headers)


def test_a_restore_is_not_sent_for_a_caller_whose_connection_is_gone(house: House) -> None:
    """Before 2026-07-28 the end of a connection cancels nothing: the call goes on, as far as its safety backup."""
    installation, restore = "gone", {"server_id": 12351, "backup_id": 383, "confirm": True}
    with (
        house.serving("flag", installation=installation) as (process, url),
        httpx2.Client(timeout=3.0, auth=house.let_in) as impatient,
    ):
        caller = Caller(Web(url, impatient), "2025-11-25", {})
        sent = house.emulator.count("POST")
        with pytest.raises(httpx2.ReadTimeout):
            caller.round("restore_server", restore)
        house.wait_until(lambda: house.emulator.count("POST") == sent + 1)
        made = house.emulator.fleet.last_backup_id
        house.emulator.finish_all()
        looks = house.emulator.count("GET")
        house.wait_until(lambda: house.emulator.count("GET") >= looks + 3)  # it is finished, and looked at again
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert house.restores(383) == 0
    safety, waiting = sorted(recorded(house.folder(installation)), key=lambda each: each.action)
    assert (safety.status, safety.backup_id, waiting.status) == ("succeeded", made, "preparing")
