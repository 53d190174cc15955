"""Whose budgets, plans and doubts: an account's own, whichever token is used; doubt is everybody's at that address."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from mcp_backups.api import VpsClient
from mcp_backups.models import Identity
from mcp_backups.operations.operation import Operation
from mcp_backups.sandbox import Emulator, Fault
from tests.faults.conftest import OpenBench
from tests.faults.stage import DOWN, SOURCE, TARGET, WEB, Bench, on_delete, on_get
from tests.operations.made import operation
from tests.operations.tampering import write_as_0_1_0
from tests.stage import ManualClock, on_file

pytestmark = pytest.mark.anyio

ASKS = partial(VpsClient, jitter=lambda: 0.0)
"""The client as it is served, which asks whose account it is."""

OTHER = "vps_another_token_000000000000000000000"
ME = "^/account/me/$"


@pytest.fixture
def with_token(emulator: Emulator, bench_on: OpenBench) -> Callable[..., Any]:
    """A server whose token is another one, of the same account unless `email` says otherwise."""
    emulator.fleet.tokens[OTHER] = ["*:*"]

    def open_bench(token: str = "", email: str = "", **rules: Any) -> Any:
        emulator.clear_faults()
        if email:
            named = Fault.edited(lambda body: body | {"account": {"email": email}})
            emulator.fail(named, method="GET", path=ME, times=None)
        secret = {"vps_api_token": SecretStr(token)} if token else {}
        return bench_on(emulator, ASKS, **secret, **rules)

    return open_bench


async def delete(bench: Bench, backup_id: int = TARGET) -> str:
    plan = await bench.agent.call("delete_backup", backup_id=backup_id)
    if plan.is_error:
        return plan.code
    answer = await bench.agent.call("delete_backup", backup_id=backup_id, confirm=True, operation_id=plan.operation)
    return answer.code or answer.status


@pytest.mark.parametrize(
    ("token", "email", "code"),
    [
        ("", "", "budget_exhausted"),
        (OTHER, "", "budget_exhausted"),
        (OTHER, "OPS@example.com", "budget_exhausted"),
        (OTHER, "somebody@example.com", "succeeded"),
        ("", "somebody@example.com", "budget_exhausted"),
    ],
)
async def test_budgets_are_an_accounts_whichever_of_its_tokens_is_used(
    with_token: Callable[..., Any], token: str, email: str, code: str
) -> None:
    async with with_token(deletes_per_hour=1) as first:
        assert await delete(first) == "succeeded"
    async with with_token(token, email, deletes_per_hour=1) as second:
        assert await delete(second, SOURCE) == code


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(403, {"detail": "no"}),
        Fault.status(404, b"<html>"),
        Fault.status(500),
        Fault.edited(lambda body: body | {"account": None}),
        Fault.edited(lambda body: body | {"account": {"email": 7}}),
        Fault.edited(lambda body: body | {"account": {"email": ""}}),
        Fault.status(200, b"no JSON"),
    ],
)
async def test_a_token_whose_account_cannot_be_told_is_one_of_its_own_and_works(
    with_token: Callable[..., Any], emulator: Emulator, fault: Fault
) -> None:
    async with with_token(deletes_per_hour=1) as first:
        assert await delete(first) == "succeeded"
    async with with_token(OTHER, deletes_per_hour=1) as second:
        emulator.fail(fault, method="GET", path=ME, times=None)
        assert await delete(second, SOURCE) == "succeeded"
        assert await delete(second, SOURCE - 1) in ("not_found", "budget_exhausted")


async def test_it_is_asked_once_in_a_process_before_its_first_write_and_never_to_read(
    with_token: Callable[..., Any], emulator: Emulator
) -> None:
    async with with_token() as bench:
        await bench.agent.call("list_backups")
        await bench.agent.call("check_backups")
        await bench.agent.call("get_operation", operation_id="op_" + "a" * 16)
        assert emulator.count("GET", "/account/") == 0
        await bench.agent.call("create_backup", server_id=WEB)
        await delete(bench)
        assert emulator.count("GET", "/account/") == 1
        (made, deleted) = bench.operations()
    assert made.account == deleted.account != made.credential
    assert "example" not in made.model_dump_json()


async def test_a_plan_of_one_token_is_confirmed_with_another_of_the_same_account(
    with_token: Callable[..., Any],
) -> None:
    async with with_token() as first:
        confirmation = await first.plan("delete_backup", backup_id=TARGET)
    async with with_token(OTHER, "somebody@example.com") as stranger:
        assert (await stranger.agent.call("delete_backup", **confirmation)).code == "confirmation_invalid"
    async with with_token(OTHER) as second:
        assert (await second.agent.call("delete_backup", **confirmation)).status == "succeeded"
    async with with_token() as first:
        again = await first.agent.call("delete_backup", **confirmation)
        assert (again.status, again.replayed) == ("succeeded", True)


@pytest.mark.parametrize("email", ["", "somebody@example.com"])
async def test_what_is_unknown_closes_the_server_for_every_token(with_token: Callable[..., Any], email: str) -> None:
    async with with_token() as first:
        confirmation = await first.plan("delete_backup", backup_id=TARGET)
        first.spoil(on_delete(Fault.reset_after(apply=False), None), on_get(DOWN, None, 1))
        assert (await first.agent.call("delete_backup", **confirmation)).code == "outcome_unknown"
    async with with_token(OTHER, email) as second:
        answer = await second.agent.call("delete_backup", backup_id=SOURCE)
        assert (answer.code, confirmation["operation_id"] in answer.text) == ("policy_denied", True)


async def test_a_backup_made_with_one_token_is_not_good_yet_for_another(with_token: Callable[..., Any]) -> None:
    async with with_token() as first:
        made = await first.agent.call("create_backup", server_id=WEB, wait_seconds=45)
    async with with_token(OTHER, "somebody@example.com", keep_min=100) as second:
        answer = await second.agent.call("delete_backup", backup_id=TARGET)
        left = answer.text.partition("with ")[2].split()[0]
    async with with_token(keep_min=100) as first:
        answer = await first.agent.call("delete_backup", backup_id=TARGET)
        assert answer.text.partition("with ")[2].split()[0] == left
    assert made.status == "succeeded"


@on_file
@pytest.mark.parametrize(
    ("credential", "code"), [("mine", "budget_exhausted"), ("another", "succeeded"), ("", "budget_exhausted")]
)
async def test_what_0_1_0_deleted_counts_for_its_credential(
    with_token: Callable[..., Any],
    bench_on: OpenBench,
    emulator: Emulator,
    clock: ManualClock,
    state_dir: Path,
    credential: str,
    code: str,
) -> None:
    async with bench_on(emulator, state_dir=state_dir / "elsewhere") as other:
        await other.agent.call("delete_backup", backup_id=TARGET)
        mine = other_operations(state_dir / "elsewhere")[0].credential
    write_as_0_1_0(state_dir / "ledger.sqlite3", [old_delete(clock, mine if credential == "mine" else credential)])
    async with with_token(deletes_per_hour=1) as bench:
        assert await delete(bench) == code


@on_file
async def test_what_0_1_0_left_unknown_closes_the_server_whatever_the_address(
    with_token: Callable[..., Any], clock: ManualClock, state_dir: Path
) -> None:
    left = old_delete(clock, "another", status="unknown")
    write_as_0_1_0(state_dir / "ledger.sqlite3", [left])
    async with with_token() as bench:
        answer = await bench.agent.call("delete_backup", backup_id=TARGET)
        assert (answer.code, left.id in answer.text) == ("policy_denied", True)


@on_file
async def test_what_0_1_0_gave_up_may_still_be_deleted_and_is_counted_on_for_nothing(
    with_token: Callable[..., Any], clock: ManualClock, state_dir: Path
) -> None:
    """Three times 500 were "not done" to it: the other backup could be deleted, and then this one went."""
    given_up = old_delete(clock, "", status="failed").updated(backup_id=SOURCE, error_code="upstream_unavailable")
    write_as_0_1_0(state_dir / "ledger.sqlite3", [given_up])
    async with with_token() as bench:
        for backup in list(bench.emulator.fleet.backups_of(WEB)):
            if backup.id not in {TARGET, SOURCE}:
                bench.emulator.fleet.delete_backup(backup.id)
        assert (await bench.agent.call("delete_backup", backup_id=TARGET)).code == "policy_denied"
        looked = await bench.agent.call("get_operation", operation_id=given_up.id)
        assert (looked.status, "for up to 24 h" in looked.data["next_step"]) == ("unknown", True)
        bench.clock.advance(hours=25)
        assert "did not take effect" in (await bench.agent.call("get_operation", operation_id=given_up.id)).text


def old_delete(clock: ManualClock, credential: str, status: str = "succeeded") -> Operation:
    moment = clock.moment()
    return operation(status=status, sent=moment, created=moment, credential=credential, backup_id=1, server_id=WEB)


def other_operations(folder: Path) -> list[Operation]:
    from tests.stage import recorded

    return recorded(folder)


A, B = Identity("here", "token 1", "account"), Identity("here", "token 2", "account")


@pytest.mark.parametrize(
    ("other", "owned", "shared"),
    [
        (A, True, True),
        (B, True, True),
        (Identity("here", "token 3", "another"), False, True),
        (Identity("there", "token 4", "account there"), False, False),
        (Identity("here", "token 1", "token 1"), True, True),
        (Identity("here", "token 2", "token 2"), False, True),
        (Identity("", "token 1", ""), True, True),
        (Identity("", "token 2", ""), False, True),
        (Identity(), True, True),
        (Identity("there", "token 5", "account"), False, False),  # of the same name in the settings
        (Identity("here", "token 1", "its name"), True, True),
    ],
)
def test_an_operation_is_an_accounts_by_account_or_credential_and_concerns_an_address(
    other: Identity, owned: bool, shared: bool
) -> None:
    assert (A.owns(other), A.shares_servers(other)) == (owned, shared)
