"""What VPS.org's HTTP answers, and answers that do not come, must lead to."""

from dataclasses import replace
from typing import Any

import pytest

from mcp_backups.sandbox import Emulator, Fault
from tests.faults.conftest import OpenBench
from tests.faults.stage import (
    BARE,
    DOWN,
    LOST,
    NEVER_ARRIVED,
    SOURCE,
    TARGET,
    WEB,
    Bench,
    Case,
    a_create,
    a_delete,
    a_delete_plan,
    a_list,
    a_restore,
    a_restore_plan,
    assert_case,
    changed,
    on_delete,
    on_get,
    on_post,
    table,
    times_applied,
)

pytestmark = pytest.mark.anyio

DENIED = Fault.status(401, {"detail": "Invalid token."}, {"WWW-Authenticate": "Bearer"})
NO_SUCH = Fault.status(404, {"detail": "Not found."})
GHOST = {
    "id": TARGET,
    "server": {"id": WEB, "name": "web-server-01"},
    "backup_type": "manual",
    "status": "completed",
    "size_mb": 4456,
    "created_at": "2026-11-21T12:00:00Z",
    "expires_at": None,
    "description": "Pre-update backup",
}


def _with_ghost(page: dict[str, Any]) -> dict[str, Any]:
    return page | {"count": page["count"] + 1, "results": [*page["results"], GHOST]}


STILL_LISTED = Fault.edited(_with_ghost)
"""A list of a moment ago, which still holds what has been deleted since."""


def throttled(wait: str | None) -> Fault:
    headers = {} if wait is None else {"Retry-After": wait}
    return Fault.status(429, {"detail": "Request was throttled."}, headers)


REFUSALS = [
    Case("F01", "list", a_list, (on_get(DENIED, None),), "auth_failed", "nothing", 1, gist=("token",)),
    Case("F01", "create", a_create, (on_get(DENIED, None),), "auth_failed", "nothing", 1),
    Case("F01", "delete", a_delete_plan, (on_get(DENIED, None),), "auth_failed", "nothing", 1),
    Case("F01", "restore", a_restore_plan, (on_get(DENIED, None),), "auth_failed", "nothing", 1),
    Case("F01", "post", a_create, (on_post(DENIED),), "auth_failed", "nothing", (1, 2), 1),
    Case(
        "F03",
        "delete",
        a_delete,
        (on_delete(Fault.status(403, {"detail": "No."})),),
        "forbidden",
        "nothing",
        (0, 2),
        0,
        1,
    ),
    Case("F04", "create", a_create, (on_post(NO_SUCH),), "not_found", "nothing", (1, 2), 1, gist=(f"no server {WEB}",)),
    Case(
        "F05",
        "delete",
        a_delete,
        (on_delete(NO_SUCH),),
        "not_found",
        "nothing",
        (0, 2),
        0,
        1,
        gist=(f"no backup {TARGET}",),
    ),
    Case(
        "F12",
        "create",
        a_create,
        (on_post(Fault.status(400, {"server_id": ["Invalid <b>"]})),),
        "invalid_argument",
        "nothing",
        (1, 2),
        1,
        gist=("(HTTP 400)", 'VPS.org said: "server_id: Invalid <b>"'),
    ),
    Case(
        "F13",
        "create",
        a_create,
        (on_post(Fault.status(400, "<html>Bad request</html>")),),
        "invalid_argument",
        "nothing",
        (1, 2),
        1,
    ),
    Case(
        "F14",
        "create",
        a_create,
        (on_post(Fault.status(409, {"detail": "Busy."})),),
        "conflict",
        "nothing",
        (1, 2),
        1,
        gist=("under way",),
    ),
    Case(
        "F16",
        "create",
        a_create,
        (on_post(throttled("86399")),),
        "rate_limited",
        "nothing",
        (1, 2),
        1,
        gist=("86399 s",),
    ),
    Case("F22", "list", a_list, (on_get(DOWN, None),), "upstream_unavailable", "nothing", 3),
    Case(
        "F30",
        "create",
        a_create,
        (on_post(Fault.status(301, headers={"Location": "/api/v1/backups/"})),),
        "upstream_protocol",
        "nothing",
        1,
        1,
        gist=("redirect",),
    ),
    Case("F35", "list", a_list, (on_get(Fault.status(204), None),), "upstream_protocol", "nothing", (1, 3)),
    Case(
        "F37",
        "list",
        a_list,
        (on_get(Fault.status(200, "<html>Log in</html>"), None),),
        "upstream_protocol",
        "nothing",
        1,
        gist=("not JSON",),
    ),
    Case(
        "F38",
        "list",
        a_list,
        (on_get(Fault.status(200, {"detail": "maintenance"}), None),),
        "upstream_protocol",
        "nothing",
        1,
        gist=("no results",),
    ),
]


REASONS = [
    Case(
        "F03",
        f"{status}",
        a_create,
        (on_post(Fault.status(status, {"detail": "Limit of 3 backups reached."})),),
        code,
        "nothing",
        (1, 2),
        1,
        gist=(
            f"VPS.org refused to back up server {WEB} (HTTP {status})",
            possibly,
            "do not repeat it unless something changed there.",
            'VPS.org said: "Limit of 3 backups reached."',
        ),
    )
    for status, code, possibly in [
        (402, "invalid_argument", "a limit of the account may be reached"),
        (403, "forbidden", "the token may lack the right, or a limit of the account may be reached"),
        (405, "upstream_protocol", "a rule of VPS.org may forbid it"),
        (409, "conflict", "something else may be under way, or a rule of VPS.org may forbid it"),
        (413, "invalid_argument", "too long"),
        (415, "upstream_protocol", "VPS_API_URL may be wrong"),
        (422, "invalid_argument", "a rule of VPS.org may forbid it"),
        (423, "conflict", "something else may be under way"),
        (451, "invalid_argument", "a legal reason"),
        (499, "invalid_argument", ""),
    ]
]


@table([*REFUSALS, *REASONS])
async def test_a_refusal_is_told_as_one_and_changes_nothing(bench: Bench, case: Case) -> None:
    before = dict(bench.emulator.fleet.backups)
    await assert_case(bench, case)
    assert bench.emulator.fleet.backups == before
    assert {operation.status for operation in bench.operations()} <= {"failed", "planned", "refused"}


READ_AGAIN = [
    Case("F15", "retry-after-2", a_list, (on_get(throttled("2")),), gets=2),
    Case("F17", "no-header", a_list, (on_get(throttled(None)),), gets=(2, 3)),
    *(
        Case("F19", what, a_list, (on_get(throttled(wait)),), gets=(2, 3))
        for what, wait in {
            "negative": "-1",
            "word": "soon",
            "arabic-three": "\N{ARABIC-INDIC DIGIT THREE}".encode().decode("latin-1"),
            "power": "1e9",
            "no-zone": "Mon, 23 Nov 2026 09:31:00",
        }.items()
    ),
    Case("F21", "503-twice", a_list, (on_get(DOWN, 2),), gets=3),
]


@table(READ_AGAIN)
async def test_a_list_is_asked_for_again_after_as_long_as_vps_org_says(bench: Bench, case: Case) -> None:
    answer = await assert_case(bench, case)
    assert answer.data["complete"] is True
    assert max(bench.clock.slept, default=0) == (2.0 if case.row == "F15" else 0)


DELETES = [
    Case(
        "F06",
        "reset-then-404",
        a_delete,
        (on_delete(LOST), on_get(STILL_LISTED, 1, 1)),
        "",
        "done",
        (0, 3),
        0,
        2,
        "succeeded",
        ("absent from the complete list",),
        applied=True,
    ),
    Case(
        "F07",
        "answer-lost",
        a_delete,
        (on_delete(LOST),),
        "",
        "done",
        (0, 3),
        0,
        1,
        "succeeded",
        ("absent from the complete list",),
        applied=True,
    ),
    Case(
        "F07",
        "silent-close",
        a_delete,
        (on_delete(Fault.close_after()),),
        "",
        "done",
        (0, 3),
        0,
        1,
        "succeeded",
        applied=True,
    ),
    Case(
        "F07",
        "502-but-done",
        a_delete,
        (on_delete(Fault.status(502, apply=True)),),
        "",
        "done",
        (0, 3),
        0,
        1,
        "succeeded",
        applied=True,
    ),
    Case(
        "F08",
        "never-arrived",
        a_delete,
        (on_delete(NEVER_ARRIVED),),
        "",
        "done",
        (0, 4),
        0,
        2,
        "succeeded",
        applied=True,
    ),
    Case(
        "F09",
        "500-thrice",
        a_delete,
        (on_delete(Fault.status(500), 3),),
        "outcome_unknown",
        "unknown",
        (0, 5),
        0,
        3,
        gist=("still listed so far", "for up to 24 h"),
        applied=False,
    ),
    Case(
        "F10",
        "answer-and-list-lost",
        a_delete,
        (on_delete(LOST), on_get(DOWN, None, 1)),
        "outcome_unknown",
        "unknown",
        (0, 5),
        0,
        1,
        gist=("get_operation",),
    ),
    Case(
        "F10",
        "token-refused-meanwhile",
        a_delete,
        (on_delete(LOST), on_get(DENIED, None, 1)),
        "outcome_unknown",
        "unknown",
        2,
        0,
        1,
    ),
    Case(
        "F10",
        "list-incomplete",
        a_delete,
        (on_delete(LOST), on_get(Fault.edited(lambda page: page | {"count": 999}), None, 1)),
        "outcome_unknown",
        "unknown",
        2,
        0,
        1,
    ),
    Case(
        "F11",
        "200-with-body",
        a_delete,
        (on_delete(Fault.status(200, {"detail": "Gone."}, apply=True)),),
        "",
        "done",
        (0, 3),
        0,
        1,
        "succeeded",
    ),
    Case(
        "F11",
        "202-still-listed",
        a_delete,
        (on_delete(Fault.status(202, {"detail": "Later."})),),
        "",
        "started",
        (0, 3),
        0,
        1,
        "accepted",
    ),
    *(
        Case("F11", what, a_delete, (on_delete(fault),), "outcome_unknown", "unknown", (0, 3), 0, 1)
        for what, fault in {
            "200-web-page": Fault.status(200, "<html>maintenance</html>"),
            "200-success-false": Fault.status(200, {"success": False}),
            "202-errors": Fault.status(202, {"errors": ["No."]}),
            "200-status-error": Fault.status(200, {"status": "error"}),
            "200-error": Fault.status(200, {"error": "No."}),
        }.items()
    ),
    Case(
        "F20",
        "429-then-204",
        a_delete,
        (on_delete(throttled("1")),),
        "",
        "done",
        (0, 3),
        0,
        2,
        "succeeded",
        applied=True,
    ),
]


@table(DELETES)
async def test_a_delete_is_settled_by_the_list_and_sent_again_only_while_that_shows_it(
    bench: Bench, case: Case
) -> None:
    answer = await assert_case(bench, case)
    (operation,) = bench.operations()
    assert (operation.changed, operation.status) == (changed(answer), operation.status)
    if case.status == "succeeded":
        assert TARGET not in bench.emulator.fleet.backups


JSON_NO = {"detail": "Legal hold."}
PLAIN_REFUSALS = {
    **{str(status): Fault.status(status, JSON_NO) for status in (300, 304, 307, 399)},
    **{str(status): Fault.status(status, JSON_NO) for status in (400, 401, 403, 404, 405, 409, 410, 413, 415, 422)},
    **{f"{status}-page": Fault.status(status, "<html>No.</html>") for status in (302, 400, 401, 403, 405, 409, 410)},
    "429": throttled("86399"),
}
ODD_REFUSALS = {
    **{str(status): Fault.status(status, JSON_NO) for status in (402, 406, 407, 411, 412, 414, 416, 417, 418, 421)},
    **{str(status): Fault.status(status, JSON_NO) for status in (423, 424, 426, 428, 431, 444, 451, 460, 498, 499)},
    "402-page": Fault.status(402, "<html>Pay.</html>"),
    "404-page": Fault.status(404, "<html>Not found</html>"),
    "404-page-as-json": Fault.status(404, b"<!DOCTYPE html>", content_type="application/json"),
    "404-text": Fault.status(404, b"404 page not found", content_type="text/plain"),
    "404-empty": Fault.status(404),
    "404-cut": Fault.status(404, b'{"detail": "Not', content_type="application/json"),
    "101": Fault.raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
}


async def doubtful(bench: Bench) -> list[int]:
    """The backups that the list marks as not to be counted on."""
    listed = await bench.agent.call("list_backups", server_id=WEB, limit=100)
    return [row["id"] for row in listed.data["backups"] if "doubtful" in row.get("flags", ())]


@pytest.mark.parametrize("what", PLAIN_REFUSALS)
async def test_a_delete_that_is_plainly_refused_leaves_no_doubt(bench: Bench, what: str) -> None:
    answer = await a_delete(bench, (on_delete(PLAIN_REFUSALS[what], None),))
    assert (changed(answer), bench.requests()[2]) == ("nothing", 1), answer.text
    assert [operation.status for operation in bench.operations()] == ["failed"]
    assert await doubtful(bench) == []


@pytest.mark.parametrize("what", ODD_REFUSALS)
async def test_a_delete_that_is_not_plainly_refused_leaves_its_backup_in_doubt(bench: Bench, what: str) -> None:
    """What did not come from the API, or not before the deletion began, may have let it through."""
    answer = await a_delete(bench, (on_delete(ODD_REFUSALS[what], None),))
    assert (answer.code, changed(answer)) == ("outcome_unknown", "unknown"), answer.text
    assert "still listed so far" in answer.text
    assert ('VPS.org said: "Legal hold."' in answer.text) == what.isdecimal() * (what != "101")
    assert bench.requests()[2] == (3 if what in {"101", "406"} or what.startswith("404") else 1)
    (operation,) = bench.operations()
    assert operation.status == "unknown"
    assert await doubtful(bench) == [TARGET]
    bench.clock.advance(hours=24)
    assert (await bench.agent.call("get_operation", operation_id=operation.id)).status == "failed"
    assert await doubtful(bench) == []


@pytest.mark.parametrize("what", ["402", "418", "423", "451", "404-page", "404-empty"])
async def test_a_delete_that_took_effect_though_its_answer_sounded_like_a_refusal_is_seen(
    bench: Bench, what: str
) -> None:
    answer = await a_delete(bench, (on_delete(replace(ODD_REFUSALS[what], apply=True)),))
    assert (answer.code, answer.status, changed(answer)) == ("", "succeeded", "done"), answer.text
    assert bench.requests()[2] == 1


LATE = Fault.status(504).late(6)

CREATES = [
    Case(
        "F20",
        "429-then-201",
        a_create,
        (on_post(throttled(None)),),
        "",
        "started",
        (0, 6),
        2,
        0,
        "accepted",
        applied=True,
    ),
    Case(
        "F25",
        "500-but-made",
        a_create,
        (on_post(Fault.status(500, apply=True)),),
        "",
        "started",
        (0, 6),
        1,
        0,
        "accepted",
        ("its row in the list",),
        applied=True,
    ),
    Case(
        "F26",
        "500-not-made",
        a_create,
        (on_post(Fault.status(500)),),
        "outcome_unknown",
        "unknown",
        (0, 6),
        1,
        0,
        "",
        ("Do not repeat it",),
        applied=False,
    ),
    Case("F27", "504-made-after-6-s", a_create, (on_post(LATE),), "", "started", (0, 6), 1, 0, "accepted"),
    Case(
        "F33",
        "201-empty",
        a_create,
        (on_post(Fault.status(201, apply=True)),),
        "",
        "started",
        (0, 6),
        1,
        0,
        "accepted",
        ("its row in the list",),
        applied=True,
    ),
    Case(
        "F33",
        "201-of-an-old-backup",
        a_create,
        (on_post(Fault.edited(lambda made: made | {"id": SOURCE})),),
        "",
        "started",
        (0, 6),
        1,
        0,
        "accepted",
        ("its row in the list",),
        applied=True,
    ),
    Case(
        "F33",
        "201-of-another-server",
        a_create,
        (on_post(Fault.edited(lambda made: made | {"server": {"id": BARE, "name": "x"}})),),
        "",
        "started",
        (0, 6),
        1,
        0,
        "accepted",
        applied=True,
    ),
]


@table(CREATES)
async def test_a_backup_is_asked_for_once_and_found_by_looking(bench: Bench, case: Case) -> None:
    before = set(bench.emulator.fleet.backups)
    answer = await assert_case(bench, case)
    made = set(bench.emulator.fleet.backups) - before
    assert len(made) == (answer.code == "")
    if made:
        assert answer.data["backup"]["id"] == made.pop()


@pytest.mark.parametrize("row", ["F32"])
async def test_a_backup_answered_with_200_is_made_too(bench: Bench, row: str) -> None:
    number = max(bench.emulator.fleet.backups) + 1
    started = GHOST | {"id": number, "status": "in_progress", "size_mb": None, "created_at": "2026-11-23T09:30:00Z"}
    said = on_post(Fault.status(200, started, apply=True))
    answer = await assert_case(bench, Case(row, "200", a_create, (said,), "", "started", (0, 2), 1, 0, "accepted"))
    assert answer.data["backup"]["id"] == number
    assert number in bench.emulator.fleet.backups


@pytest.mark.parametrize("row", ["F26"])
async def test_looking_for_a_backup_takes_15_seconds(bench: Bench, row: str) -> None:
    await a_create(bench, (on_post(Fault.status(500)),))
    assert sum(bench.clock.slept) == 15
    (operation,) = bench.operations()
    assert operation.status == "unknown", row


@pytest.mark.parametrize("row", ["F16"])
async def test_a_wait_of_a_day_is_told_and_not_waited(bench: Bench, row: str) -> None:
    await a_create(bench, (on_post(throttled("86399")),))
    assert bench.clock.slept == [], row


NONE_AT_ALL = {
    "page": Fault.status(200, "<html>Down for maintenance</html>"),
    "page-as-json": Fault.status(200, b"\xef\xbb\xbf<!-- x --><!DOCTYPE html>", content_type="application/json"),
    "success-false": Fault.status(200, {"success": False, "message": "Locked."}),
    "ok-false": Fault.status(202, {"ok": False, "error": "Locked."}),
    "status-failed": Fault.status(200, {"status": "FAILED", "detail": "Locked."}),
    "status-403": Fault.status(200, {"status": 403, "message": "Locked."}),
    "errors": Fault.status(201, {"errors": [{"detail": "Locked."}]}),
}


@pytest.mark.parametrize("what", NONE_AT_ALL)
async def test_a_delete_whose_yes_says_no_is_looked_at_and_not_sent_again(bench: Bench, what: str) -> None:
    """It once was "accepted", of a backup that stayed; a prune then counted it as gone."""
    case = Case("F11", what, a_delete, (on_delete(NONE_AT_ALL[what]),), "outcome_unknown", "unknown", (1, 3), 0, 1)
    answer = await assert_case(bench, case)
    assert "still listed so far" in answer.text
    assert TARGET in bench.emulator.fleet.backups


@pytest.mark.parametrize("what", NONE_AT_ALL)
async def test_a_restore_whose_yes_says_no_is_unknown(bench: Bench, what: str) -> None:
    case = Case("F28", what, a_restore, (on_post(NONE_AT_ALL[what]),), "outcome_unknown", "unknown", (0, 2), 1)
    answer = await assert_case(bench, case)
    assert ('VPS.org said: "Locked."' in answer.text) == ("page" not in what)


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("what", NONE_AT_ALL)
async def test_a_backup_whose_yes_says_no_is_looked_for(bench: Bench, what: str, made: bool) -> None:
    said = replace(NONE_AT_ALL[what], apply=made)
    answer = await a_create(bench, (on_post(said),))
    assert answer.code == ("" if made else "outcome_unknown"), answer.text
    assert ('VPS.org said: "Locked."' in answer.text) == (not made and "page" not in what)
    assert bench.requests()[1] == 1
    assert times_applied(bench.emulator, "POST") == int(made)


RESTORES = [
    Case(
        "F28",
        "502",
        a_restore,
        (on_post(Fault.status(502)),),
        "outcome_unknown",
        "unknown",
        (0, 2),
        1,
        gist=("may be running",),
    ),
    Case(
        "F28",
        "502-but-done",
        a_restore,
        (on_post(Fault.status(502, apply=True)),),
        "outcome_unknown",
        "unknown",
        (0, 2),
        1,
        applied=True,
    ),
    Case("F28", "reset", a_restore, (on_post(LOST),), "outcome_unknown", "unknown", (0, 2), 1, applied=True),
]


@table(RESTORES)
async def test_a_restore_without_a_certain_answer_is_unknown_and_never_sent_again(bench: Bench, case: Case) -> None:
    await assert_case(bench, case)
    (operation,) = bench.operations()
    assert operation.status == "unknown"


@pytest.mark.parametrize("row", ["F29"])
@pytest.mark.parametrize("what", ["restore", "delete"])
async def test_an_unknown_restore_closes_its_server_for_half_an_hour_and_no_other(
    emulator: Emulator, bench_on: OpenBench, row: str, what: str
) -> None:
    async with bench_on(emulator, restores_per_hour=9) as bench:
        next_plan = a_restore_plan if what == "restore" else a_delete_plan
        prepared = await bench.plan("delete_backup", backup_id=TARGET)
        await a_restore(bench, (on_post(LOST),))
        refused = await next_plan(bench, ())
        confirmed = await bench.agent.call("delete_backup", **prepared)
        assert [refused.code, confirmed.code] == ["policy_denied"] * 2, row
        assert "is not known yet" in refused.text
        assert bench.requests()[1:] == (0, 0)
        elsewhere = await bench.agent.call("restore_server", server_id=12346, backup_id=_any_of(emulator, 12346))
        assert elsewhere.status == "needs_confirmation"
        bench.clock.advance(minutes=30, seconds=1)
        assert (await next_plan(bench, ())).status == "needs_confirmation"


def _any_of(emulator: Emulator, server_id: int) -> int:
    return next(backup.id for backup in emulator.fleet.backups_of(server_id) if backup.status == "completed")


@pytest.mark.parametrize("row", ["F31"])
async def test_a_redirect_to_another_host_is_not_followed_and_gets_no_token(bench: Bench, row: str) -> None:
    async with Emulator() as other:
        away = Fault.status(307, headers={"Location": f"{other.base_url}/backups/{TARGET}/"})
        case = Case(row, "307", a_delete, (on_delete(away),), "upstream_protocol", "nothing", (0, 2), 0, 1)
        await assert_case(bench, case)
        assert other.connections == 0
    assert TARGET in bench.emulator.fleet.backups
