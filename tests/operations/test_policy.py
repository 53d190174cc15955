"""The operator's rules as tables: each check passes, or refuses without a word on how it could be lifted."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mcp_backups.errors import BudgetExhaustedError, PolicyDeniedError, ReadOnlyError
from mcp_backups.models import Backup, Gap, Listing
from mcp_backups.operations.operation import Operation
from mcp_backups.operations.policy import (
    PROVEN,
    Doubt,
    Inventory,
    check_budget,
    check_delete,
    check_prune,
    check_restore,
    check_server,
    check_settled,
    check_write,
    deletes_left,
    next_restore,
)
from tests.stage import NOW, MakeSettings

from .made import MOMENT, ago, backup, operation


def inventory(*backups: Backup, missing: tuple[str, ...] = (), made_here: tuple[int, ...] = ()) -> Inventory:
    return Inventory(Listing(backups, tuple(map(Gap, missing))), frozenset(made_here), NOW)


@contextmanager
def refusing(error: type[PolicyDeniedError] | None) -> Iterator[None]:
    """What is done inside raises this very error, or nothing if there is none."""
    if error is None:
        yield
        return
    with pytest.raises(error) as refusal:
        yield
    assert type(refusal.value) is error
    assert refusal.value.changed == "nothing"


def unless(allowed: bool) -> type[PolicyDeniedError] | None:
    return None if allowed else PolicyDeniedError


@pytest.mark.parametrize(("rule", "error"), [({}, None), ({"read_only": True}, ReadOnlyError)])
def test_where_only_reading_is_allowed_nothing_is_written(
    make_settings: MakeSettings, rule: dict[str, Any], error: type[PolicyDeniedError] | None
) -> None:
    with refusing(error):
        check_write(make_settings(**rule))


@pytest.mark.parametrize(
    ("servers", "error"),
    [(set(), None), ({12345}, None), ({12345, 12346}, None), ({12346}, PolicyDeniedError)],
)
def test_only_the_servers_that_are_named_may_be_changed(
    make_settings: MakeSettings, servers: set[int], error: type[PolicyDeniedError] | None
) -> None:
    with refusing(error):
        check_server(make_settings(servers=servers), 12345)


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ({}, True),
        ({"servers": {12346}}, False),
        ({"servers": {12345}}, True),
        ({"protected_servers": {12345}}, False),
        ({"protected_servers": {12346}}, True),
    ],
)
def test_nothing_is_pruned_on_a_server_that_may_not_be_changed_or_is_protected(
    make_settings: MakeSettings, rule: dict[str, Any], allowed: bool
) -> None:
    with refusing(unless(allowed)):
        check_prune(make_settings(**rule), 12345)


TARGET, OTHER = backup(501), backup(499)
DELETES: list[tuple[dict[str, Any], Backup, Inventory, bool]] = [
    ({}, TARGET, inventory(TARGET, OTHER), True),
    ({}, TARGET, inventory(TARGET), False),
    ({"keep_min": 0}, TARGET, inventory(TARGET), True),
    ({"keep_min": 2}, TARGET, inventory(TARGET, OTHER), False),
    ({"keep_min": 2}, TARGET, inventory(TARGET, OTHER, backup(495)), True),
    ({}, TARGET, inventory(TARGET, OTHER, missing=("1 row could not be read",)), False),
    ({"keep_min": 0}, TARGET, inventory(TARGET, OTHER, missing=("1 row could not be read",)), False),
    ({}, TARGET, inventory(TARGET, backup(499, server_id=12346)), False),
    ({}, TARGET, inventory(TARGET, OTHER, made_here=(499,)), False),
    ({}, TARGET, inventory(TARGET, OTHER, made_here=(501,)), True),
    ({}, backup(501, keep=True), inventory(TARGET, OTHER), False),
    ({"protected_backups": {501}}, TARGET, inventory(TARGET, OTHER), False),
    ({"protected_backups": {499}}, TARGET, inventory(TARGET, OTHER), True),
    ({"protected_servers": {12345}}, TARGET, inventory(TARGET, OTHER), False),
    ({"protected_servers": {12346}}, TARGET, inventory(TARGET, OTHER), True),
    ({}, backup(501, status="failed"), inventory(backup(501, status="failed"), OTHER), True),
    ({}, backup(501, status="failed"), inventory(backup(501, status="failed")), False),
]


@pytest.mark.parametrize(("rule", "target", "held", "allowed"), DELETES)
def test_a_delete_is_allowed_only_where_every_rule_allows_it(
    make_settings: MakeSettings, rule: dict[str, Any], target: Backup, held: Inventory, allowed: bool
) -> None:
    with refusing(unless(allowed)):
        check_delete(make_settings(**rule), target, held)


RESTORES: list[tuple[dict[str, Any], dict[str, Any], bool, bool]] = [
    ({}, {}, True, True),
    ({}, {}, False, True),
    ({"require_safety_backup": True}, {}, True, True),
    ({"require_safety_backup": True}, {}, False, False),
    ({"protected_servers": {12345}}, {}, True, False),
    ({"protected_backups": {501}}, {}, True, True),
    ({}, {"server_id": 12346}, True, False),
    ({}, {"status": "in_progress"}, True, False),
    ({}, {"status": "COMPLETED"}, True, False),
    ({}, {"size_mb": 0}, True, False),
    ({}, {"size_mb": None}, True, False),
    ({}, {"size_mb": 0.1}, True, True),
    ({}, {"expires_at": NOW - timedelta(days=1)}, True, False),
    ({}, {"expires_at": NOW + timedelta(hours=1)}, True, False),
    ({}, {"expires_at": NOW + timedelta(hours=1, seconds=1)}, True, True),
]


@pytest.mark.parametrize(("rule", "fields", "safety_backup", "allowed"), RESTORES)
def test_a_restore_is_allowed_only_from_what_is_sure_to_be_restored(
    make_settings: MakeSettings, rule: dict[str, Any], fields: dict[str, Any], safety_backup: bool, allowed: bool
) -> None:
    with refusing(unless(allowed)):
        check_restore(make_settings(**rule), backup(**fields), 12345, inventory(), safety_backup=safety_backup)


ADVICE = PolicyDeniedError.advice
CHOOSE = "Call list_backups with the server's id, and choose a completed backup of that server."
NAMED = "Server 12345 is not among those that may be changed here."
PROTECTED = "Server 12345 is protected: none of its backups is deleted or restored."
AHEAD = "Backup 501 is dated in the future, so nobody knows what would be lost since it was made."
SOON = "Backup 501 expires within an hour, perhaps before it is restored."
UNSAFE = "Here a restore needs a safety backup of the server as it is."


@pytest.mark.parametrize("doubt", ["being_deleted", "doubtful"])
def test_a_backup_whose_deletion_may_still_take_effect_is_not_restored(
    make_settings: MakeSettings, doubt: Doubt
) -> None:
    with pytest.raises(PolicyDeniedError) as refusal:
        check_restore(make_settings(), backup(), 12345, replace(inventory(), doubtful={501: doubt}), safety_backup=True)
    assert refusal.value.what == "The deletion of backup 501 was sent, and may still take effect."
    assert refusal.value.next_step == CHOOSE


@pytest.mark.parametrize(
    ("rule", "fields", "what", "next_step"),
    [
        ({"protected_servers": {12345}}, {}, PROTECTED, ADVICE),
        ({}, {"server_id": 12346}, "Backup 501 is of server 12346, not of server 12345.", CHOOSE),
        ({}, {"status": "failed"}, "Backup 501 is not completed, so there is nothing sure to restore.", CHOOSE),
        ({}, {"size_mb": 0}, "Backup 501 is empty or of unknown size.", CHOOSE),
        ({}, {"created_at": NOW + timedelta(minutes=5, seconds=1)}, AHEAD, CHOOSE),
        ({}, {"expires_at": NOW}, "Backup 501 has expired.", CHOOSE),
        ({}, {"expires_at": NOW + timedelta(seconds=1)}, SOON, CHOOSE),
        ({"require_safety_backup": True}, {}, UNSAFE, ADVICE),
    ],
)
def test_a_refusal_to_restore_says_why_and_what_to_do_next(
    make_settings: MakeSettings, rule: dict[str, Any], fields: dict[str, Any], what: str, next_step: str
) -> None:
    with pytest.raises(PolicyDeniedError) as refusal:
        check_restore(make_settings(**rule), backup(**fields), 12345, inventory(), safety_backup=False)
    assert (refusal.value.what, refusal.value.next_step) == (what, next_step)


FEW = "Deleting backup 501 would leave server 12345 with 1 good backup; at least 2 must stay."
HOLES = "The list of backups is incomplete (1 row could not be read; page 2), so it cannot be shown"


@pytest.mark.parametrize(
    ("rule", "target", "held", "what", "next_step"),
    [
        ({"protected_servers": {12345}}, TARGET, inventory(TARGET, OTHER), PROTECTED, ADVICE),
        ({"protected_backups": {501}}, TARGET, inventory(TARGET, OTHER), "Backup 501 is protected.", ADVICE),
        ({}, backup(501, keep=True), inventory(TARGET, OTHER), "Backup 501 is marked to be kept.", ADVICE),
        ({"keep_min": 2}, TARGET, inventory(TARGET, OTHER), f"{FEW} {PROVEN}", ADVICE),
        (
            {},
            TARGET,
            inventory(TARGET, OTHER, missing=("1 row could not be read", "page 2")),
            f"{HOLES} that server 12345 would keep enough good backups.",
            "Try again in a few minutes; if it stays so, tell the user.",
        ),
    ],
)
def test_a_refusal_to_delete_says_why_and_what_to_do_next(
    make_settings: MakeSettings, rule: dict[str, Any], target: Backup, held: Inventory, what: str, next_step: str
) -> None:
    with pytest.raises(PolicyDeniedError) as refusal:
        check_delete(make_settings(**rule), target, held)
    assert (refusal.value.what, refusal.value.next_step) == (what, next_step)


@pytest.mark.parametrize(("rule", "what"), [({"servers": {12346}}, NAMED), ({"protected_servers": {12345}}, PROTECTED)])
def test_a_refusal_to_prune_names_the_server(make_settings: MakeSettings, rule: dict[str, Any], what: str) -> None:
    with pytest.raises(PolicyDeniedError) as refusal:
        check_prune(make_settings(**rule), 12345)
    assert refusal.value.what == what


@pytest.mark.parametrize(
    ("unsettled", "allowed"),
    [
        ([], True),
        ([operation(status="unknown", sent=ago(minutes=29, ticking=29 * 60))], False),
        ([operation(status="unknown", sent=ago(minutes=30, ticking=30 * 60))], True),
        ([operation(status="unknown", sent=ago(days=30, ticking=60))], False),
        ([operation(status="unknown", sent=ago(days=-30, ticking=30 * 60))], True),
        ([operation(status="unknown", sent=ago(days=-30, ticking=29 * 60))], False),
        ([operation(status="sending", created=ago(minutes=1, ticking=60))], False),
        (
            [
                operation(status="unknown", sent=ago(hours=1, ticking=3600)),
                operation(status="unknown", sent=ago(minutes=1, ticking=60)),
            ],
            False,
        ),
    ],
)
def test_an_unknown_outcome_closes_its_server_for_half_an_hour_by_either_clock(
    unsettled: list[Operation], allowed: bool
) -> None:
    with refusing(unless(allowed)):
        check_settled(12345, unsettled, MOMENT)


def test_a_closed_server_names_the_operation_to_look_at() -> None:
    unknown = operation("restore_server", "unknown", sent=ago(minutes=5, ticking=300))
    with pytest.raises(PolicyDeniedError) as closed:
        check_settled(12345, [unknown], MOMENT)
    assert closed.value.what == (
        f"The outcome of {unknown.id} (restore_server) on server 12345 is not known yet, and until it is, "
        "or 30 min have passed, nothing is deleted or restored there."
    )
    assert closed.value.next_step == f"Call get_operation(operation_id={unknown.id!r})."


def sent(*minutes: float, server_id: int = 12345, action: str = "delete_backup", **details: Any) -> list[Operation]:
    """What was sent so many minutes ago, by both clocks; newest first."""
    return [
        operation(action, "succeeded", server_id=server_id, sent=ago(minutes=each, ticking=each * 60), **details)
        for each in sorted(minutes)
    ]


BUDGETS: list[tuple[dict[str, Any], str, list[Operation], str]] = [
    ({}, "delete_backup", [], ""),
    ({"deletes_per_hour": 2}, "delete_backup", sent(1), ""),
    ({"deletes_per_hour": 2}, "delete_backup", sent(1, 59), "about 1 min"),
    ({"deletes_per_hour": 2}, "delete_backup", sent(1, 60), ""),
    ({"deletes_per_hour": 2}, "delete_backup", sent(10, 20, 30), "about 40 min"),
    ({"deletes_per_hour": 0}, "delete_backup", [], "only the operator"),
    ({"deletes_per_day": 2}, "delete_backup", sent(100, 200), "about 20 h"),
    ({"deletes_per_day": 2}, "delete_backup", sent(100, 24 * 60), ""),
    ({"restores_per_hour": 1}, "restore_server", sent(30), "about 30 min"),
    ({"restores_per_hour": 1}, "restore_server", sent(30, server_id=12346), ""),
    ({"restores_per_hour": 2}, "restore_server", sent(30), ""),
    ({"deletes_per_hour": 0}, "restore_server", [], ""),
    ({"restores_per_hour": 0}, "delete_backup", [], ""),
    ({"creates_per_hour": 2}, "create_backup", sent(10, action="create_backup"), ""),
    ({"creates_per_hour": 2}, "create_backup", sent(10, 20, action="create_backup"), "about 40 min"),
    ({"creates_per_hour": 2}, "create_backup", sent(10, 60, action="create_backup"), ""),
    ({"creates_per_hour": 1}, "create_backup", sent(10, 20, action="create_backup", is_safety=True), ""),
    ({"creates_per_hour": 1}, "create_backup", sent(10, server_id=12346, action="create_backup"), "about 50 min"),
    ({"creates_per_hour": 0}, "create_backup", [], "only the operator"),
    ({"creates_per_hour": 0}, "delete_backup", [], ""),
]


@pytest.mark.parametrize(("rule", "action", "before", "refusal"), BUDGETS)
def test_one_more_is_allowed_only_within_the_budget_and_a_refusal_says_when(
    make_settings: MakeSettings, rule: dict[str, Any], action: str, before: list[Operation], refusal: str
) -> None:
    settings = make_settings(**rule)
    if not refusal:
        check_budget(settings, action, 12345, before, MOMENT)
        return
    with pytest.raises(BudgetExhaustedError) as exhausted:
        check_budget(settings, action, 12345, before, MOMENT)
    assert refusal in exhausted.value.next_step


@pytest.mark.parametrize(
    ("rule", "action", "before", "used_up"),
    [
        ({"restores_per_hour": 1}, "restore_server", sent(30), "The budget of 1 restore within an hour is used up."),
        ({"restores_per_hour": 0}, "restore_server", [], "There is no budget for a restore here."),
        ({"deletes_per_hour": 2}, "delete_backup", sent(1, 2), "The budget of 2 deletes within an hour is used up."),
        ({"deletes_per_day": 1}, "delete_backup", sent(61), "The budget of 1 delete within 24 h is used up."),
    ],
)
def test_a_refusal_names_the_budget_that_is_used_up(
    make_settings: MakeSettings, rule: dict[str, Any], action: str, before: list[Operation], used_up: str
) -> None:
    with pytest.raises(BudgetExhaustedError) as exhausted:
        check_budget(make_settings(**rule), action, 12345, before, MOMENT)
    assert exhausted.value.what == used_up


NEXT_RESTORES: list[tuple[int, list[Operation], timedelta | None]] = [
    (1, [], timedelta(hours=1)),
    (1, sent(30), timedelta(hours=1)),
    (2, [], None),
    (2, sent(20), timedelta(minutes=40)),
    (2, sent(59), timedelta(minutes=1)),
    (2, sent(60), None),
    (2, sent(20, 50), timedelta(minutes=40)),
    (2, sent(20, server_id=12346), None),
    (2, sent(20) + sent(30, server_id=12346), timedelta(minutes=40)),
    (2, sent(10, server_id=12346) + sent(20), timedelta(minutes=40)),
    (3, sent(20), None),
    (3, sent(20, 50), timedelta(minutes=10)),
    (2, [operation("restore_server", "unknown", sent=None)], None),
]


@pytest.mark.parametrize(("most", "before", "wait"), NEXT_RESTORES)
def test_after_a_restore_the_next_is_possible_an_hour_after_the_oldest_that_uses_up_the_budget(
    make_settings: MakeSettings, most: int, before: list[Operation], wait: timedelta | None
) -> None:
    """Those of the last hour and of the same server count, and the restore of this moment."""
    expected = NOW + wait if wait is not None else None
    assert next_restore(make_settings(restores_per_hour=most), 12345, before, MOMENT) == expected


@pytest.mark.parametrize(
    ("before", "left"),
    [([], 3), (sent(1), 2), (sent(60), 3), (sent(1, 2, 3, 4), 0), (sent(100, 200, 300), 1), (sent(24 * 60), 3)],
)
def test_what_is_left_of_both_budgets_is_the_lesser(
    make_settings: MakeSettings, before: list[Operation], left: int
) -> None:
    unsent = operation(status="unknown", sent=None)
    assert deletes_left(make_settings(deletes_per_hour=3, deletes_per_day=4), [*before, unsent], MOMENT) == left


@pytest.mark.parametrize("days", [-3, -1, 1, 3])
def test_a_step_of_the_wall_clock_gives_no_new_budget(make_settings: MakeSettings, days: int) -> None:
    before = [operation(status="succeeded", sent=ago(days=days, ticking=60))]
    with pytest.raises(BudgetExhaustedError):
        check_budget(make_settings(deletes_per_hour=1), "delete_backup", 12345, before, MOMENT)
