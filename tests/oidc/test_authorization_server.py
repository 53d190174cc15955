"""The whole way of a client that logs in at a real authorization server, npm's oidc-provider, by the SDK's own flow."""

import hashlib
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2
import jwt
import pytest
from mcp import Client
from mcp.client.auth import OAuthClientProvider, TokenStorage
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)
from pydantic import AnyUrl

from mcp_backups.sandbox import Emulator
from tests.consent.test_http import HEADERS, listing
from tests.stage import PATIENCE, Era, MakeSettings, ManualClock, Session, recorded
from tests.typescript.test_typescript_clients import INSTALL_SECONDS, NODE, NPM, OLDEST_NODE, node_version
from tests.web.stage import Served, serving

HERE = Path(__file__).parent
CALLBACK = "http://127.0.0.1:9/callback"

pytestmark = [
    pytest.mark.skipif(not (NODE and NPM), reason="node and npm are not installed; oidc-provider needs them"),
    pytest.mark.skipif(0 < node_version() < OLDEST_NODE, reason="oidc-provider needs Node 20 or newer"),
    pytest.mark.anyio,
]


@pytest.fixture(scope="module")
def script(pytestconfig: pytest.Config) -> Path:
    """The authorization server, installed once for each version of package.json."""
    package = (HERE / "package.json").read_bytes()
    folder = pytestconfig.cache.mkdir(f"oidc-{hashlib.sha256(package).hexdigest()[:12]}")
    if not (folder / "installed").exists():
        (folder / "package.json").write_bytes(package)
        install = ["install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        subprocess.run([str(NPM), *install], cwd=folder, timeout=INSTALL_SECONDS, check=True, capture_output=True)
        (folder / "installed").touch()
    return Path(shutil.copy(HERE / "provider.mjs", folder))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def issuer(script: Path) -> Iterator[str]:
    """Its address."""
    port = free_port()
    command = [str(NODE), str(script), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "up\n"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


KNOWN = OAuthClientInformationFull(
    client_id="known", redirect_uris=[AnyUrl(CALLBACK)], token_endpoint_auth_method="none"
)
"""The client that the issuer knows beforehand."""


class Kept(TokenStorage):
    """What a client keeps."""

    def __init__(self, client: OAuthClientInformationFull | None = None) -> None:
        self.tokens: list[OAuthToken] = []
        self.client = client

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens[-1] if self.tokens else None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens.append(tokens)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Browser:
    """Somebody who logs in, and agrees to what is asked for.

    Attributes:
        asked: The scopes of ours that each visit was asked for.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._led_to = ""
        self.asked: list[set[str]] = []

    async def visit(self, url: str) -> None:
        scopes = parse_qs(urlsplit(url).query)["scope"][0].split()
        self.asked.append({each for each in scopes if each.startswith("backups:")})
        async with httpx2.AsyncClient(timeout=PATIENCE) as http:
            page = await http.get(url)
            while True:
                if page.is_redirect:
                    url = urljoin(str(page.url), page.headers["location"])
                    if url.startswith(CALLBACK):
                        self._led_to = url
                        return
                    page = await http.get(url)
                    continue
                action, prompt = (
                    re.search(pattern, page.text) for pattern in (r'action="([^"]+)"', r'name="prompt" value="(\w+)"')
                )
                assert action, page.text
                assert prompt, page.text
                form = {"prompt": prompt[1], "login": self._name, "password": "any"}
                page = await http.post(urljoin(str(page.url), action[1]), data=form)

    async def come_back(self) -> AuthorizationCodeResult:
        told = {name: values[0] for name, values in parse_qs(urlsplit(self._led_to).query).items()}
        assert "code" in told, told
        return AuthorizationCodeResult(code=told["code"], state=told.get("state"), iss=told.get("iss"))


@asynccontextmanager
async def logged_in(served: Served, name: str, era: Era, kept: Kept, browser: Browser) -> AsyncIterator[Session]:
    """A client that has nothing at first but the server's address."""
    metadata = OAuthClientMetadata(
        client_name=name,
        redirect_uris=[AnyUrl(CALLBACK)],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
        token_endpoint_auth_method="none",
    )
    auth = OAuthClientProvider(served.url, metadata, kept, browser.visit, browser.come_back)
    async with (
        httpx2.AsyncClient(auth=auth, timeout=PATIENCE) as http,
        Client(streamable_http_client(served.url, http_client=http), mode=era) as client,
    ):
        yield Session(client)


async def test_a_client_finds_the_issuer_registers_logs_in_and_calls(
    issuer: str, emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, era: Era
) -> None:
    kept, browser = Kept(), Browser("her")
    async with (
        serving(emulator, make_settings(oauth_issuer=issuer), clock) as served,
        logged_in(served, "her", era, kept, browser) as her,
    ):
        assert not (await her.call("list_backups")).is_error
        assert len((await her.client.list_tools()).tools) == 7
    assert browser.asked == [{"backups:read"}]
    claims = jwt.decode(kept.tokens[-1].access_token, options={"verify_signature": False})
    assert (claims["aud"], claims["iss"], claims["sub"]) == (served.url, issuer, "her")


async def test_a_client_steps_up_when_a_call_needs_more_and_each_principal_is_another(
    issuer: str, emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, era: Era
) -> None:
    """By a client that the issuer knows: one that registers itself is bound to the scopes that it named then."""
    hers, his = Browser("her"), Browser("him")
    async with (
        serving(emulator, make_settings(oauth_issuer=issuer, approval="plan"), clock) as served,
        logged_in(served, "her", era, Kept(KNOWN), hers) as her,
        logged_in(served, "him", era, Kept(KNOWN), his) as him,
    ):
        plan = await her.call("delete_backup", backup_id=499)
        assert plan.status == "needs_confirmation"
        confirm = {"backup_id": 499, "confirm": True, "operation_id": plan.operation}
        assert (await him.call("delete_backup", **confirm)).code == "confirmation_invalid"
        assert (await her.call("delete_backup", **confirm)).status == "succeeded"
    assert hers.asked == his.asked == [{"backups:read"}, {"backups:read", "backups:destroy"}]
    assert {each.principal for each in recorded(served.folder)} == {f"{issuer}#her"}


async def test_a_token_for_another_server_of_the_same_issuer_does_not_count(
    issuer: str, emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, tmp_path: Path
) -> None:
    kept = Kept()
    elsewhere = make_settings(oauth_issuer=issuer, state_dir=tmp_path / "elsewhere")
    async with (
        serving(emulator, make_settings(oauth_issuer=issuer), clock) as served,
        serving(emulator, elsewhere, clock) as other,
        logged_in(other, "her", "auto", kept, Browser("her")) as her,
    ):
        assert not (await her.call("list_backups")).is_error
        let_in = {"Authorization": f"Bearer {kept.tokens[-1].access_token}"}
        answers = [await each.post(listing(), **HEADERS, **let_in) for each in (other, served)]
    assert [each.status_code for each in answers] == [200, 401]
