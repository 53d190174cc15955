"""What a list of backups proves of an operation whose outcome is not known, and what it does not prove."""

from datetime import timedelta
from typing import Any

import pytest

from mcp_backups.actions.create import judge as judge_create
from mcp_backups.actions.create import made
from mcp_backups.actions.delete import judge as judge_delete
from mcp_backups.models import Backup, Gap, Listing
from mcp_backups.operations import BY_OPERATOR
from mcp_backups.operations.operation import CreateDetails, DeleteDetails, Operation
from mcp_backups.operations.policy import may_have_made

from .made import MOMENT, ago, backup, operation

GAP = (Gap("1 row could not be read"),)
LATE, EARLY = ago(minutes=30, ticking=1800), ago(minutes=29, ticking=1799)
"""Sent so long ago that VPS.org's list must show what was made, and not yet so long."""
A_DAY_AGO, TODAY = ago(hours=24, ticking=86_400), ago(hours=24, ticking=86_399)
"""Sent so long ago that a deletion takes effect no more, and not yet so long."""


def create(status: str = "unknown", **fields: Any) -> Operation:
    return operation("create_backup", status, **{"arguments": {"server_id": 12345}} | fields)


@pytest.mark.parametrize(
    ("status", "hours", "became", "code"),
    [
        ("completed", 25, "succeeded", ""),
        ("in_progress", 25, "accepted", ""),
        ("failed", 0, "failed", "conflict"),
        ("failed", 25, "failed", "conflict"),
        ("error", 0, "accepted", ""),
        ("queued", 24, "accepted", ""),
        ("Completed", 24, "accepted", ""),
        ("", 24, "accepted", ""),
        ("FAILED", 24 * 365, "accepted", ""),
    ],
)
def test_a_backup_that_is_known_tells_by_its_status_what_became_of_it(
    status: str, hours: float, became: str, code: str
) -> None:
    """A word that is not documented may still become a good one, however long that takes."""
    asked = create(error_code="outcome_unknown", error="Not known.", advice="Look.", server_name="old")
    asked = asked.updated(sent=ago(hours=hours, ticking=hours * 3600))
    found = backup(777, status=status)
    known = made(asked, found, "its row", MOMENT)
    assert (known.status, known.error_code, known.evidence) == (became, code, "its row")
    assert (known.backup_id, known.backup, known.server_name, known.advice) == (777, found, "web-server-01", "")
    ended = "Backup 777 was started but did not complete; its own status says what VPS.org made of it."
    assert known.error == (ended if code else "")


@pytest.mark.parametrize(
    ("status", "sent", "rows", "missing", "became"),
    [
        ("accepted", LATE, [backup(777)], (), "succeeded"),
        ("accepted", LATE, [backup(778)], (), "failed"),
        ("accepted", LATE, [], (), "failed"),
        ("accepted", EARLY, [], (), "accepted"),
        ("accepted", LATE, [], GAP, "accepted"),
        ("accepted", LATE, [], (Gap("1 row could not be read", 12346),), "failed"),
        ("accepted", LATE, [], (Gap("1 row could not be read", 12345),), "accepted"),
        ("failed", LATE, [backup(777)], (), "succeeded"),
        ("unknown", LATE, [], (), "unknown"),
        ("accepted", LATE, [backup(777), backup(777)], (), "accepted"),
    ],
)
def test_a_started_backup_has_failed_only_when_a_complete_list_lacks_it_for_long_enough(
    status: str, sent: Any, rows: list[Backup], missing: tuple[Gap, ...], became: str
) -> None:
    judged = judge_create(create(status, sent=sent, backup_id=777), Listing(tuple(rows), missing), MOMENT)
    assert judged.status == became
    said = {
        "failed": ("not_found", "Backup 777 was started but is no longer listed.", "absent from the complete list"),
        "succeeded": ("", "", "its row in the list of backups"),
    }
    assert (judged.error_code, judged.error, judged.evidence) == said.get(became, ("", "", ""))


@pytest.mark.parametrize("status", ["accepted", "succeeded", "failed"])
def test_what_a_list_says_of_a_backup_is_never_final(status: str) -> None:
    judged = judge_create(create(status, backup_id=777), Listing((backup(777, status="in_progress"),), ()), MOMENT)
    assert judged.status == "accepted"


def test_how_long_ago_is_counted_from_sending_and_from_the_plan_only_without_that() -> None:
    nothing = Listing[Backup]((), ())
    assert judge_create(create("accepted", created=LATE, backup_id=777), nothing, MOMENT).status == "failed"
    resent = create("accepted", created=LATE, sent=EARLY, backup_id=777)
    assert judge_create(resent, nothing, MOMENT).status == "accepted"
    delete = operation(status="unknown", created=A_DAY_AGO, backup_id=501)
    assert judge_delete(delete, LISTED, MOMENT).status == "failed"
    assert judge_delete(delete.updated(sent=TODAY), LISTED, MOMENT).status == "unknown"


def test_a_mark_tells_more_than_an_id() -> None:
    asked = create(backup_id=501, sent=LATE)
    marked = backup(777, mark=asked.id)
    assert judge_create(asked, Listing((backup(501), marked), ()), MOMENT).backup_id == 777
    two = judge_create(asked, Listing((marked, backup(778, mark=asked.id)), ()), MOMENT)
    assert two == asked.updated(candidates=(777, 778))


@pytest.mark.parametrize(
    ("size", "sent", "became"),
    [
        (None, EARLY, "accepted"),
        (None, LATE, "succeeded"),
        (0, EARLY, "accepted"),
        (0, LATE, "failed"),
        (1, EARLY, "succeeded"),
    ],
)
def test_a_size_may_be_told_later_than_the_status_but_an_empty_backup_is_no_success(
    size: float | None, sent: Any, became: str
) -> None:
    known = made(create(sent=sent), backup(777, size_mb=size), "its row", MOMENT)
    error = "Backup 777 is completed but empty: there is nothing in it to restore." if became == "failed" else ""
    assert (known.status, known.error_code, known.error) == (became, "conflict" if error else "", error)


def test_what_was_refused_made_no_backup_that_is_like_it() -> None:
    """Somebody else made that one, even if no mark tells whose it is."""
    like = Listing((backup(777, hours=0),), ())
    assert judge_create(create(marked=False), like, MOMENT).backup_id == 777
    refused = create("failed", marked=False, error_code="conflict", error="VPS.org refused it.")
    assert judge_create(refused, like, MOMENT) == refused


LISTED = Listing((backup(501),), ())


LAPSED = "The deletion of backup 501 did not take effect within 24 h."


@pytest.mark.parametrize(
    ("status", "sent", "rows", "missing", "became"),
    [
        ("unknown", A_DAY_AGO, [backup(499)], (), "succeeded"),
        ("unknown", TODAY, [], (), "succeeded"),
        ("accepted", TODAY, [], (), "succeeded"),
        ("unknown", TODAY, [], (Gap("1 row could not be read", 12346),), "succeeded"),
        ("unknown", A_DAY_AGO, [], GAP, "unknown"),
        ("unknown", A_DAY_AGO, [backup(501)], (), "failed"),
        ("unknown", A_DAY_AGO, [backup(501)], GAP, "failed"),
        ("accepted", A_DAY_AGO, [backup(501)], (), "failed"),
        ("unknown", LATE, [backup(501)], (), "unknown"),
        ("unknown", TODAY, [backup(501)], (), "unknown"),
        ("accepted", TODAY, [backup(501)], (), "accepted"),
    ],
)
def test_a_delete_is_done_when_a_complete_list_lacks_it_and_lost_when_it_is_listed_a_day_later(
    status: str, sent: Any, rows: list[Backup], missing: tuple[Gap, ...], became: str
) -> None:
    """VPS.org may carry out a deletion hours after an answer that said no: what is still listed by then may yet go."""
    asked = operation(status=status, sent=sent, backup_id=501, error_code="before", error="Before.", advice="Look.")
    judged = judge_delete(asked, Listing(tuple(rows), missing), MOMENT)
    counts_again = "Backup 501 counts again; plan another delete if it is still to go."
    said = {
        "failed": ("upstream_unavailable", LAPSED, counts_again, "still in the list"),
        "succeeded": ("", "", "", "absent from the complete list"),
    }
    told = (judged.error_code, judged.error, judged.advice, judged.evidence)
    assert judged.status == became
    assert told == said.get(became, ("before", "Before.", "Look.", ""))
    assert judged.of(DeleteDetails).lapsed == (became == "failed")


@pytest.mark.parametrize("sent", [MOMENT, LATE, A_DAY_AGO, ago(days=30, ticking=30 * 86_400)])
def test_what_is_listed_again_after_it_was_seen_gone_is_in_doubt_for_a_day_from_then_on(sent: Any) -> None:
    """One list or the other was behind; which of them, only time tells."""
    again = judge_delete(operation(status="succeeded", sent=sent, backup_id=501), LISTED, MOMENT)
    assert (again.status, again.of(DeleteDetails).listed_again) == ("unknown", MOMENT)
    assert again.evidence == "listed again after it was seen to be gone"
    said = operation(status="succeeded", sent=sent, backup_id=501, evidence=BY_OPERATOR)
    assert judge_delete(said, LISTED, MOMENT).evidence == "listed, though the operator settled it as done"
    assert judge_delete(again.updated(listed_again=TODAY), LISTED, MOMENT).status == "unknown"
    assert judge_delete(again.updated(listed_again=A_DAY_AGO), LISTED, MOMENT).error == LAPSED
    assert judge_delete(again, Listing((), ()), MOMENT).status == "succeeded"


def test_what_goes_after_its_deletion_was_given_up_is_seen_to_be_gone() -> None:
    lapsed = judge_delete(operation(status="unknown", sent=A_DAY_AGO, backup_id=501), LISTED, MOMENT)
    assert judge_delete(lapsed, LISTED, MOMENT) == lapsed
    gone = judge_delete(lapsed, Listing((), ()), MOMENT)
    assert (gone.status, gone.of(DeleteDetails).lapsed, gone.error, gone.advice) == ("succeeded", True, "", "")
    again = judge_delete(gone, LISTED, MOMENT)
    assert (again.status, again.of(DeleteDetails).lapsed) == ("unknown", True)


def like(number: int = 777, seconds: float = 0, **fields: Any) -> Backup:
    """A backup like the one that was asked for, made so many seconds before."""
    return backup(number, hours=seconds / 3600, **{"description": "before"} | fields)


ASKED = create(marked=False, sent=MOMENT, arguments={"server_id": 12345, "description": "before"}, baseline=(501,))


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([like()], 777),
        ([like(seconds=120)], 777),
        ([like(seconds=-120)], 777),
        ([like(seconds=121)], 0),
        ([like(seconds=-121)], 0),
        ([like(), backup(501)], 777),
        ([like(501)], 0),
        ([like(type="automatic")], 0),
        ([like(description="after")], 0),
        ([like(), like(778)], 0),
        ([], 0),
    ],
)
def test_without_a_mark_it_is_the_one_new_backup_like_it(rows: list[Backup], found: int) -> None:
    judged = judge_create(ASKED, Listing(tuple(rows), ()), MOMENT)
    assert (judged.backup_id, judged.status) == (found, "succeeded" if found else "unknown")
    told = "probable: the one new backup that is like it in the complete list"
    assert judged.evidence == (told if found else "")


@pytest.mark.parametrize(("seconds", "found"), [(-3600, 777), (-3480, 777), (-3479, 0), (0, 0)])
def test_when_it_was_made_is_judged_by_vps_orgs_clock_if_that_is_known(seconds: float, found: int) -> None:
    asked = ASKED.updated(sent=MOMENT.model_copy(update={"upstream": MOMENT.wall + timedelta(hours=1)}))
    assert judge_create(asked, Listing((like(seconds=seconds),), ()), MOMENT).backup_id == found


@pytest.mark.parametrize(
    ("marked", "rows", "found"),
    [
        (False, [like()], 777),
        (False, [like(), backup(2)], 2),
        (False, [like(), like(778)], 2),
        (True, [like()], 2),
    ],
)
def test_without_a_mark_an_id_that_is_not_listed_gives_way_to_the_one_like_it(
    marked: bool, rows: list[Backup], found: int
) -> None:
    told = ASKED.updated(status="accepted", backup_id=2, marked=marked)
    assert judge_create(told, Listing(tuple(rows), ()), MOMENT).backup_id == found


@pytest.mark.parametrize(
    ("marked", "rows", "candidates"),
    [
        (False, [like(), like(778)], (777, 778)),
        (True, [like(), like(778)], ()),
        (True, [backup(777, mark=ASKED.id), backup(778, mark=ASKED.id)], (777, 778)),
    ],
)
def test_several_that_may_be_it_are_candidates_until_one_is_left(
    marked: bool, rows: list[Backup], candidates: tuple[int, ...]
) -> None:
    judged = judge_create(ASKED.updated(marked=marked), Listing(tuple(rows), ()), MOMENT)
    assert (judged.status, judged.of(CreateDetails).candidates) == ("unknown", candidates)
    assert judge_create(judged, Listing((), ()), MOMENT).of(CreateDetails).candidates == ()
    if candidates:
        known = judge_create(judged, Listing(tuple(rows[1:]), ()), MOMENT)
        assert (known.backup_id, known.of(CreateDetails).candidates) == (778, ())


def test_of_two_with_its_mark_it_is_the_one_that_vps_org_named() -> None:
    rows = (backup(777, mark=ASKED.id), backup(2, mark=ASKED.id))
    told = ASKED.updated(status="accepted", backup_id=2, marked=True)
    assert judge_create(told, Listing(rows, ()), MOMENT).backup_id == 2


def test_without_a_mark_or_a_description_it_is_the_one_without_either() -> None:
    asked = ASKED.updated(arguments={"server_id": 12345})
    assert judge_create(asked, Listing((like(description=""),), ()), MOMENT).backup_id == 777


def test_without_a_mark_an_incomplete_list_before_or_after_proves_nothing() -> None:
    assert judge_create(ASKED, Listing((like(),), GAP), MOMENT) == ASKED
    blind = ASKED.updated(baseline_complete=False)
    assert judge_create(blind, Listing((like(),), ()), MOMENT) == blind


@pytest.mark.parametrize(
    ("status", "minutes", "backup_id", "found"),
    [
        ("unknown", 0, 0, 0),
        ("sending", 1, 0, 0),
        ("unknown", 6, 0, 0),
        ("unknown", -6, 0, 0),
        ("unknown", 6.1, 0, 777),
        ("unknown", -6.1, 0, 777),
        ("succeeded", 0, 778, 777),
        ("succeeded", 0, 777, 0),
        ("failed", 0, 0, 777),
    ],
)
def test_without_a_mark_what_another_operation_made_or_may_have_made_is_not_claimed(
    status: str, minutes: float, backup_id: int, found: int
) -> None:
    rival = ASKED.updated(id="op_rival", status=status, sent=ago(minutes=minutes), backup_id=backup_id)
    assert judge_create(ASKED, Listing((like(),), ()), MOMENT, [rival]).backup_id == found


def test_two_that_were_sent_at_no_known_time_are_compared_by_their_plans() -> None:
    asked = ASKED.updated(sent=None, created=MOMENT)
    rival = asked.updated(id="op_rival", created=ago(minutes=6.1))
    assert asked.created.wall - rival.created.wall > timedelta(minutes=6)
    assert judge_create(asked, Listing((like(),), ()), MOMENT, [rival]).backup_id == 777
    assert judge_create(asked.updated(created=ago(days=1)), Listing((like(),), ()), MOMENT).backup_id == 0


MADE_BY = create(status="unknown", marked=False, baseline=(501,), backup_id=0)


@pytest.mark.parametrize(
    ("fields", "row", "may"),
    [
        ({}, backup(777), True),
        ({"status": "sending"}, backup(777), True),
        ({}, backup(777, type="automatic"), False),
        ({}, backup(501), False),
        ({"status": "failed"}, backup(777), False),
        ({"status": "accepted"}, backup(777), False),
        ({"marked": True}, backup(777), True),
        ({"marked": True}, backup(777, mark="op_" + "b" * 16), False),
        ({"status": "accepted", "marked": True}, backup(777), False),
        ({"status": "failed", "backup_id": 777}, backup(777), True),
        ({"status": "succeeded", "backup_id": 778, "marked": True}, backup(777), False),
        ({"status": "failed", "marked": True}, backup(777, mark=MADE_BY.id), True),
        ({"status": "failed", "marked": True}, backup(777, mark="op_" + "a" * 16), False),
    ],
)
def test_a_backup_may_be_what_was_asked_for_by_its_id_its_mark_or_because_it_is_new(
    fields: dict[str, Any], row: Backup, may: bool
) -> None:
    assert may_have_made(MADE_BY.updated(**fields), row) is may
