"""With several principals: who may destroy may not approve, and nobody takes another's request for their own."""

from pathlib import Path

import pytest

from mcp_backups.access import Role, add_token
from mcp_backups.errors import PolicyDeniedError
from mcp_backups.operations.approval import check_approver
from mcp_backups.sandbox import Emulator
from tests.stage import NOW, MakeSettings, ManualClock
from tests.web.stage import serving


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
