"""What `mcp-backups doctor` says of approval and of a freeze."""

import pytest
from pydantic import SecretStr

from mcp_backups.commands.doctor import examine_approval, examine_ledger, examine_settings
from tests.approval.conftest import Scene
from tests.stage import MakeSettings

SECRET = "s3cret"


@pytest.mark.parametrize("approval", ["auto", "plan", "human", "flag", "operator"])
def test_for_unattended_agents_it_names_the_setting_that_has_a_person_decide(
    make_settings: MakeSettings, approval: str
) -> None:
    found = examine_approval(make_settings(approval=approval))
    told = " ".join(found.details)
    assert (found.verdict, found.what.partition(":")[0]) == ("ok", approval)
    assert ("MCP_BACKUPS_APPROVAL=operator is what has a person decide" in told) is (approval != "operator")
    assert ("Nobody is told of what waits" in told) is (approval in {"human", "operator"})


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
@pytest.mark.parametrize(("address", "verdict"), [("json://127.0.0.1", "ok"), (f"nonsense://{SECRET}", "failure")])
def test_an_address_that_nobody_would_be_told_at_is_a_failure(
    make_settings: MakeSettings, address: str, verdict: str
) -> None:
    settings = make_settings(approval="operator", notify=[address])
    found, shown = examine_approval(settings), examine_settings(settings)
    assert found.verdict == verdict
    assert SECRET not in f"{found}{shown}"
    assert "MCP_BACKUPS_NOTIFY = 1 set (settings file)" in shown.details
    assert settings.notify == (SecretStr(address),)


@pytest.mark.anyio
async def test_a_freeze_is_a_warning_with_what_lifts_it(scene: Scene) -> None:
    async def look() -> tuple[str, str, str]:
        found = await examine_ledger(scene.settings, scene.clock.clock)
        return found.verdict, found.what, found.todo

    await scene.freezes()
    verdict, what, todo = await look()
    assert (verdict, todo) == ("warning", "Nothing is sent until `mcp-backups thaw`.")
    assert what.endswith('Frozen since 2026-11-23T09:30Z by alice: "an incident".')
    await scene.freezes(freeze=False)
    assert (await look())[0] == "ok"
