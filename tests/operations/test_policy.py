"""The operator's rules as tables: each check passes, or refuses without a word on how it could be lifted."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mcp_backups.errors import PolicyDeniedError, ReadOnlyError
from mcp_backups.models import Backup, Gap, Listing
from mcp_backups.operations.operation import Operation
from mcp_backups.operations.policy import (
    PROVEN,
    Doubt,
    Inventory,
    check_delete,
    check_prune,
    check_restore,
    check_server,
    check_settled,
    check_write,
    policy_digest,
)
from mcp_backups.settings import Settings
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
UNSURE = "Backup 501 is not completed as far as is known, so there is nothing sure to restore."
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
        ({}, {"status": "Completed"}, UNSURE, CHOOSE),
        ({}, {"status": "success"}, UNSURE, CHOOSE),
        ({}, {"size_mb": 0}, "Backup 501 is empty or of unknown size.", CHOOSE),
        ({}, {"created_at": NOW + timedelta(minutes=5, seconds=1)}, AHEAD, CHOOSE),
        ({}, {"expires_at": NOW}, "Backup 501 has expired.", CHOOSE),
        ({}, {"expires_at": NOW + timedelta(seconds=1)}, SOON, CHOOSE),
        ({"require_safety_backup": True}, {}, UNSAFE, "Call again with safety_backup=true."),
    ],
)
def test_a_refusal_to_restore_says_why_and_what_to_do_next(
    make_settings: MakeSettings, rule: dict[str, Any], fields: dict[str, Any], what: str, next_step: str
) -> None:
    with pytest.raises(PolicyDeniedError) as refusal:
        check_restore(make_settings(**rule), backup(**fields), 12345, inventory(), safety_backup=False)
    assert (refusal.value.what, refusal.value.next_step) == (what, next_step)


FEW = "Deleting backup 501 would leave server 12345 with 1 proven backup; at least 2 must stay."
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
            f"{HOLES} that server 12345 would keep enough proven backups.",
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
        "at the latest until 2026-11-23T09:55Z, nothing is deleted or restored there."
    )
    assert closed.value.next_step == (
        f"Call get_operation(operation_id={unknown.id!r}); after 2026-11-23T09:55Z call again as before."
    )


def test_the_rules_have_a_digest_that_only_they_change(make_settings: MakeSettings) -> None:
    rules = {
        "approval": "flag", "read_only": True, "servers": {1}, "protected_servers": {1}, "protected_backups": {1},
        "keep_min": 2, "deletes_per_hour": 2, "deletes_per_day": 2, "restores_per_hour": 2, "creates_per_hour": 2,
        "require_safety_backup": True,
    }  # fmt: skip
    others = {"ignored_servers": {1}, "mark_backups": False, "log_level": "DEBUG", "vps_api_url": "https://example.org"}
    others |= {"vps_api_token": "vps_x", "vps_api_token_file": "/x", "state_dir": "/x", "key_file": "/x"}
    others |= {"vps_api_ca_file": "/x", "vps_api_proxy": "https://example.org", "fast_start": False}
    others |= {"approval_hours": 2, "notify": ["json://example.org"], "console_url": "https://example.org"}
    others |= {"approvers": {"ann"}, "console_login_header": "X-User", "console_secret_file": "/x"}
    others |= {"ledger_url": "postgresql:///ledger"}
    others |= {"http_url": "https://example.org", "http_hosts": {"example.org"}, "http_secret_file": "/x"}
    others |= {"http_origins": {"https://example.org"}, "principal_claim": "email"}
    others |= {"oauth_issuer": "https://example.org", "oauth_audience": "https://example.org/mcp"}
    others |= {"accounts": {"shop": {"vps_api_token_file": "/x", "principals": ["ann"]}}}
    usual = policy_digest(make_settings())
    assert {name for name, value in rules.items() if policy_digest(make_settings(**{name: value})) == usual} == set()
    assert {name for name, value in others.items() if policy_digest(make_settings(**{name: value})) != usual} == set()
    assert rules.keys() | others.keys() == set(Settings.model_fields)
    assert policy_digest(make_settings(servers={3, 1, 2})) == policy_digest(make_settings(servers={2, 3, 1}))
