import pytest

from mcp_backups.sandbox import Emulator, Throttle

from .stage import Clock, client, converse, request

pytestmark = pytest.mark.anyio

NO_TOKEN = "Authentication credentials were not provided."


@pytest.mark.parametrize(
    ("authorization", "detail"),
    [
        ("", NO_TOKEN),
        ("Basic dXNlcjpwYXNz", NO_TOKEN),
        ("Bearer", "Invalid token."),
        ("Bearer vps_wrong", "Invalid token."),
    ],
)
async def test_without_a_good_token_it_answers_401_and_asks_for_one(authorization: str, detail: str) -> None:
    async with Emulator() as emulator, client(emulator) as http:
        answer = await http.get("/backups/", headers={"Authorization": authorization})
    assert (answer.status_code, answer.json()) == (401, {"detail": detail})
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("permissions", "allowed"),
    [
        (["*:*"], {"list", "create", "servers", "restore", "account"}),
        (["backups:*"], {"list", "create", "account"}),
        (["backups:read"], {"list", "account"}),
        (["backups:write"], {"create", "account"}),
        (["*:read"], {"list", "servers", "account"}),
        (["servers:read", "backups:write"], {"create", "servers", "account"}),
        (["servers:write"], {"restore", "account"}),
        ([], {"account"}),
    ],
)
async def test_a_token_may_do_what_its_permissions_cover_and_nothing_else(
    permissions: list[str], allowed: set[str]
) -> None:
    emulator = Emulator()
    emulator.fleet.tokens["vps_limited"] = permissions
    async with emulator, client(emulator, "vps_limited") as http:
        answers = {
            "list": await http.get("/backups/"),
            "create": await http.post("/backups/", json={"server_id": 12345}),
            "servers": await http.get("/servers/"),
            "restore": await http.post("/servers/12345/restore/", json={"backup_id": 499}),
            "account": await http.get("/account/me/"),
        }
    assert {name for name, answer in answers.items() if answer.is_success} == allowed
    refusals = [answer for name, answer in answers.items() if name not in allowed]
    assert {answer.status_code for answer in refusals} <= {403}
    assert all(answer.json() == {"detail": "You do not have permission to perform this action."} for answer in refusals)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"", {"server_id": ["This field is required."]}),
        (b"{}", {"server_id": ["This field is required."]}),
        (b'{"server_id": null}', {"server_id": ["This field may not be null."]}),
        (b'{"server_id": "web"}', {"server_id": ["A valid integer is required."]}),
        (b'{"server_id": true}', {"server_id": ["A valid integer is required."]}),
        (b'{"server_id": 1.5}', {"server_id": ["A valid integer is required."]}),
        (b'{"server_id": [1]}', {"server_id": ["A valid integer is required."]}),
        (b'{"server_id": 12345, "description": null}', {"description": ["This field may not be null."]}),
        (b'{"server_id": 12345, "description": {}}', {"description": ["Not a valid string."]}),
        (b'{"server_id": 12345, "description": true}', {"description": ["Not a valid string."]}),
        (b'{"server_id": 12345, "description": "a\\u0000"}', {"description": ["Null characters are not allowed."]}),
        (b"[]", {"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}),
    ],
)
async def test_a_wrong_body_is_a_400_that_names_the_field(body: bytes, answer: object) -> None:
    async with Emulator() as emulator, client(emulator) as http:
        got = await http.post("/backups/", content=body, headers={"Content-Type": "application/json"})
    assert (got.status_code, got.json()) == (400, answer)
    assert len(emulator.fleet.backups) == 81


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b'{"server_id": NaN}', "Out of range float values are not JSON compliant: 'NaN'"),
        (b"[" * 100_000, "maximum recursion depth exceeded"),
    ],
)
async def test_a_body_that_cannot_be_parsed_is_a_400_that_says_why(body: bytes, problem: str) -> None:
    async with Emulator() as emulator, client(emulator) as http:
        got = await http.post("/backups/", content=body, headers={"Content-Type": "application/json"})
    assert got.status_code == 400
    assert got.json()["detail"].startswith(f"JSON parse error - {problem}")


@pytest.mark.parametrize("server_id", [12345, "12345", 12345.0])
async def test_an_integer_may_be_written_as_text_as_in_drf(server_id: object) -> None:
    async with Emulator() as emulator, client(emulator) as http:
        assert (await http.post("/backups/", json={"server_id": server_id})).status_code == 201


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ({"server_id": "web"}, {"server_id": ["A valid integer is required."]}),
        (
            {"backup_type": "weekly"},
            {"backup_type": ["Select a valid choice. weekly is not one of the available choices."]},
        ),
    ],
)
async def test_a_known_filter_with_a_wrong_value_is_a_400(query: dict[str, str], answer: object) -> None:
    async with Emulator() as emulator, client(emulator) as http:
        got = await http.get("/backups/", params=query)
    assert (got.status_code, got.json()) == (400, answer)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/backups/", {"server_id": 1}),
        ("DELETE", "/backups/1/", None),
        ("GET", "/servers/1/", None),
        ("POST", "/servers/1/restore/", {"backup_id": 501}),
        ("POST", "/servers/12345/restore/", {"backup_id": 1}),
    ],
)
async def test_an_object_that_is_not_there_is_a_404_in_json(method: str, path: str, body: object) -> None:
    async with Emulator() as emulator, client(emulator) as http:
        answer = await http.request(method, path, json=body)
    assert answer.status_code == 404
    assert list(answer.json()) == ["detail"]


@pytest.mark.parametrize("path", ["/nowhere/", "/backups/abc/", "/backups/-1/", "/account/", "/", "/backups//"])
async def test_a_route_that_is_not_there_is_a_404_in_html_token_or_not(path: str) -> None:
    async with Emulator() as emulator, client(emulator) as http:
        answer = await http.get(path, headers={"Authorization": ""})
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<title>Not Found</title>" in answer.text


@pytest.mark.parametrize("path", ["/backups/", "/api/v2/backups/", "/api/v1backups/"])
async def test_a_wrong_base_url_is_a_404_in_html(path: str) -> None:
    async with Emulator() as emulator:
        answer = await converse(emulator, request(emulator, f"GET {path}", "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert emulator.requests[0].path == path


@pytest.mark.parametrize(
    ("backup_id", "problem"),
    [
        (495, "Backup does not belong to this server."),
        (439, "Backup is not completed."),
    ],
)
async def test_a_backup_of_another_server_or_an_unfinished_one_is_not_restored(backup_id: int, problem: str) -> None:
    async with Emulator() as emulator, client(emulator) as http:
        answer = await http.post("/servers/12371/restore/", json={"backup_id": backup_id})
    assert (answer.status_code, answer.json()) == (400, {"backup_id": [problem]})
    assert emulator.fleet.restores == []


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("PUT", "/backups/", "GET, POST"), ("GET", "/backups/501/", "DELETE"), ("DELETE", "/servers/12345/", "GET")],
)
async def test_a_wrong_method_is_a_405_that_says_which_are_right(method: str, path: str, allow: str) -> None:
    async with Emulator() as emulator, client(emulator) as http:
        answer = await http.request(method, path)
    assert (answer.status_code, answer.json()) == (405, {"detail": f'Method "{method}" not allowed.'})
    assert answer.headers["Allow"] == allow
    assert 501 in emulator.fleet.backups


async def test_a_client_that_does_not_take_json_gets_a_406() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        answer = await http.get("/backups/", headers={"Accept": "text/html, image/png;q=0.5"})
        taken = await http.get("/backups/", headers={"Accept": "text/html, application/json;q=0.5"})
    assert (answer.status_code, answer.json()) == (406, {"detail": "Could not satisfy the request Accept header."})
    assert taken.status_code == 200


async def test_a_body_that_is_not_declared_as_json_gets_a_415() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        answer = await http.post("/backups/", content=b"{}", headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()) == (415, {"detail": 'Unsupported media type "text/plain" in request.'})


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/backups?server_id=7"), ("POST", "/backups"), ("DELETE", "/backups/501"), ("GET", "/account/me")],
)
async def test_a_missing_last_slash_is_a_301_for_every_method_token_or_not(method: str, path: str) -> None:
    async with Emulator() as emulator, client(emulator) as http:
        answer = await http.request(method, path, headers={"Authorization": ""})
    bare, mark, query = path.partition("?")
    assert answer.status_code == 301
    assert answer.headers["Location"] == f"/api/v1{bare}/{mark}{query}"
    assert 501 in emulator.fleet.backups


async def test_the_throttle_stands_before_the_endpoint_and_says_how_long_to_wait(clock: Clock) -> None:
    async with Emulator(now=clock, throttle=Throttle(2, 60)) as emulator, client(emulator) as http:
        await http.get("/account/me/")
        clock.advance(10)
        await http.get("/account/me/")
        refused = await http.delete("/backups/501/")
        clock.advance(50)
        granted = await http.delete("/backups/501/")
    assert refused.status_code == 429
    assert refused.json() == {"detail": "Request was throttled. Expected available in 50 seconds."}
    assert refused.headers["Retry-After"] == "50"
    assert granted.status_code == 204


async def test_each_token_has_a_throttle_of_its_own_and_a_bad_one_is_refused_first(clock: Clock) -> None:
    emulator = Emulator(now=clock, throttle=Throttle(1, 1))
    emulator.fleet.tokens["vps_other"] = ["*:*"]
    async with emulator, client(emulator) as http, client(emulator, "vps_other") as other:
        statuses = [(await each.get("/account/me/")).status_code for each in (http, other, http)]
        refused = await other.get("/account/me/")
        stranger = await http.get("/account/me/", headers={"Authorization": "Bearer vps_wrong"})
    assert statuses == [200, 200, 429]
    assert refused.json()["detail"].endswith("in 1 second.")
    assert stranger.status_code == 401


async def test_the_throttle_can_keep_to_itself_how_long_to_wait() -> None:
    async with Emulator(throttle=Throttle(0, 60, announce=False)) as emulator, client(emulator) as http:
        answer = await http.get("/backups/")
    assert (answer.status_code, answer.json()) == (429, {"detail": "Request was throttled."})
    assert "Retry-After" not in answer.headers


async def test_a_body_over_one_mebibyte_is_a_413() -> None:
    sent = b"x" * (2**20 + 1)
    async with Emulator() as emulator:
        line = f"Content-Length: {len(sent)}"
        answer = await converse(emulator, request(emulator, "POST /api/v1/backups/", line) + sent)
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_request_that_is_not_http_is_a_400() -> None:
    async with Emulator() as emulator:
        answer = await converse(emulator, b"once upon a time\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert emulator.requests == []
