import ast
import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
import trustme

import mcp_backups.sandbox
from mcp_backups.sandbox import Emulator, Fault, Fleet, serve_in_thread
from tests.process import running

from .stage import PATIENCE, client, converse, request

HOME = Path(mcp_backups.sandbox.__file__).parent


@pytest.mark.anyio
async def test_every_request_is_remembered_in_order_with_what_it_carried() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        await http.get("/backups/", params={"server_id": "12345", "note": "a b"})
        await http.post("/backups/", json={"server_id": 12345, "description": "naïve"})
    first, second = emulator.requests
    assert (first.method, first.path, first.query) == ("GET", "/backups/", {"server_id": "12345", "note": "a b"})
    assert first.target == "/api/v1/backups/?server_id=12345&note=a+b"
    assert second.headers["content-type"] == "application/json"
    assert second.json() == {"server_id": 12345, "description": "naïve"}
    assert (emulator.count("GET"), emulator.count("POST", "/backups/"), emulator.count("POST", "/servers/")) == (
        1,
        1,
        0,
    )


@pytest.mark.anyio
async def test_a_remembered_request_holds_the_token_but_never_shows_it() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        await http.get("/backups/")
    received = emulator.requests[0]
    assert received.authorization == f"Bearer {emulator.token}"
    assert emulator.token not in repr(received)
    assert emulator.token not in repr(emulator.fleet)


@pytest.mark.anyio
async def test_requests_sent_ahead_are_answered_in_turn() -> None:
    async with Emulator() as emulator:
        sent = request(emulator) + request(emulator, "GET /api/v1/nowhere/", "Connection: close")
        answer = await converse(emulator, sent)
    assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b"HTTP/1.1 404 Not Found") == 1


@pytest.mark.anyio
async def test_the_answer_to_a_head_request_has_no_body() -> None:
    async with Emulator() as emulator:
        sent = request(emulator, "HEAD /api/v1/backups/") + request(emulator, "GET /x", "Connection: close")
        answer = await converse(emulator, sent)
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"\r\n\r\nHTTP/1.1 404 " in answer


@pytest.mark.anyio
async def test_while_it_is_down_connections_are_refused_and_afterwards_all_is_as_before() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        url = emulator.base_url
        await http.delete("/backups/501/")
        await emulator.down()
        with pytest.raises(httpx2.ConnectError):
            await http.get("/account/me/")
        await emulator.up()
        assert (await http.get("/account/me/")).status_code == 200
        assert (emulator.base_url, 501 in emulator.fleet.backups) == (url, False)


@pytest.mark.anyio
async def test_it_stops_though_a_client_is_still_waiting() -> None:
    waiting = asyncio.Event()

    async def nap(_: float) -> None:
        waiting.set()

    async with asyncio.timeout(PATIENCE):
        async with Emulator(sleep=nap) as emulator:
            emulator.fail(replace(Fault.silence(), pause=1))
            reader, writer = await asyncio.open_connection(emulator.host, emulator.port)
            writer.write(request(emulator))
            await waiting.wait()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.transport.abort()


@pytest.mark.anyio
async def test_two_serve_side_by_side_with_their_own_fleets() -> None:
    async with Emulator() as one, Emulator(Fleet()) as other, client(one) as http, client(other) as third:
        assert one.port != other.port
        assert (await http.get("/servers/")).json()["count"] == 8
        assert (await third.get("/servers/")).json()["count"] == 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (None, None),
        (Fault.reset_after(), httpx2.ReadError),
        (Fault.close_after(), httpx2.RemoteProtocolError),
        (Fault.cut_body(), httpx2.RemoteProtocolError),
    ],
)
async def test_it_speaks_tls_and_fails_in_tls_too(fault: Fault | None, error: type[Exception] | None) -> None:
    authority = trustme.CA()
    server, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(trusting)
    async with (
        Emulator(ssl=server, page_size=20) as emulator,
        httpx2.AsyncClient(verify=trusting, timeout=PATIENCE, trust_env=False) as http,
    ):
        headers = {"Authorization": f"Bearer {emulator.token}"}
        if fault is None or error is None:
            answer = await http.get(f"{emulator.base_url}/backups/", headers=headers)
            assert answer.json()["next"] == f"{emulator.base_url}/backups/?page=2"
            assert emulator.base_url.startswith("https://127.0.0.1:")
        else:
            emulator.fail(fault)
            with pytest.raises(error):
                await http.get(f"{emulator.base_url}/backups/", headers=headers)


@pytest.mark.anyio
async def test_a_client_that_does_not_trust_its_certificate_never_gets_to_ask() -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(server)
    async with Emulator(ssl=server) as emulator, client(emulator) as http:
        with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await http.get("/backups/")
    assert (emulator.connections, emulator.requests) == (1, [])


def test_in_a_thread_it_serves_a_program_that_blocks() -> None:
    with serve_in_thread(Emulator(page_size=3)) as emulator:
        headers = {"Authorization": f"Bearer {emulator.token}"}
        with httpx2.Client(base_url=emulator.base_url, headers=headers, timeout=PATIENCE, trust_env=False) as http:
            assert len(http.get("/backups/").json()["results"]) == 3
            emulator.fail(Fault.reset_after(), method="DELETE")
            with pytest.raises(httpx2.ReadError):
                http.delete("/backups/501/")
            emulator.run(emulator.down())
            with pytest.raises(httpx2.ConnectError):
                http.get("/backups/")
            emulator.run(emulator.up())
            assert http.get("/account/me/").status_code == 200
        assert emulator.count("DELETE") == 1
        assert 501 not in emulator.fleet.backups
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(emulator.base_url, timeout=PATIENCE, trust_env=False)


def test_a_thread_ends_with_its_block_even_if_that_fails() -> None:
    def fail() -> None:
        with serve_in_thread() as emulator:
            served.append(emulator)
            raise LookupError

    served: list[Emulator] = []
    with pytest.raises(LookupError):
        fail()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(served[0].base_url, timeout=PATIENCE, trust_env=False)


def test_before_it_serves_nothing_can_be_run_in_its_loop() -> None:
    emulator = Emulator()
    coroutine = emulator.down()
    with pytest.raises(RuntimeError, match="not served"):
        emulator.run(coroutine)
    coroutine.close()


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_alone_it_says_in_one_line_how_to_use_it_and_leaves_quietly_when_told(number: signal.Signals) -> None:
    program = [sys.executable, "-W", "error", "-c", "from mcp_backups.sandbox import run; run(0, page_size=7)"]
    with running(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HOME.parent.parent) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        settings = dict(word.split("=", 1) for word in line.split() if "=" in word)
        answer = httpx2.get(
            f"{settings['VPS_API_URL']}/backups/",
            headers={"Authorization": f"Bearer {settings['VPS_API_TOKEN']}"},
            timeout=PATIENCE,
            trust_env=False,
        )
        process.send_signal(number)
        rest, errors = process.communicate(timeout=PATIENCE)
    assert len(answer.json()["results"]) == 7
    assert (process.returncode, rest, errors) == (0, "", "")


def test_alone_on_a_port_that_is_taken_it_says_so_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        program = [sys.executable, "-W", "error", "-c", f"from mcp_backups.sandbox import run; run({port})"]
        ended = subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"mcp-backups: --port {port} cannot be listened on; take another one.\n"


@pytest.mark.parametrize("module", sorted(HOME.glob("*.py")), ids=lambda path: path.stem)
def test_it_imports_nothing_of_ours(module: Path) -> None:
    """The emulator is a second reading of the API: code shared with the client would share its mistakes."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 1 or (node.level == 0 and str(node.module).split(".")[0] in allowed())
        if isinstance(node, ast.Import):
            assert all(alias.name.split(".")[0] in allowed() for alias in node.names)


def allowed() -> set[str]:
    return {*sys.stdlib_module_names, "h11"}
