"""The whole way of a client that logs in at a real authorization server, npm's oidc-provider, by the SDK's own flow."""

import json
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import anyio
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
from mcp_backups.web.oauth import Issuer
from tests.consent.test_http import HEADERS, listing
from tests.process import running
from tests.stage import PATIENCE, Era, MakeSettings, ManualClock, Session, recorded
from tests.typescript.test_typescript_clients import NODE, NPM, OLDEST_NODE, installed, node_version
from tests.web.stage import Served, serving
from tests.web.test_oauth import Ticks, unsigned

HERE = Path(__file__).parent
CALLBACK = "http://127.0.0.1:9/callback"

pytestmark = [
    pytest.mark.skipif(not (NODE and NPM), reason="node and npm are not installed; oidc-provider needs them"),
    pytest.mark.skipif(0 < node_version() < OLDEST_NODE, reason="oidc-provider needs Node 20 or newer"),
    pytest.mark.anyio,
]


@pytest.fixture(scope="module")
def script(pytestconfig: pytest.Config) -> Path:
    """The authorization server."""
    return installed(pytestconfig, HERE / "provider.mjs")


@pytest.fixture(scope="module")
def typescript(pytestconfig: pytest.Config) -> Path:
    """A client with both TypeScript SDKs, which logs in."""
    return installed(pytestconfig, HERE.with_name("typescript") / "oauth.mjs")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def provider(script: Path, port: int, key: str = "first") -> Iterator[str]:
    """An authorization server that signs with a new key of that name; its address."""
    command = [str(NODE), str(script), str(port), key]
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def issuer(script: Path) -> Iterator[str]:
    """Its address."""
    with provider(script, free_port()) as address:
        yield address


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


def own_flow(served: Served, name: str, kept: Kept, browser: Browser) -> OAuthClientProvider:
    """The Python SDK's own way to log in."""
    metadata = OAuthClientMetadata(
        client_name=name,
        redirect_uris=[AnyUrl(CALLBACK)],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
        token_endpoint_auth_method="none",
    )
    return OAuthClientProvider(served.url, metadata, kept, browser.visit, browser.come_back)


@asynccontextmanager
async def logged_in(served: Served, flow: OAuthClientProvider, era: Era) -> AsyncIterator[Session]:
    """A client that has nothing at first but the server's address."""
    async with (
        httpx2.AsyncClient(auth=flow, timeout=PATIENCE) as http,
        Client(streamable_http_client(served.url, http_client=http), mode=era) as client,
    ):
        yield Session(client)


async def test_a_client_finds_the_issuer_registers_logs_in_and_calls(
    issuer: str, emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, era: Era
) -> None:
    kept, browser = Kept(), Browser("her")
    async with (
        serving(emulator, make_settings(oauth_issuer=issuer), clock) as served,
        logged_in(served, own_flow(served, "her", kept, browser), era) as her,
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
        logged_in(served, own_flow(served, "her", Kept(KNOWN), hers), era) as her,
        logged_in(served, own_flow(served, "him", Kept(KNOWN), his), era) as him,
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
        logged_in(other, own_flow(other, "her", kept, Browser("her")), "auto") as her,
    ):
        assert not (await her.call("list_backups")).is_error
        let_in = {"Authorization": f"Bearer {kept.tokens[-1].access_token}"}
        answers = [await each.post(listing(), **HEADERS, **let_in) for each in (other, served)]
    assert [each.status_code for each in answers] == [200, 401]


class TypeScript:
    """The official TypeScript SDKs' own way to log in."""

    def __init__(self, script: Path, sdk: int) -> None:
        self._script, self._sdk = script, sdk

    @property
    def known_as(self) -> str:
        """A client that can step up: 1.x refreshes what it has instead, and is refused again, where it can refresh."""
        return "without refresh" if self._sdk == 1 else "known"

    async def session(self, url: str, *calls: tuple[str, dict[str, Any]], login: str = "her", **how: Any) -> Any:
        """Log in and make calls; which scopes each visit was asked for, the tokens, the answers."""
        task = {"sdk": self._sdk, "url": url, "login": login, "calls": calls} | how
        with anyio.fail_after(PATIENCE):
            command = [str(NODE), str(self._script)]
            ended = await anyio.run_process(command, input=json.dumps(task).encode(), check=False)
        assert ended.returncode == 0, ended.stderr.decode()
        return json.loads(ended.stdout)


@pytest.fixture(params=[1, 2], ids=["SDK 1", "SDK 2"])
def sdk(typescript: Path, request: pytest.FixtureRequest) -> TypeScript:
    return TypeScript(typescript, request.param)


async def test_a_typescript_client_finds_the_issuer_registers_logs_in_and_calls(
    issuer: str, emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, sdk: TypeScript
) -> None:
    async with serving(emulator, make_settings(oauth_issuer=issuer), clock) as served:
        told = await sdk.session(served.url, ("list_backups", {"limit": 3}))
    assert [each["data"]["returned"] for each in told["answers"]] == [3]
    assert told["asked"] == [["backups:read"]]
    claims = jwt.decode(told["tokens"][-1], options={"verify_signature": False})
    assert (claims["aud"], claims["iss"], claims["sub"]) == (served.url, issuer, "her")


async def test_a_typescript_client_steps_up_when_a_call_needs_more(
    issuer: str, emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, sdk: TypeScript
) -> None:
    calls = [("list_backups", {"limit": 3}), ("delete_backup", {"backup_id": 499}), ("list_backups", {"limit": 3})]
    async with serving(emulator, make_settings(oauth_issuer=issuer), clock) as served:
        told = await sdk.session(served.url, *calls, client=sdk.known_as)
    assert [each["isError"] for each in told["answers"]] == [False] * 3
    assert told["answers"][1]["data"]["status"] == "needs_confirmation"
    assert told["asked"] == [["backups:read"], ["backups:read", "backups:destroy"]]
    assert {each.principal for each in recorded(served.folder)} == {f"{issuer}#her"}


async def test_a_typescript_client_refreshes_a_token_that_is_over_without_its_user(
    issuer: str, emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, sdk: TypeScript
) -> None:
    async with serving(emulator, make_settings(oauth_issuer=issuer), clock) as served:
        told = await sdk.session(served.url, ("list_backups", {"limit": 3}), login="late", refreshes=True)
    assert [each["isError"] for each in told["answers"]] == [False]
    assert (told["asked"], len(told["tokens"])) == ([["backups:read"]], 2)


async def test_a_python_client_refreshes_a_token_that_is_over_without_its_user(
    issuer: str, emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, era: Era
) -> None:
    kept, browser = Kept(), Browser("her")
    async with serving(emulator, make_settings(oauth_issuer=issuer), clock) as served:
        flow = own_flow(served, "her", kept, browser)
        async with logged_in(served, flow, era) as her:
            flow.context.token_expiry_time = 1.0  # it goes by what it was told of the token's end, not by an answer
            assert not (await her.call("list_backups")).is_error
    assert (browser.asked, len(kept.tokens)) == ([{"backups:read"}], 2)


async def machine_token(issuer: str, resource: str, **changed: str) -> str:
    """What the issuer gives a program that is let in by a secret."""
    form = {
        "grant_type": "client_credentials",
        "client_id": "machine",
        "client_secret": "secret",
        "resource": resource,
        "scope": "backups:read",
    }
    async with httpx2.AsyncClient(timeout=PATIENCE) as http:
        told = await http.post(f"{issuer}/token", data=form | changed)
    assert told.status_code == 200, told.text
    return str(told.json()["access_token"])


async def test_only_its_own_tokens_for_this_server_count(
    issuer: str, script: Path, emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    with provider(script, free_port()) as other:
        async with serving(emulator, make_settings(oauth_issuer=issuer), clock) as served:
            good = await machine_token(issuer, served.url)
            table = [
                ("as it should be", good, 200),
                ("of another issuer with a key of the same name", await machine_token(other, served.url), 401),
                ("for another server", await machine_token(issuer, "https://other.example/mcp"), 401),
                ("for the same with a slash", await machine_token(issuer, f"{served.url}/"), 401),
                ("by no algorithm", unsigned(good, alg="none", kid="first"), 401),
                ("by None", unsigned(good, alg="None"), 401),
                ("without its signature", good.rpartition(".")[0] + ".", 401),
                ("without one of our scopes", await machine_token(issuer, served.url, scope=""), 403),
            ]
            answers = [
                await served.post(listing(), **HEADERS, Authorization=f"Bearer {token}") for _, token, _ in table
            ]
    assert [(name, token, each.status_code) for (name, token, _), each in zip(table, answers, strict=True)] == table


async def test_a_new_key_counts_soon_and_one_that_was_withdrawn_does_not(script: Path) -> None:
    port, ticks, resource = free_port(), Ticks(), "https://backups.example.com/mcp"
    checked = Issuer(f"http://127.0.0.1:{port}", resource, "sub", ticks)
    with provider(script, port) as address:
        old = await machine_token(address, resource)
        assert await checked.principal_of(old)
    with provider(script, port, "second") as address:
        new = await machine_token(address, resource)
        assert await checked.principal_of(new) is None, "keys are fetched at most once a minute"
        ticks.now += 60
        assert await checked.principal_of(new)
        assert await checked.principal_of(old) is None
