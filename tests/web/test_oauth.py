"""Tokens of an authorization server: which count, for what, and what a client is told that lacks one or a right."""

import base64
import hmac
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mcp_backups.sandbox import Emulator
from mcp_backups.web.oauth import Issuer, IssuerAwayError, role_of
from tests.consent.test_http import HEADERS, listing
from tests.stage import Era, MakeSettings, ManualClock, recorded
from tests.web.issuer import TestIssuer, an_issuer
from tests.web.stage import Served, serving

AUDIENCE = "https://backups.example.com/mcp"


@pytest.fixture
def issuer() -> Iterator[TestIssuer]:
    with an_issuer() as started:
        yield started


@pytest.fixture
def serve(emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, issuer: TestIssuer) -> Any:
    """`async with serve() as served`: a server that takes the issuer's tokens."""

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[Served]:
        settings = {"oauth_issuer": issuer.url, "oauth_audience": AUDIENCE} | settings
        async with serving(emulator, make_settings(**settings), clock) as served:
            yield served

    return start


def unsigned(token: str, **header: Any) -> str:
    """The same token with another header, and without a signature."""
    head = base64.urlsafe_b64encode(json.dumps({"typ": "JWT"} | header).encode()).rstrip(b"=").decode()
    return f"{head}.{token.split('.')[1]}."


def signed_with_public_key(issuer: TestIssuer, token: str) -> str:
    """The same token as if what everybody knows were a secret: whoever takes any algorithm is taken in by it."""
    public = issuer.keys["first"][0].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    content = unsigned(token, alg="HS256", kid="first").removesuffix(".")
    signature = base64.urlsafe_b64encode(hmac.digest(public, content.encode(), "sha256")).rstrip(b"=").decode()
    return f"{content}.{signature}"


async def status(served: Served, token: str) -> int:
    return (await served.post(listing(), **HEADERS, Authorization=f"Bearer {token}")).status_code


@pytest.mark.anyio
async def test_only_a_whole_and_true_token_for_this_server_counts(serve: Any, issuer: TestIssuer) -> None:
    issuer.new_key("elliptic", "ES256")
    issuer.new_key("edwards", "EdDSA")
    with an_issuer() as other:
        made = issuer.token
        by_public_key = signed_with_public_key(issuer, made(AUDIENCE))
        good = made(AUDIENCE)
        table: list[tuple[str, str, int]] = [
            ("as it should be", good, 200),
            ("for several, one of which is this", made([AUDIENCE, "https://other.example"]), 200),
            ("by an elliptic curve", made(AUDIENCE, "elliptic"), 200),
            ("by an Edwards curve", made(AUDIENCE, "edwards"), 200),
            ("expired", made(AUDIENCE, exp=1), 401),
            ("without an end", made(AUDIENCE, exp=None), 401),
            ("not yet", made(AUDIENCE, nbf=2**33), 401),
            ("for another", made("https://other.example/mcp"), 401),
            ("for one with a slash", made(f"{AUDIENCE}/"), 401),
            ("for nobody", made(None), 401),
            ("of another issuer", made(AUDIENCE, iss="https://other.example"), 401),
            ("of an issuer with a slash", made(AUDIENCE, iss=f"{issuer.url}/"), 401),
            ("of no issuer", made(AUDIENCE, iss=None), 401),
            ("of nobody", made(AUDIENCE, sub=None), 401),
            ("of an empty name", made(AUDIENCE, sub=""), 401),
            ("of a name that is not printed", made(AUDIENCE, sub="her\n"), 401),
            ("of another's key by the same name", other.token(AUDIENCE, iss=issuer.url), 401),
            ("of a key that there is not", made(AUDIENCE, headers={"kid": "none"}), 401),
            ("by no algorithm", unsigned(good, alg="none", kid="first"), 401),
            ("by None", unsigned(good, alg="None"), 401),
            ("by a list of algorithms", unsigned(good, alg=["RS256"], kid="first"), 401),
            ("by an object", unsigned(good, alg={"RS256": 1}, kid="first"), 401),
            ("of a list of keys", unsigned(good, alg="RS256", kid=["first"]), 401),
            ("with what has to be understood and is not", made(AUDIENCE, headers={"crit": ["x"], "x": 1}), 401),
            ("with the public key as a secret", by_public_key, 401),
            ("without its signature", good.rpartition(".")[0] + ".", 401),
            ("changed", good[:-4] + "AAAA", 401),
            ("no token", "a.b.c", 401),
            ("another kind", "mcpb_" + "A" * 43, 401),
        ]
        async with serve() as served:
            assert [(name, token, await status(served, token)) for name, token, _ in table] == table


@pytest.mark.anyio
async def test_who_has_no_token_is_told_where_to_get_one(serve: Any, issuer: TestIssuer) -> None:
    async with serve(oauth_audience="") as served:
        told = await served.post(listing(), **HEADERS)
        assert told.status_code == 401
        where = re.search(r'resource_metadata="([^"]+)"', told.headers["www-authenticate"])
        assert where
        assert 'scope="backups:read"' in told.headers["www-authenticate"]
        assert "error=" not in told.headers["www-authenticate"]
        again = await served.post(listing(), **HEADERS, Authorization="Bearer nothing")
        assert 'error="invalid_token"' in again.headers["www-authenticate"]
        for path in (where[1], "/.well-known/oauth-protected-resource"):
            metadata = (await served.get(path)).json()
            assert metadata == {
                "resource": served.url,
                "authorization_servers": [issuer.url],
                "scopes_supported": ["backups:read", "backups:write", "backups:destroy"],
                "bearer_methods_supported": ["header"],
            }
        assert (await served.get(where[1], Host="evil.example")).status_code == 421
        assert await status(served, issuer.token(served.url)) == 200


def a_call(tool: str, **arguments: Any) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {**listing()["params"], "name": tool, "arguments": arguments},
    }


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scope", "tool", "needed"),
    [
        ("", "list_backups", "backups:read"),
        ("openid profile backups:reads backups", "list_backups", "backups:read"),
        ("backups:read", "create_backup", "backups:read backups:write"),
        ("backups:read", "delete_backup", "backups:read backups:destroy"),
        ("backups:read backups:write", "restore_server", "backups:read backups:write backups:destroy"),
        ("backups:write", "prune_backups", "backups:read backups:write backups:destroy"),
        ("backups:read", "list_backups", None),
        ("backups:write", "create_backup", None),
        ("backups:destroy", "delete_backup", None),
    ],
)
async def test_a_call_beyond_ones_scopes_is_answered_with_those_that_it_needs(
    serve: Any, issuer: TestIssuer, emulator: Emulator, scope: str, tool: str, needed: str | None
) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "create_backup": {"server_id": 12345},
        "delete_backup": {"backup_id": 499},
        "restore_server": {"server_id": 12345, "backup_id": 499},
        "prune_backups": {"server_id": 12345, "keep_last": 1},
    }
    async with serve() as served:
        headers = HEADERS | {"Mcp-Method": "tools/call", "Mcp-Name": tool}
        token = issuer.token(AUDIENCE, scope=scope)
        told = await served.post(a_call(tool, **arguments.get(tool, {})), **headers, Authorization=f"Bearer {token}")
        if needed is None:
            assert told.status_code == 200
            return
        assert told.status_code == 403
        assert f'error="insufficient_scope", scope="{needed}", resource_metadata="' in told.headers["www-authenticate"]
        assert emulator.requests == []


@pytest.mark.anyio
async def test_who_logs_in_sees_every_tool(serve: Any, issuer: TestIssuer, era: Era) -> None:
    async with serve() as served, served.client(issuer.token(AUDIENCE), era) as agent:
        assert len((await agent.client.list_tools()).tools) == 7
        assert not (await agent.call("list_backups")).is_error


@pytest.mark.anyio
async def test_principals_are_issuer_and_subject_and_a_plan_is_their_own(
    serve: Any, issuer: TestIssuer, era: Era
) -> None:
    every = "backups:destroy"
    async with (
        serve(approval="plan") as served,
        served.client(issuer.token(AUDIENCE, scope=every), era) as her,
        served.client(issuer.token(AUDIENCE, scope=every, client_id="another client"), era) as again,
        served.client(issuer.token(AUDIENCE, scope=every, sub="him"), era) as him,
    ):
        plan = await her.call("delete_backup", backup_id=499)
        confirm = {"backup_id": 499, "confirm": True, "operation_id": plan.operation}
        assert (await him.call("delete_backup", **confirm)).code == "confirmation_invalid"
        assert (await again.call("delete_backup", **confirm)).status == "succeeded"
    assert {each.principal for each in recorded(served.folder)} == {f"{issuer.url}#her"}


@pytest.mark.anyio
async def test_another_claim_may_tell_who_somebody_is(serve: Any, issuer: TestIssuer) -> None:
    async with serve(principal_claim="oid") as served:
        assert await status(served, issuer.token(AUDIENCE)) == 401
        async with served.client(issuer.token(AUDIENCE, oid="0-1-2", scp="backups:write", scope=None)) as agent:
            await agent.call("create_backup", server_id=12345)
    assert [each.principal for each in recorded(served.folder)] == [f"{issuer.url}#0-1-2"]


@pytest.mark.anyio
async def test_access_tokens_of_ones_own_count_beside_it(serve: Any) -> None:
    async with serve() as served:
        assert await status(served, served.token("ci", "read")) == 200


class Ticks:
    """Time that passes when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.anyio
async def test_keys_may_change_and_strangers_cannot_have_them_fetched_at_will(issuer: TestIssuer) -> None:
    ticks = Ticks()
    checked = Issuer(issuer.url, AUDIENCE, "sub", ticks)
    assert await checked.principal_of(issuer.token(AUDIENCE))
    assert issuer.asked.count("/jwks") == 1
    old = issuer.token(AUDIENCE)
    issuer.new_key("second")
    new = issuer.token(AUDIENCE, "second")
    for _ in range(20):
        assert await checked.principal_of(new) is None
    assert issuer.asked.count("/jwks") == 1
    ticks.now += 60
    assert await checked.principal_of(new)
    assert issuer.asked.count("/jwks") == 2
    for _ in range(20):
        assert await checked.principal_of(issuer.token(AUDIENCE, headers={"kid": "invented"})) is None
    assert issuer.asked.count("/jwks") == 2
    del issuer.keys["first"]
    ticks.now += 601
    assert await checked.principal_of(old) is None, "its key was withdrawn"
    assert await checked.principal_of(new)


@pytest.mark.anyio
async def test_while_the_issuer_is_away_known_keys_count_until_they_are_old(issuer: TestIssuer) -> None:
    ticks = Ticks()
    checked = Issuer(issuer.url, AUDIENCE, "sub", ticks)
    issuer.status = 503
    for _ in range(5):
        with pytest.raises(IssuerAwayError):
            await checked.principal_of(issuer.token(AUDIENCE))
    assert issuer.asked.count("/.well-known/openid-configuration") == 1
    issuer.status = 200
    ticks.now += 5
    assert await checked.principal_of(issuer.token(AUDIENCE))
    issuer.status = 503
    ticks.now += 599
    assert await checked.principal_of(issuer.token(AUDIENCE))
    ticks.now += 2
    with pytest.raises(IssuerAwayError):
        await checked.principal_of(issuer.token(AUDIENCE))


@pytest.mark.anyio
async def test_who_comes_while_keys_are_fetched_waits_for_them(issuer: TestIssuer) -> None:
    ticks = Ticks()
    checked = Issuer(issuer.url, AUDIENCE, "sub", ticks)

    async def of_eight(token: str) -> list[bool]:
        found = []

        async def one() -> None:
            found.append(bool(await checked.principal_of(token)))

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(one)
        return found

    old = issuer.token(AUDIENCE)
    assert await of_eight(old) == [True] * 8, "at first"
    ticks.now += 601
    assert await of_eight(old) == [True] * 8, "once they are old"
    issuer.new_key("second")
    ticks.now += 60
    assert await of_eight(issuer.token(AUDIENCE, "second")) == [True] * 8, "for a new one"
    assert issuer.asked.count("/jwks") == 3


@pytest.mark.anyio
@pytest.mark.parametrize("keys", [None, 5, "first", {}, {"first": {}}])
async def test_what_is_no_list_of_keys_takes_none_away(issuer: TestIssuer, keys: Any) -> None:
    ticks = Ticks()
    checked = Issuer(issuer.url, AUDIENCE, "sub", ticks)
    assert await checked.principal_of(issuer.token(AUDIENCE))
    issuer.more = {"keys": keys}
    ticks.now += 60
    assert await checked.principal_of(issuer.token(AUDIENCE, headers={"kid": "invented"})) is None
    assert issuer.asked.count("/jwks") == 2
    assert await checked.principal_of(issuer.token(AUDIENCE))


@pytest.mark.anyio
async def test_a_key_that_cannot_be_read_is_none_and_the_others_count(issuer: TestIssuer) -> None:
    odd: list[Any] = [None, 5, {"kid": ["first"]}, {"kty": "RSA", "kid": {}, "n": 5}, {"kty": [], "use": [], "alg": {}}]
    issuer.more = {"keys": [*odd, *issuer.jwks()["keys"]]}
    assert await Issuer(issuer.url, AUDIENCE, "sub").principal_of(issuer.token(AUDIENCE))


@pytest.mark.anyio
async def test_keys_that_drip_are_not_waited_for(issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_backups.web.oauth._FETCH_SECONDS", 0.3)
    issuer.drips = True
    with anyio.fail_after(5), pytest.raises(IssuerAwayError):
        await Issuer(issuer.url, AUDIENCE, "sub").principal_of(issuer.token(AUDIENCE))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"issuer": "https://other.example"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
        {"issuer": None},
    ],
)
async def test_metadata_of_another_issuer_leads_nowhere(issuer: TestIssuer, metadata: dict[str, Any]) -> None:
    issuer.metadata = (issuer.metadata | metadata) if metadata else {}
    with pytest.raises(IssuerAwayError):
        await Issuer(issuer.url, AUDIENCE, "sub").principal_of(issuer.token(AUDIENCE))


@pytest.mark.anyio
async def test_a_client_is_told_to_come_again_while_the_issuer_is_away(serve: Any, issuer: TestIssuer) -> None:
    issuer.status = 500
    async with serve() as served:
        assert await status(served, issuer.token(AUDIENCE)) == 503


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"scope": "backups:read"}, "read"),
        ({"scope": "backups:destroy backups:read"}, "destroy"),
        ({"scope": ["backups:write"]}, "write"),
        ({"scp": "backups:read backups:write"}, "write"),
        ({"scp": ["backups:destroy"]}, "destroy"),
        ({"scope": "backups:*"}, None),
        ({"scope": "BACKUPS:READ"}, None),
        ({"scope": 7, "scp": None}, None),
        ({"scope": [["backups:read"], {}]}, None),
        ({"scp": [{}, 7, "backups:write"]}, "write"),
        ({}, None),
    ],
)
def test_rights_are_scopes_of_ours_wherever_an_issuer_puts_them(claims: dict[str, Any], role: str | None) -> None:
    assert role_of(claims) == role
