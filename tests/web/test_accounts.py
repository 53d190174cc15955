"""Several VPS.org accounts of one server: each at its own address, for its own users, and apart in the one ledger."""

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from pydantic import SecretStr

from mcp_backups.access import Role, add_token
from mcp_backups.accounts import NamedAccount
from mcp_backups.commands import approvals
from mcp_backups.console import build_app
from mcp_backups.console.access import Login
from mcp_backups.metrics import Prometheus
from mcp_backups.operations import Operation, Status
from mcp_backups.operations.reconciliation import settle_left_open
from mcp_backups.sandbox import Emulator, Fault
from mcp_backups.settings import Settings
from mcp_backups.transport import open_idle_context
from mcp_backups.web.limits import Limits
from tests.approval.test_terminal import Typing
from tests.consent.test_http import HEADERS, listing
from tests.console.stage import ORIGIN
from tests.operations.made import operation
from tests.stage import NOW, PROMPT, Era, MakeSettings, ManualClock, Session, recorded
from tests.web.issuer import TestIssuer, an_issuer
from tests.web.stage import Served, serving
from tests.web.test_principals import PLANS, UNKNOWN

TOKENS = {"shop": "vps_of_the_shop", "blog": "vps_of_the_blog"}
USERS = {"shop": ["her", "both", "local"], "blog": ["him", "both", "https://login.example.com#them"]}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}},
}


@dataclass(frozen=True)
class Two:
    """A server of two accounts, whose servers have the same ids, each at a VPS.org of its own."""

    served: Served
    shop: Emulator
    blog: Emulator
    tokens: dict[str, str]
    settings: Settings

    def client(self, account: str, name: str, era: Era = "auto") -> Any:
        return self.served.client(self.token(name), era, path=f"/mcp/{account}")

    def token(self, name: str, role: Role = "destroy") -> str:
        """The access token of a principal, made at its first use."""
        if name not in self.tokens:
            self.tokens[name] = self.served.token("" if name == "local" else name, role)
        return self.tokens[name]

    @property
    def sent(self) -> list[tuple[str, str]]:
        """The account and method of each write that VPS.org got."""
        both = {"shop": self.shop, "blog": self.blog}
        return [(name, each.method) for name, at in both.items() for each in at.requests if each.method != "GET"]


@pytest.fixture
def two(clock: ManualClock, make_settings: MakeSettings, tmp_path: Path, state_dir: Path) -> Any:
    """`async with two(keep_min=2) as served`: the server under these settings."""

    @asynccontextmanager
    async def start(users: Mapping[str, list[str]] = USERS, **options: Any) -> AsyncIterator[Two]:
        tokens = {name: add_token(state_dir, name, "destroy", NOW) for name in ("her", "him", "both")}
        serve = {name: options.pop(name) for name in ("metrics", "limits") if name in options}
        async with Emulator(now=clock.now) as shop, Emulator(now=clock.now) as blog:
            accounts = {}
            for name, emulator in (("shop", shop), ("blog", blog)):
                emulator.fleet.tokens = {TOKENS[name]: ["*:*"]}
                accounts[name] = NamedAccount(
                    vps_api_url=emulator.base_url,
                    vps_api_token_file=tmp_path / name,
                    principals=frozenset(users[name]),
                    token=SecretStr(TOKENS[name]),
                )
            settings = make_settings(accounts=accounts, **options)
            async with serving(shop, settings, clock, **serve) as served:
                yield Two(served, shop, blog, tokens, settings)

    return start


@pytest.mark.anyio
async def test_each_is_served_at_its_own_address_with_its_own_token(two: Any, era: Era) -> None:
    async with two() as at:
        async with at.client("shop", "both", era) as shop, at.client("blog", "both", era) as blog:
            made = await shop.call("create_backup", server_id=12345)
            deleted = await blog.call("delete_backup", backup_id=499, confirm=True)
            assert "This is the account blog, one of several." in str(blog.client.instructions)
        assert (made.code, deleted.code) == ("", "")
        assert at.sent == [("shop", "POST")]
        for emulator, name in ((at.shop, "shop"), (at.blog, "blog")):
            assert {each.authorization for each in emulator.requests} == {f"Bearer {TOKENS[name]}"}
    assert [(each.account, each.principal) for each in recorded(at.served.folder)] == [
        ("shop", "both"),
        ("blog", "both"),
    ]


REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("POST", listing()),
    ("POST", INITIALIZE),
    ("POST", {"not": "a message"}),
    ("GET", {}),
    ("DELETE", {}),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("method", "body"), REQUESTS, ids=["list", "initialize", "nonsense", "stream", "end"])
@pytest.mark.parametrize("who", ["her", "read only", "nobody", "wrong", "anonymous"])
async def test_unknown_and_not_allowed_are_answered_alike(
    two: Any, who: str, method: str, body: dict[str, Any]
) -> None:
    async with two() as at:
        tokens = {"her": at.token("her"), "read only": at.token("reader", "read"), "nobody": at.token("nobody")}
        shown = {"Authorization": f"Bearer {tokens.get(who, 'mcpb_' + 'A' * 43)}"} if who != "anonymous" else {}
        told = []
        for account in ("blog", "blot", "BLOG", "0"):
            url = at.served.url.replace("/mcp", f"/mcp/{account}")
            answer = await at.served.http.request(method, url, json=body or None, headers=HEADERS | shown)
            kept = {name: value for name, value in answer.headers.items() if name not in {"date", "x-request-id"}}
            told.append((answer.status_code, answer.text, kept))
        assert told == [told[0]] * 4
        assert told[0][0] == (401 if who in {"wrong", "anonymous"} else 404)
        assert at.sent == []


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/mcp//", "/mcp/shop/x", "/mcp/shop//", "/mcp/sh%20op", "/mcpshop"])
async def test_nothing_else_is_an_address_of_an_account(two: Any, path: str) -> None:
    async with two() as at:
        answer = await at.served.post(listing(), path, **HEADERS, Authorization=f"Bearer {at.token('both')}")
        assert (answer.status_code, answer.text) == (404, "Not Found")


@pytest.mark.anyio
async def test_an_address_may_end_in_a_slash(two: Any) -> None:
    async with two() as at:
        shown = {"Authorization": f"Bearer {at.token('local')}"}
        paths = ["/mcp/shop", "/mcp/shop/", "/mcp/blog/"]
        assert [(await at.served.post(listing(), path, **HEADERS, **shown)).status_code for path in paths] == [
            200,
            200,
            404,
        ]


@pytest.mark.anyio
@pytest.mark.parametrize(("tool", "arguments"), PLANS, ids=lambda each: each if isinstance(each, str) else "")
async def test_a_plan_of_another_account_is_not_found(two: Any, era: Era, tool: str, arguments: dict[str, Any]) -> None:
    """By the same principal, who may use both."""
    async with (
        two(approval="plan") as at,
        at.client("shop", "both", era) as shop,
        at.client("blog", "both", era) as blog,
    ):
        plan = await shop.call(tool, **arguments)
        again = {**arguments, "confirm": True}
        there = await blog.call(tool, **again, operation_id=plan.operation)
        never = await blog.call(tool, **again, operation_id="op_" + "a" * 16)
        assert there.text == never.text
        assert there.text.startswith(UNKNOWN)
        assert at.sent == []
        assert (await shop.call(tool, **again, operation_id=plan.operation)).code == ""
    assert {each.account for each in recorded(at.served.folder)} == {"shop"}


@pytest.mark.anyio
@pytest.mark.parametrize("status", ["needs_confirmation", "succeeded", "unknown"])
async def test_an_operation_of_another_account_is_not_shown(two: Any, era: Era, status: str) -> None:
    async with (
        two(approval="plan") as at,
        at.client("shop", "both", era) as shop,
        at.client("blog", "both", era) as blog,
    ):
        plan = await shop.call("delete_backup", backup_id=499)
        if status == "unknown":
            at.shop.fail(Fault.status(500), method="DELETE", times=None)
        if status != "needs_confirmation":
            await shop.call("delete_backup", backup_id=499, confirm=True, operation_id=plan.operation)
        shown = await blog.call("get_operation", operation_id=plan.operation)
        assert shown.text == (await blog.call("get_operation", operation_id="op_" + "a" * 16)).text
        assert (await _operations(blog), await _operations(shop)) == ([], [plan.operation])
        assert (await shop.call("get_operation", operation_id=plan.operation)).status == status


async def _operations(agent: Session) -> list[str]:
    (content,) = (await agent.client.read_resource("backups://operations")).contents
    return [each["operation_id"] for each in json.loads(str(getattr(content, "text", "")))["operations"]]


@pytest.mark.anyio
async def test_budgets_doubts_and_what_waits_are_apart(two: Any) -> None:
    async with (
        two(approval="flag", deletes_per_hour=1, keep_min=0) as at,
        at.client("shop", "both") as shop,
        at.client("blog", "both") as blog,
    ):
        at.shop.fail(Fault.status(500), method="DELETE", times=None)
        other = next(each.id for each in at.shop.fleet.backups.values() if each.server_id == 12345 and each.id != 499)
        lost = await shop.call("delete_backup", backup_id=499, confirm=True)
        assert lost.code == "outcome_unknown"
        assert (await shop.call("delete_backup", backup_id=other, confirm=True)).code == "policy_denied"
        flags = [
            {row["id"]: row.get("flags", []) for row in (await each.call("list_backups", limit=100)).data["backups"]}
            for each in (shop, blog)
        ]
        assert [each[499] for each in flags] == [["doubtful"], []]
        assert (await blog.call("delete_backup", backup_id=499, confirm=True)).status == "succeeded"
        assert (await blog.call("delete_backup", backup_id=other, confirm=True)).code == "budget_exhausted"
        again = await blog.call("delete_backup", backup_id=499, confirm=True)
        assert again.data["replayed"]
        assert again.operation not in lost.text


@pytest.mark.anyio
async def test_a_session_belongs_to_its_address(two: Any) -> None:
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    async with two(limits=Limits(own_sessions=2)) as at:
        shown = {"Authorization": f"Bearer {at.token('both')}"}
        sessions = []
        for account in ("shop", "blog", "blog"):
            begun = await at.served.post(INITIALIZE, f"/mcp/{account}", **shown)
            sessions.append((account, begun.headers["mcp-session-id"]))

        async def status(account: str, session: str) -> int:
            told = await at.served.post(ping, f"/mcp/{account}", **shown, **{"Mcp-Session-Id": session})
            return int(told.status_code)

        assert await status("blog", sessions[0][1]) == 404
        told = [await status(*each) for each in reversed(sessions)]
        assert told == [200, 200, 404], "the one that was not used for longest gave way, at its own address"


@pytest.mark.anyio
async def test_metrics_are_told_of_each_account_to_its_users(two: Any) -> None:
    async with two(metrics=Prometheus()) as at:
        for account in ("shop", "blog"):
            async with at.client(account, "both") as agent:
                await agent.call("check_backups")

        async def told(name: str) -> set[str]:
            answer = await at.served.get("/metrics", Authorization=f"Bearer {at.token(name)}")
            assert answer.status_code == 200
            lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
            assert {line.partition("{")[0].removesuffix("_bucket") for line in lines} >= {
                "mcp_backups_tool_calls_total",
                "mcp_backups_newest_good_backup_timestamp_seconds",
                "mcp_backups_upstream_request_seconds",
            } or not lines
            return {line.partition('account="')[2].partition('"')[0] for line in lines}

        assert [await told(name) for name in ("her", "him", "both", "local", "nobody")] == [
            {"shop"},
            {"blog"},
            {"shop", "blog"},
            {"shop"},
            set(),
        ]


@pytest.fixture
def issuer() -> Any:
    with an_issuer() as started:
        yield started


@pytest.mark.anyio
async def test_each_is_a_resource_of_its_own_for_who_logs_in(two: Any, issuer: TestIssuer) -> None:
    users = {"shop": [f"{issuer.url}#her"], "blog": [f"{issuer.url}#him", "ci"]}
    async with two(users, oauth_issuer=issuer.url) as at:
        base = at.served.url.removesuffix("/mcp")

        async def status(account: str, **claims: Any) -> int:
            token = issuer.token(**{"audience": f"{base}/mcp/{account}"} | claims)
            shown = {"Authorization": f"Bearer {token}"}
            return int((await at.served.post(listing(), f"/mcp/{account}", **HEADERS, **shown)).status_code)

        table: list[tuple[str, dict[str, Any], int]] = [
            ("shop", {}, 200),
            ("blog", {}, 404),
            ("blot", {}, 404),
            ("blog", {"sub": "him"}, 200),
            ("shop", {"sub": "him"}, 404),
            ("shop", {"audience": f"{base}/mcp/blog"}, 401),
            ("shop", {"audience": f"{base}/mcp"}, 401),
            ("shop", {"audience": [f"{base}/mcp/blog", f"{base}/mcp/shop"]}, 200),
            ("shop", {"scope": "openid"}, 403),
            ("blog", {"scope": "openid"}, 404),
            ("shop", {"iss": "https://login.example.com"}, 401),
            ("blog", {"sub": "ci"}, 404),
        ]
        assert [(name, claims, await status(name, **claims)) for name, claims, _ in table] == table
        for account in ("shop", "blog", "blot"):
            where = f"/.well-known/oauth-protected-resource/mcp/{account}"
            told = await at.served.post(listing(), f"/mcp/{account}", **HEADERS)
            assert f'resource_metadata="{base}{where}"' in told.headers["www-authenticate"]
            assert (await at.served.get(where)).json()["resource"] == f"{base}/mcp/{account}"
        for path in ("", "/mcp", "/mcp/", "/mcp/shop/", "/mcp/a b", "/x"):
            assert (await at.served.get(f"/.well-known/oauth-protected-resource{path}")).status_code == 404


@pytest.mark.anyio
async def test_one_audience_may_be_set_for_all(two: Any, issuer: TestIssuer) -> None:
    users = {"shop": [f"{issuer.url}#her"], "blog": [f"{issuer.url}#him"]}
    async with two(users, oauth_issuer=issuer.url, oauth_audience="id") as at:
        shown = {"Authorization": f"Bearer {issuer.token('id')}"}
        answers = [await at.served.post(listing(), f"/mcp/{name}", **HEADERS, **shown) for name in ("shop", "blog")]
    assert [each.status_code for each in answers] == [200, 404]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "principals",
    [
        ["nobody"],
        ["LOCAL"],
        ["https://login.example.com#her"],
        ["https://issuer.example/#her"],
        ["https://issuer.example#"],
        ["https://issuer.example"],
    ],
)
async def test_an_account_that_nobody_may_use_is_told_at_the_start(two: Any, principals: list[str]) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with two({"shop": ["local"], "blog": principals}, oauth_issuer="https://issuer.example"):
            pass
    (error,) = raised.value.exceptions
    assert str(error).startswith("config_error: accounts.blog.principals names nobody who could be let in")


async def waiting(at: Two) -> dict[str, str]:
    """What waits for an approver in each account, by its name."""
    asked = {}
    for account, who in (("shop", "her"), ("blog", "him")):
        async with at.client(account, who) as agent:
            asked[account] = (await agent.call("delete_backup", backup_id=499, confirm=True)).operation
    return asked


@pytest.mark.anyio
async def test_an_approver_sees_the_account_and_what_is_there_now_in_it(
    two: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("mcp_backups.transport.system_clock", lambda: clock.clock)
    monkeypatch.setattr(sys, "stdin", Typing("499\n"))
    async with two(approval="operator") as at:
        asked = await waiting(at)

        async def told(settings: Settings, *, as_json: bool = True) -> str:
            await anyio.to_thread.run_sync(lambda: approvals.show_approvals(settings, as_json=as_json))
            return capsys.readouterr().out

        rows = [json.loads(line) for line in (await told(at.settings)).splitlines()]
        assert [(each["account"], each["asked_by"], each["operation_id"]) for each in rows] == [
            ("shop", "her", asked["shop"]),
            ("blog", "him", asked["blog"]),
        ]
        only = (await told(at.settings.for_account("blog"))).splitlines()
        assert [json.loads(line)["account"] for line in only] == ["blog"]
        table = await told(at.settings, as_json=False)
        assert [word in table for word in ("account", "shop", "blog", "asked for by", "him")] == [True] * 5
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        await anyio.to_thread.run_sync(approvals.approve, at.settings, asked["blog"], "alice")
        shown = capsys.readouterr().out
        assert "as the plan shows it" in shown
        assert ("account" in shown, "blog" in shown, "him" in shown) == (True, True, True)
        assert at.blog.requests[-1].authorization == f"Bearer {TOKENS['blog']}"
        async with at.client("blog", "him") as him:
            assert (await him.call("delete_backup", backup_id=499, confirm=True)).status == "succeeded"
    assert at.sent == [("blog", "DELETE")]


@pytest.mark.anyio
async def test_the_console_tells_the_account_of_what_waits_and_was_done(two: Any, clock: ManualClock) -> None:
    async with two(approval="operator") as at:
        asked = await waiting(at)
        shop = at.settings.for_account("shop")
        async with open_idle_context(shop, clock.clock, PROMPT) as context:
            through = httpx2.ASGITransport(build_app(context, Login("X-Login"), frozenset({ORIGIN})))
            alice = {"X-Login": "alice"}
            async with httpx2.AsyncClient(transport=through, base_url=ORIGIN, headers=alice) as browser:
                pages = [(await browser.get(path)).text for path in ("/", "/operations")]
                one = (await browser.get(f"/operations/{asked['blog']}")).text
    for page in pages:
        assert ["account shop" in page, "account blog" in page, "by him" in page] == [True] * 3
    assert "<dt>account</dt><dd>blog</dd>" in one
    assert "made for another account" in one


@pytest.mark.anyio
async def test_what_was_left_open_is_looked_into_by_its_own_account(two: Any, clock: ManualClock) -> None:
    async with two() as at:
        contexts = [open_idle_context(at.settings.for_account(name), clock.clock, PROMPT) for name in ("shop", "blog")]
        async with contexts[0] as shop, contexts[1] as blog:
            lost: Operation = operation(
                status=Status.SENDING, approved_by="plan", backup_id=499, sent=shop.moment(), **shop.identity._asdict()
            )
            await shop.record(lost)
            asked = len(at.blog.requests)
            await settle_left_open(blog)
            assert (await shop.find(lost.id), len(at.blog.requests)) == (lost, asked)
            await settle_left_open(shop)
            assert (await shop.find(lost.id) or lost).status is Status.UNKNOWN
