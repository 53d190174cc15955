import pytest

from mcp_backups.sandbox import Emulator

from .stage import client

pytestmark = pytest.mark.anyio


async def test_without_pages_the_whole_list_comes_whatever_is_asked() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        answer = (await http.get("/backups/", params={"page": 2, "page_size": 10})).json()
    assert list(answer) == ["count", "results"]
    assert len(answer["results"]) == 81


async def test_following_next_gives_every_backup_once() -> None:
    async with Emulator(page_size=20) as emulator, client(emulator) as http:
        url: str | None = f"{emulator.base_url}/backups/?backup_type=automatic"
        pages = []
        while url is not None:
            pages.append((await http.get(url)).json())
            url = pages[-1]["next"]
    ids = [row["id"] for page in pages for row in page["results"]]
    assert [len(page["results"]) for page in pages] == [20, 20, 20, 13]
    assert len(set(ids)) == pages[0]["count"] == 73
    assert pages[1]["next"] == f"{emulator.base_url}/backups/?backup_type=automatic&page=3"
    assert pages[1]["previous"] == f"{emulator.base_url}/backups/?backup_type=automatic"
    assert pages[0]["previous"] is pages[3]["next"] is None
    assert list(pages[0]) == ["count", "next", "previous", "results"]


@pytest.mark.parametrize(("asked", "rows"), [("7", 7), ("1000", 50), ("0", 20), ("-3", 20), ("many", 20)])
async def test_the_client_may_choose_the_size_up_to_the_largest(asked: str, rows: int) -> None:
    async with Emulator(page_size=20, max_page_size=50) as emulator, client(emulator) as http:
        answer = (await http.get("/backups/", params={"page_size": asked})).json()
    assert len(answer["results"]) == rows
    assert f"page_size={asked}" in answer["next"]


@pytest.mark.parametrize("page", ["6", "0", "-1", "two", "9" * 5000])
async def test_past_the_end_is_a_404(page: str) -> None:
    async with Emulator(page_size=20) as emulator, client(emulator) as http:
        answer = await http.get("/backups/", params={"page": page})
    assert (answer.status_code, answer.json()) == (404, {"detail": "Invalid page."})


async def test_the_last_page_can_be_asked_for_by_name_and_an_empty_list_has_one_page() -> None:
    async with Emulator(page_size=20) as emulator, client(emulator) as http:
        last = (await http.get("/backups/", params={"page": "last"})).json()
        empty = (await http.get("/backups/", params={"server_id": 12360})).json()
    assert len(last["results"]) == 1
    assert empty == {"count": 0, "next": None, "previous": None, "results": []}


async def test_servers_come_in_pages_too() -> None:
    async with Emulator(page_size=5) as emulator, client(emulator) as http:
        answer = (await http.get("/servers/", params={"page": 2})).json()
    assert (answer["count"], len(answer["results"])) == (8, 3)
