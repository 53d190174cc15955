"""With several principals: who may destroy may not approve, and nobody takes another's request for their own."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from mcp_backups.access import Role, add_token, is_same_person
from mcp_backups.commands.freeze import thaw
from mcp_backups.console import build_app
from mcp_backups.console.access import Login
from mcp_backups.errors import PolicyDeniedError
from mcp_backups.operations import Decision, decide, pending_one
from mcp_backups.operations.approval import check_approver
from mcp_backups.sandbox import Emulator
from mcp_backups.settings import Approval, Settings
from mcp_backups.transport import open_idle_context
from tests.console.stage import ORIGIN, form
from tests.stage import NOW, PROMPT, MakeSettings, ManualClock, on_emulator
from tests.web.issuer import TestIssuer, an_issuer
from tests.web.stage import serving

AUDIENCE = "https://backups.example.com/mcp"
ISSUER = "https://login.example.com/realms/all"


@pytest.mark.parametrize(("role", "may"), [("read", True), ("write", True), ("destroy", False)])
def test_who_may_destroy_may_not_approve(state_dir: Path, make_settings: MakeSettings, role: Role, may: bool) -> None:
    add_token(state_dir, "her", role, NOW)
    for approvers in (frozenset(), frozenset({"her"})):
        settings = make_settings(approvers=approvers)
        if may:
            check_approver(settings, "her")
            continue
        with pytest.raises(PolicyDeniedError, match='"her" may ask for this over HTTP, and so may not approve it'):
            check_approver(settings, "her")


@pytest.mark.parametrize(
    ("approver", "principal", "same"),
    [
        ("her", "her", True),
        ("Her", "her", True),
        ("her", "HER", True),
        ("\uff48er", "her", True),
        ("h\u200ber", "her", True),
        (" her ", "her", True),
        ("her", f"{ISSUER}#her", True),
        ("Her@Example.com", f"{ISSUER}#her@example.com", True),
        (f"{ISSUER}#her", f"{ISSUER}#her", True),
        ("her#1", f"{ISSUER}#her#1", True),
        ("1", f"{ISSUER}#her#1", False),
        ("her", f"{ISSUER}#herself", False),
        ("her", "hers", False),
        (ISSUER, f"{ISSUER}#her", False),
        ("her", "", False),
        ("", "", False),
        ("\u200b", "her", False),
        ("", f"{ISSUER}#", False),
    ],
)
def test_an_approver_is_compared_with_a_principal_as_people_see_names(
    approver: str, principal: str, same: bool
) -> None:
    assert is_same_person(approver, principal) is same


@pytest.mark.parametrize("name", ["HER", "\uff48er", "local", "Local"])
def test_no_other_spelling_of_who_may_destroy_may_approve(
    state_dir: Path, make_settings: MakeSettings, name: str
) -> None:
    add_token(state_dir, "her", "destroy", NOW)
    with pytest.raises(PolicyDeniedError, match="may ask for this over HTTP, and so may not approve it"):
        check_approver(make_settings(), name)


@pytest.mark.parametrize("name", ["", " ", "\u200b", "\u202e\u2066", "\x1b[31m"])
def test_who_has_no_name_that_is_seen_may_not_approve(make_settings: MakeSettings, name: str) -> None:
    """Who decided has to stand in the ledger; an environment may name anybody."""
    for approvers in (frozenset[str](), frozenset({"her"})):
        with pytest.raises(PolicyDeniedError, match="It is not known who decides"):
            check_approver(make_settings(approvers=approvers), name)


@pytest.fixture
def issuer() -> Iterator[TestIssuer]:
    with an_issuer() as started:
        yield started


async def waiting(
    served_by: Emulator, settings: Settings, clock: ManualClock, issuer: TestIssuer, her: str = "her"
) -> str:
    """Him and her log in over HTTP: he has a plan made, and what she asks for waits; its id."""
    async with serving(served_by, settings, clock) as served:
        for who in ("him", "reader"):
            scope = "backups:destroy" if who == "him" else "backups:write"
            async with served.client(issuer.token(AUDIENCE, sub=who, scope=scope)) as other:
                await other.call("create_backup", server_id=12345)
                if who == "him":
                    await other.call("delete_backup", backup_id=498)
                    await other.call("prune_backups", server_id=12345, keep_last=1)
        async with served.client(issuer.token(AUDIENCE, sub=her, scope="backups:destroy")) as she:
            return (await she.call("delete_backup", backup_id=499, confirm=True)).operation


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("approval", "by", "said"),
    [
        ("operator", "her", '"her" asked for this, and so may not approve it.'),
        ("operator", "HER", '"HER" asked for this, and so may not approve it.'),
        ("operator", "him", '"him" may ask for this over HTTP, and so may not approve it.'),
        ("operator", "reader", ""),
        ("operator", "alice", ""),
        ("human", "her", ""),
        ("human", "him", ""),
    ],
)
async def test_who_asked_or_may_ask_does_not_approve(
    emulator: Emulator,
    clock: ManualClock,
    make_settings: MakeSettings,
    issuer: TestIssuer,
    approval: Approval,
    by: str,
    said: str,
) -> None:
    settings = make_settings(approval=approval, oauth_issuer=issuer.url, oauth_audience=AUDIENCE)
    operation = await waiting(emulator, settings, clock, issuer)
    async with open_idle_context(on_emulator(settings, emulator), clock.clock, PROMPT) as context:

        async def decided(*, approve: bool) -> str:
            one = await pending_one(context, operation, approve=approve)
            decision = Decision(by=by, how="terminal", at=context.moment(), plan=one.mac)
            try:
                return (await decide(context, operation, decision, approve=approve)).status
            except PolicyDeniedError as refusal:
                return refusal.what

        assert await decided(approve=True) == (said or "approved")
        assert await decided(approve=False) == "declined", "anybody may take back what they asked for"


@pytest.mark.anyio
async def test_what_was_asked_for_long_ago_does_not_count(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, issuer: TestIssuer
) -> None:
    settings = make_settings(approval="operator", oauth_issuer=issuer.url, oauth_audience=AUDIENCE)
    await waiting(emulator, settings, clock, issuer)
    clock.advance(days=31)
    async with (
        serving(emulator, settings, clock) as served,
        served.client(issuer.token(AUDIENCE, sub="another", scope="backups:destroy")) as agent,
    ):
        operation = (await agent.call("restore_server", server_id=12345, backup_id=499, confirm=True)).operation
    async with open_idle_context(on_emulator(settings, emulator), clock.clock, PROMPT) as context:
        one = await pending_one(context, operation, approve=True)
        decision = Decision(by="him", how="terminal", at=context.moment(), plan=one.mac)
        assert (await decide(context, operation, decision, approve=True)).status == "approved"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "her",
    [
        "her",
        pytest.param("jos\u00e9", id="letters beyond ASCII"),
        pytest.param("\u65e5\u672c", id="no Latin letter"),
        pytest.param("h" * 201, id="longer than what is recorded of who decided"),
        pytest.param("h" * 255, id="as long as a subject may be"),
    ],
)
async def test_the_console_lets_nobody_approve_their_own(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, issuer: TestIssuer, her: str
) -> None:
    settings = make_settings(approval="operator", oauth_issuer=issuer.url, oauth_audience=AUDIENCE)
    operation = await waiting(emulator, settings, clock, issuer, her)
    async with open_idle_context(on_emulator(settings, emulator), clock.clock, PROMPT) as context:
        app = build_app(context, Login("X-Login"), frozenset({ORIGIN}))
        through = httpx2.ASGITransport(app)
        pages, answers = {}, {}
        for name in (her, "him", "alice"):
            headers = {b"X-Login": name.encode(), b"Origin": ORIGIN.encode()}
            async with httpx2.AsyncClient(transport=through, base_url=ORIGIN, headers=headers) as browser:
                pages[name] = (await browser.get("/")).text
                fields = form(pages[name], f"/operations/{operation}/decline") | {"typed": "499"}
                told = await browser.post(f"/operations/{operation}/approve", data=fields)
                answers[name] = told.status_code
    assert ["You asked for it, so somebody else has to approve it." in page for page in pages.values()] == [
        True,
        False,
        False,
    ]
    assert f"by {issuer.url}#{her}" in pages["alice"]
    assert answers == {her: 403, "him": 403, "alice": 303}


@pytest.mark.anyio
async def test_who_may_ask_does_not_lift_a_freeze(
    emulator: Emulator,
    clock: ManualClock,
    make_settings: MakeSettings,
    issuer: TestIssuer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = make_settings(approval="operator", oauth_issuer=issuer.url, oauth_audience=AUDIENCE)
    await waiting(emulator, settings, clock, issuer)
    monkeypatch.setattr("mcp_backups.commands.freeze.require_terminal", lambda _: None)
    monkeypatch.setattr("mcp_backups.commands.freeze.system_clock", lambda: clock.clock)
    with pytest.raises(PolicyDeniedError, match='"him" may ask for this over HTTP'):
        thaw(settings, "him")


@pytest.mark.anyio
async def test_the_same_request_of_two_waits_twice(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    async with (
        serving(emulator, make_settings(approval="operator"), clock) as served,
        served.client(served.token("her", "destroy")) as her,
        served.client(served.token("him", "destroy")) as him,
    ):
        answers = [await each.call("delete_backup", backup_id=499, confirm=True) for each in (her, him, her)]
    first, second, again = (each.operation for each in answers)
    assert {each.status for each in answers} == {"needs_approval"}
    assert (first == again, first == second) == (True, False)
