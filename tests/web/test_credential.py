"""Over HTTP nobody is let in without an access token, not even another user of this machine."""

import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from mcp_backups.access import local_token, local_token_file
from mcp_backups.errors import ConfigError
from tests.consent.conftest import House
from tests.consent.test_http import HEADERS, listing
from tests.process import COMMAND, environment
from tests.stage import PATIENCE


def asked(url: str, path: str = "", method: str = "POST", **headers: str) -> httpx2.Response:
    """A request with these headers, and with no token but what they hold."""
    with httpx2.Client(timeout=PATIENCE) as http:
        return http.request(method, httpx2.URL(url).join(path or url), json=listing(), headers=HEADERS | headers)


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "PUT", "OPTIONS"])
def test_without_a_token_nobody_is_let_in(house: House, method: str) -> None:
    told = asked(house.url("auto"), method=method)
    assert told.status_code == 401
    assert told.headers["www-authenticate"] == "Bearer"  # no metadata: there is nobody to log in with
    assert "mcp-backups config CLIENT --http" in told.text
    assert not any(name.startswith("access-control-") for name in told.headers)


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ("Bearer {token}", 200),
        ("bearer {token}", 200),
        ("Bearer  {token}", 200),
        ("Bearer {token}x", 401),
        ("Bearer {token:.20}", 401),
        ("Bearer", 401),
        ("Bearer mcpb_" + "A" * 43, 401),
        ("Basic {token}", 401),
        ("{token}", 401),
        ("Token {token}", 401),
        ("Bearer {token}, Bearer {token}", 401),
        ("Bearer ${{BACKUPS_ACCESS_TOKEN}}", 401),
    ],
)
def test_a_token_counts_only_whole_and_as_a_bearer(house: House, form: str, status: int) -> None:
    url = house.url("auto")
    assert asked(url, Authorization=form.format(token=house.token(url))).status_code == status


def test_a_token_in_two_headers_or_in_the_address_is_none(house: House) -> None:
    url = house.url("auto")
    token = house.token(url)
    with httpx2.Client(timeout=PATIENCE) as http:
        twice = [*HEADERS.items(), ("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
        assert http.post(url, json=listing(), headers=twice).status_code == 401
    assert asked(f"{url}?access_token={token}").status_code == 401


def test_another_installations_token_lets_nobody_in(house: House) -> None:
    here, elsewhere = house.url("auto"), house.serve("auto", installation="elsewhere-too")
    assert asked(here, Authorization=f"Bearer {house.token(elsewhere)}").status_code == 401
    assert asked(elsewhere, Authorization=f"Bearer {house.token(elsewhere)}").status_code == 200


@pytest.mark.parametrize("path", ["/", "/mcp", "/mcp/", "/mcp/x", "/.well-known/oauth-protected-resource/mcp"])
@pytest.mark.parametrize(("name", "value", "status"), [("Host", "evil", 421), ("Origin", "http://evil", 403)])
def test_a_web_page_does_not_even_learn_which_paths_need_a_token(
    house: House, path: str, name: str, value: str, status: int
) -> None:
    assert asked(house.url("auto"), path, **{name: value}).status_code == status


def test_the_token_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: local_token(tmp_path / "state"), range(32)))
    assert tokens == {local_token(tmp_path / "state")}
    assert tokens != {local_token(tmp_path / "other")}
    assert stat.S_IMODE(local_token_file(tmp_path / "state").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"\n", b"secret\n", b"mcpb_short", b"\xff\xfe", b"mcpb_" + b"A" * 44])
def test_what_is_no_token_is_not_served_with(tmp_path: Path, content: bytes) -> None:
    local_token_file(tmp_path).write_bytes(content)
    local_token_file(tmp_path).chmod(0o600)
    with pytest.raises(ConfigError, match=r"does not hold one: remove it"):
        local_token(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666])
def test_a_token_that_others_can_read_is_not_served_with(tmp_path: Path, mode: int) -> None:
    local_token(tmp_path)
    local_token_file(tmp_path).chmod(mode)
    with pytest.raises(ConfigError, match="can be read by others: remove it"):
        local_token(tmp_path)


def test_the_command_says_so_in_one_line(tmp_path: Path) -> None:
    local_token(tmp_path)
    local_token_file(tmp_path).chmod(0o644)
    command = [*COMMAND, "serve", "--http", "--port", "0"]
    ended = subprocess.run(
        command, env=environment(tmp_path), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert ended.stderr.startswith("mcp-backups: The file of the access token")
