import httpx2
import pytest

from mcp_backups.sandbox import Emulator, Received
from mcp_backups.sandbox.control import answer as control_answer

from .stage import client

pytestmark = pytest.mark.anyio


def visitor(emulator: Emulator) -> httpx2.AsyncClient:
    """A client of the control surface, without a token."""
    return httpx2.AsyncClient(base_url=f"http://{emulator.host}:{emulator.port}/_sandbox", trust_env=False)


async def test_it_tells_what_was_received_without_the_token_and_without_itself() -> None:
    async with Emulator() as emulator, client(emulator) as http, visitor(emulator) as control:
        await http.get("/backups/", params={"server_id": 12345})
        await http.post("/backups/", json={"server_id": 12345})
        await control.get("/requests")
        answer = await control.get("/requests")
    told = answer.json()
    assert (told["count"], told["counts"]) == (2, {"GET /backups/": 1, "POST /backups/": 1})
    assert told["requests"][0]["query"] == {"server_id": "12345"}
    assert told["requests"][1]["body"] == '{"server_id":12345}'
    assert (told["requests"][1]["applied"], told["requests"][1]["status"]) == (True, 201)
    assert emulator.token not in answer.text
    assert len(emulator.requests) == 2


async def test_faults_can_be_ordered_and_cleared_in_json() -> None:
    order = {
        "kind": "status",
        "code": 503,
        "body": {"detail": "no"},
        "method": "GET",
        "path": "^/backups/$",
        "times": 2,
    }
    async with Emulator() as emulator, client(emulator) as http, visitor(emulator) as control:
        assert (await control.post("/faults", json=order)).json() == {"faults": 1}
        statuses = [(await http.get(path)).status_code for path in ("/account/me/", "/backups/")]
        assert (await control.delete("/faults")).status_code == 204
        statuses.append((await http.get("/backups/")).status_code)
    assert statuses == [200, 503, 200]


@pytest.mark.parametrize(
    "order",
    [
        {"kind": "delay", "seconds": 0},
        {"kind": "reset_before"},
        {"kind": "reset_after", "apply": False},
        {"kind": "close_after"},
        {"kind": "silence", "apply": True, "late": 3},
        {"kind": "half_header"},
        {"kind": "cut_body"},
        {"kind": "drip", "interval_seconds": 0.5, "where": "header"},
        {"kind": "endless_body"},
        {"kind": "gzip_bomb", "mebibytes": 1},
        {"kind": "rows", "values": {"status": "available"}, "server_id": 12345},
        {"kind": "lagging", "seconds": 30, "method": "GET", "times": None},
        {"kind": "raw", "data": "HTTP/1.1 200 OK\r\n", "apply": True, "times": None, "skip": 3},
    ],
)
async def test_every_kind_of_fault_has_a_json_form(order: dict[str, object]) -> None:
    async with Emulator() as emulator, visitor(emulator) as control:
        assert (await control.post("/faults", json=order)).status_code == 201


@pytest.mark.parametrize(
    "order",
    [
        b"",
        b"[]",
        b'"silence"',
        b"{}",
        b'{"kind": "earthquake"}',
        b'{"kind": "status"}',
        b'{"kind": "status", "code": "503"}',
        b'{"kind": "status", "code": 503, "headers": []}',
        b'{"kind": "silence", "apply": "no"}',
        b'{"kind": "silence", "loud": true}',
        b'{"kind": "rows", "values": ["status"]}',
        b'{"kind": "lagging", "seconds": -1}',
        b'{"kind": "delay", "seconds": -1}',
        b'{"kind": "delay", "seconds": "1"}',
        b'{"kind": "delay", "seconds": 1, "path": "("}',
        b'{"kind": "delay", "seconds": 1, "times": "2"}',
        b'{"kind": "drip", "interval_seconds": 1, "where": "footer"}',
    ],
)
async def test_an_order_that_makes_no_sense_is_a_400_and_changes_nothing(order: bytes) -> None:
    async with Emulator() as emulator, visitor(emulator) as control:
        answer = await control.post("/faults", content=order)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("Not a fault: ")
    assert len(emulator.faults) == 0


async def test_its_behaviour_can_be_changed_in_json() -> None:
    order = {"statuses": ["queued", "available"], "lag_seconds": 0, "backup_seconds": 2.5, "honour_filters": False}
    async with Emulator() as emulator, client(emulator) as http, visitor(emulator) as control:
        assert (await control.post("/behaviour", json=order)).status_code == 204
        assert (await http.post("/backups/", json={"server_id": 12345})).json()["status"] == "queued"
        assert (await http.get("/backups/", params={"server_id": 12360})).json()["count"] == 82


@pytest.mark.parametrize(
    "order",
    [
        b"",
        b"[]",
        b'{"pages": 3}',
        b'{"lag_seconds": -1}',
        b'{"lag_seconds": "1"}',
        b'{"statuses": ["queued"]}',
        b'{"statuses": [1, 2]}',
        b'{"honour_filters": 0}',
        b'{"honour_filters": false, "lag_seconds": null}',
    ],
)
async def test_a_behaviour_that_makes_no_sense_is_a_400_and_changes_nothing(order: bytes) -> None:
    async with Emulator() as emulator, client(emulator) as http, visitor(emulator) as control:
        answer = await control.post("/behaviour", content=order)
        assert (answer.status_code, answer.json()["detail"][:17]) == (400, "Not a behaviour. ")
        assert (await http.get("/backups/", params={"server_id": 12360})).json()["count"] == 0


async def test_it_shows_the_fleet_without_passwords_and_tokens_and_finishes_what_runs() -> None:
    async with Emulator() as emulator, client(emulator) as http, visitor(emulator) as control:
        await http.post("/backups/", json={"server_id": 12360})
        await http.post("/servers/12345/restore/", json={"backup_id": 499})
        assert (await control.post("/finish")).status_code == 204
        answer = await control.get("/fleet")
    fleet = answer.json()
    assert fleet["backups"][-1]["status"] == "completed"
    assert [(restore["server_id"], restore["backup_id"]) for restore in fleet["restores"]] == [(12345, 499)]
    assert fleet["servers"][0]["disk"] == 499
    assert emulator.token not in answer.text
    assert emulator.fleet.servers[12345].password not in answer.text


async def test_no_fault_touches_it() -> None:
    async with Emulator() as emulator, visitor(emulator) as control:
        await control.post("/faults", json={"kind": "reset_after", "times": None})
        assert (await control.get("/requests/")).json()["count"] == 0


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("PUT", "/faults", 405)])
async def test_it_has_no_other_routes_and_methods(method: str, path: str, status: int) -> None:
    async with Emulator() as emulator, visitor(emulator) as control:
        assert (await control.request(method, path)).status_code == status


async def test_to_other_machines_it_does_not_exist() -> None:
    asked = Received("GET", "/_sandbox/fleet", "/_sandbox/fleet", query={}, headers={})
    assert control_answer(Emulator(), asked, "203.0.113.9").status == 404
    assert control_answer(Emulator(), asked, "127.0.0.1").status == 200
