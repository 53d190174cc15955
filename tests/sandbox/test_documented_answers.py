import pytest

from mcp_backups.sandbox import Emulator

from .stage import Clock, client

pytestmark = pytest.mark.anyio

WEB = {"id": 12345, "name": "web-server-01"}


async def test_the_list_has_the_documented_rows_in_the_documented_order(clock: Clock) -> None:
    async with Emulator(now=clock) as emulator, client(emulator) as http:
        answer = await http.get("/backups/", params={"server_id": 12345})
    assert answer.status_code == 200
    assert list(answer.json()) == ["count", "results"]
    assert answer.json()["count"] == len(answer.json()["results"]) == 18
    assert answer.json()["results"][:3] == [
        {
            "id": 501,
            "server": WEB,
            "backup_type": "automatic",
            "status": "completed",
            "size_mb": 4523,
            "created_at": "2025-01-16T03:00:00Z",
            "expires_at": "2025-02-16T03:00:00Z",
            "description": "Automatic daily backup",
        },
        {
            "id": 499,
            "server": WEB,
            "backup_type": "manual",
            "status": "completed",
            "size_mb": 4456,
            "created_at": "2025-01-14T10:30:00Z",
            "expires_at": None,
            "description": "Pre-update backup",
        },
        {
            "id": 495,
            "server": WEB,
            "backup_type": "automatic",
            "status": "completed",
            "size_mb": 4389,
            "created_at": "2025-01-15T03:00:00Z",
            "expires_at": "2025-02-15T03:00:00Z",
            "description": "Automatic daily backup",
        },
    ]


async def test_the_list_is_by_id_descending_and_therefore_not_in_the_order_of_time(clock: Clock) -> None:
    async with Emulator(now=clock) as emulator, client(emulator) as http:
        rows = (await http.get("/backups/")).json()["results"]
    times = [row["created_at"] for row in rows]
    assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)
    assert times != sorted(times, reverse=True)
    assert rows[0]["created_at"] != max(times)


async def test_a_new_backup_is_in_progress_and_says_that_it_takes_time(clock: Clock) -> None:
    async with Emulator(now=clock) as emulator, client(emulator) as http:
        answer = await http.post("/backups/", json={"server_id": 12345, "description": " Before update "})
    assert answer.status_code == 201
    assert answer.json() == {
        "id": 502,
        "server": WEB,
        "backup_type": "manual",
        "status": "in_progress",
        "size_mb": None,
        "created_at": "2025-01-16T08:00:00Z",
        "expires_at": None,
        "description": "Before update",
        "message": "Backup is being created. This may take several minutes depending on server size.",
    }


async def test_a_delete_answers_204_with_nothing_and_is_for_good() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        answer = await http.delete("/backups/501/")
        again = await http.delete("/backups/501/")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Content-Length" not in answer.headers
    assert again.status_code == 404
    assert 501 not in emulator.fleet.backups


async def test_the_id_of_a_deleted_backup_is_never_used_again() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        await http.delete("/backups/501/")
        assert (await http.post("/backups/", json={"server_id": 12345})).json()["id"] == 502


async def test_a_restore_is_accepted_and_puts_the_backup_on_the_servers_disk(clock: Clock) -> None:
    async with Emulator(now=clock) as emulator, client(emulator) as http:
        answer = await http.post("/servers/12345/restore/", json={"backup_id": 499})
    assert answer.status_code == 202
    assert set(answer.json()) == {"message", "server_id", "backup_id"}
    assert emulator.fleet.servers[12345].disk == 499
    assert [(restore.server_id, restore.backup_id) for restore in emulator.fleet.restores] == [(12345, 499)]


async def test_the_servers_have_the_documented_shape_and_no_password(clock: Clock) -> None:
    async with Emulator(now=clock) as emulator, client(emulator) as http:
        answer = (await http.get("/servers/")).json()
    assert answer["count"] == 8
    assert answer["results"][0] == {
        "id": 12345,
        "name": "web-server-01",
        "hostname": "web01.example.com",
        "status": "active",
        "ip_address": "203.0.113.10",
        "location": "us-west",
        "plan": {"id": 11, "name": "Standard 2", "vcpus": 2, "memory": 4096, "storage": 80},
        "os": {"id": "debian-12", "name": "Debian 12"},
        "created_at": "2023-12-13T08:00:00Z",
        "updated_at": "2025-01-14T08:00:00Z",
    }


async def test_the_detail_of_a_server_holds_its_root_password() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        detail = (await http.get("/servers/12345/")).json()
        row = (await http.get("/servers/")).json()["results"][0]
    assert detail == row | {"password": emulator.fleet.servers[12345].password}


async def test_the_account_says_whose_token_it_is_and_what_it_may_do() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        answer = (await http.get("/account/me/")).json()
    assert list(answer["account"]) == ["email", "first_name", "last_name", "company_name", "created_at"]
    assert answer["account"]["created_at"] == "2024-06-15"
    assert answer["token"]["permissions"] == ["*:*"]


@pytest.mark.parametrize(
    ("path", "query", "count"),
    [
        ("/backups/", {"server_id": "12345"}, 18),
        ("/backups/", {"server_id": "12345", "backup_type": "manual"}, 3),
        ("/backups/", {"server_id": "12360"}, 0),
        ("/backups/", {"server_id": ""}, 81),
        ("/backups/", {"backup_type": "manual"}, 8),
        ("/backups/", {"status": "failed", "no_such": "filter"}, 81),
        ("/servers/", {"status": "stopped"}, 1),
        ("/servers/", {"location": "us-west"}, 4),
        ("/servers/", {"status": "active", "location": "us-east"}, 1),
        ("/servers/", {"name": "web-server-01"}, 8),
    ],
)
async def test_known_filters_count_and_unknown_ones_are_ignored(path: str, query: dict[str, str], count: int) -> None:
    async with Emulator() as emulator, client(emulator) as http:
        assert (await http.get(path, params=query)).json()["count"] == count


async def test_it_can_be_told_to_ignore_every_filter() -> None:
    async with Emulator(honour_filters=False) as emulator, client(emulator) as http:
        assert (await http.get("/backups/", params={"server_id": 12345})).json()["count"] == 81
        assert (await http.get("/servers/", params={"status": "stopped"})).json()["count"] == 8


@pytest.mark.parametrize("path", ["/backups/", "/account/me/", "/servers/1/", "/nowhere/"])
async def test_every_answer_carries_the_date_of_the_emulators_clock(path: str, clock: Clock) -> None:
    async with Emulator(now=clock) as emulator, client(emulator) as http:
        answer = await http.get(path)
    assert answer.headers["Date"] == "Thu, 16 Jan 2025 08:00:00 GMT"


async def test_a_connection_serves_many_requests_unless_the_client_wants_it_closed() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        kept = [await http.get("/account/me/") for _ in range(3)]
        assert emulator.connections == 1
        closed = await http.get("/account/me/", headers={"Connection": "close"})
        await http.get("/account/me/")
        assert emulator.connections == 2
    assert [answer.headers.get("Connection") for answer in (*kept, closed)] == [None, None, None, "close"]
