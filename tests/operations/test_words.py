"""Every sentence that is told of an operation, in each of its states: `tests/answers/ACTION.txt`.

An agent acts on these words, so each answer is reviewed as a whole. After a change that is meant, write them anew with
`python -m tests.operations.test_words`, and read the difference as an agent would.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest

from mcp_backups.actions import ACTIONS
from mcp_backups.errors import BusyError, RateLimitedError
from mcp_backups.operations import MADE_ELSEWHERE, Context, Operation, Result, Status
from mcp_backups.operations.approval import render
from mcp_backups.operations.operation import Budget, Decision, PruneItem, StatusSeen
from mcp_backups.settings import Settings
from mcp_backups.tools.answers import operation_answer, operation_text
from tests.stage import NOW

from .made import MOMENT, ago, backup, operation, question_of

Given = dict[str, Any]

ANSWERS = Path(__file__).parents[1] / "answers"
CONTEXT = cast(Context, SimpleNamespace(now=NOW, actions=ACTIONS, settings=Settings()))
"""All that an answer is made with, but for its result."""

OWN, OTHER, THIRD = (f"op_{letter * 16}" for letter in "abc")
HALF_AN_HOUR, A_DAY = ago(minutes=30, ticking=1800), ago(days=1, ticking=86_400)
JUST_UNDER, TODAY = ago(minutes=29, ticking=1799), ago(hours=23, ticking=86_399)
LATER = datetime(2026, 11, 30, 12, tzinfo=UTC)
SPENT, LEFT = Budget(left=0, more_from=NOW + timedelta(hours=1)), Budget(left=3)
REFUSED: Given = {"error_code": "conflict", "error": "VPS.org refused it.", "said": "Backup is locked."}
CHANGED: Given = {"error": "It is not as it was.", "advice": "Call again without operation_id for a new plan."}
DECIDED = Decision(by="anna", how="terminal", at=MOMENT, plan="", reason="not on a Friday")


class Told(NamedTuple):
    """A state, in words, and what is told in it."""

    state: str
    result: Result


def _create(status: str, state: str = "", result: Given | None = None, /, **fields: Any) -> Told:
    asked: Given = {"arguments": {"server_id": 12345, "description": "before upgrade"}, "id": OWN}
    made = operation("create_backup", status, **asked | {"approved_by": "not_required"} | fields)
    return Told(f"{status} {state}", Result(made, **result or {}))


def _creates() -> Iterator[Told]:
    done: Given = {"backup_id": 502, "evidence": "its row in the list of backups"}
    done["backup"] = backup(502, 0.1, description="before upgrade")
    stuck = backup(502, 25, status="in_progress")
    old = {"sent": HALF_AN_HOUR}
    yield _create("sending")
    yield _create("accepted", backup_id=502)
    yield _create("accepted", "in progress", backup_id=502, backup=backup(502, 0.1, status="in_progress"))
    yield _create("accepted", "for a day", backup_id=502, backup=stuck, sent=A_DAY)
    yield _create("accepted", "not looked at", {"unseen": "upstream_unavailable"}, backup_id=502)
    yield _create("accepted", "made elsewhere", {"unseen": MADE_ELSEWHERE}, backup_id=502)
    yield _create("succeeded", **done)
    yield _create("succeeded", "asked for again", {"replayed": True}, **done)
    yield _create("succeeded", "not listed now", {"is_gone": True}, **done)
    yield _create("succeeded", "deletion sent", {"deleted_by": OTHER}, **done)
    yield _create("succeeded", "deleted", {"is_gone": True, "deleted_by": OTHER}, **done)
    yield _create("succeeded", "not looked at", {"unseen": "upstream_unavailable"}, **done)
    yield _create("succeeded", "not looked at, deleted", {"unseen": "timeout", "deleted_by": OTHER}, **done)
    yield _create("unknown")
    yield _create("unknown", "for nearly half an hour", sent=JUST_UNDER)
    yield _create("unknown", "for half an hour", **old)
    yield _create("unknown", "one may be it", candidates=(502,))
    yield _create("unknown", "two may be it, for half an hour", candidates=(502, 503), **old)
    yield _create("unknown", "not looked at", {"unseen": "ledger_unavailable"})
    yield _create("unknown", "made elsewhere", {"unseen": MADE_ELSEWHERE})
    yield _create("failed", **REFUSED)
    yield _create("failed", "started", **done | {"error": "Backup 502 is completed but empty.", "said": "No space."})


def _delete(status: str, state: str = "", result: Given | None = None, /, **fields: Any) -> Told:
    known: Given = {"backup_id": 501, "backup": backup(501, description="nightly"), "id": OWN}
    known |= {"server_name": "web-server-01", "good_left": 2, "newest_left": backup(499, 72)}
    return Told(f"{status} {state}", Result(operation("delete_backup", status, **known | fields), **result or {}))


def _deletes() -> Iterator[Told]:
    needed = {"way_back_of": OTHER, "being_restored_by": THIRD}
    yield _delete("planned", budget=LEFT)
    yield _delete("planned", "the last proven one", good_left=0, newest_left=None)
    yield _delete("planned", "one left", good_left=1, all_left_expire_by=LATER, budget=SPENT)
    yield _delete("planned", "the way back", way_back_of=OTHER)
    yield _delete("planned", "being restored", being_restored_by=THIRD)
    yield _delete("planned", "the way back, being restored", server_name="", **needed)
    yield _delete("planned", "the user is asked", {"approver": "person"})
    yield _delete("planned", "an approver decides", {"approver": "approver"})
    yield _delete("planned", "made elsewhere", {"unseen": MADE_ELSEWHERE})
    yield _delete("planned", "under other rules", policy="")
    yield _delete("planned", "held up", {"obstacle": RateLimitedError("Too many requests.")})
    yield _delete("waiting", leave={"since": MOMENT, "lasts": timedelta(hours=72)}, **needed)
    yield _delete("waiting", "under other rules", leave={"since": MOMENT, "lasts": timedelta(hours=72)}, policy="")
    yield _delete("waiting", "no name, no description", server_name="", backup=backup(501, size_mb=None))
    yield _delete("waiting", "no backup", backup=None)
    yield _delete("approved", decision=DECIDED, leave={"since": MOMENT, "lasts": timedelta(hours=1)})
    yield _delete("declined", decision=DECIDED, **CHANGED)
    yield _delete("declined", "without advice", error="The user said no.")
    yield _delete("expired")
    yield _delete("refused", **CHANGED)
    yield _delete("sending")
    yield _delete("accepted", evidence="VPS.org said yes")
    yield _delete("accepted", "for nearly a day", sent=TODAY)
    yield _delete("accepted", "for a day", sent=A_DAY)
    yield _delete("accepted", "made elsewhere", {"unseen": MADE_ELSEWHERE})
    yield _delete("succeeded", evidence="absent from the complete list")
    yield _delete("succeeded", "after it was given up", evidence="absent from the complete list", lapsed=True)
    yield _delete("succeeded", "part of a prune", part_of=OTHER)
    yield _delete("unknown", **REFUSED)
    yield _delete("unknown", "for a day", sent=A_DAY)
    yield _delete("unknown", "not looked at", {"unseen": "upstream_unavailable"})
    yield _delete("failed", **REFUSED)
    yield _delete("failed", "without effect", lapsed=True, **CHANGED)


def _restore(status: str, state: str = "", result: Given | None = None, /, **fields: Any) -> Told:
    known: Given = {"arguments": {"server_id": 12345, "backup_id": 499, "safety_backup": True}, "id": OWN}
    known |= {"server_name": "web-server-01", "backup_id": 499, "backup": backup(499, 72)}
    return Told(f"{status} {state}", Result(operation("restore_server", status, **known | fields), **result or {}))


def _safety(status: str, **fields: Any) -> Operation:
    return operation("create_backup", status, **{"id": OTHER, "is_safety": True, "backup_id": 502} | fields)


def _restores() -> Iterator[Told]:
    back = {"way_back": backup(502, 1)}
    without = {"arguments": {"server_id": 12345, "backup_id": 499, "safety_backup": False}}
    sent = back | {"safety_operation": OTHER, "undo_backup_id": 502}
    seen = (StatusSeen(status="restoring", at=NOW), StatusSeen(status="active", at=NOW + timedelta(days=1)))
    being_made = {"safety": _safety("accepted", backup=backup(502, 0, status="in_progress"))}
    yield _restore("planned", budget=LEFT)
    yield _restore("planned", "no way back", budget=SPENT, **without)
    yield _restore("planned", "a recent backup", **back)
    yield _restore("planned", "a recent backup that expires", way_back=backup(502, 1, expires_at=LATER))
    yield _restore("planned", "the end of it unreadable", way_back=backup(502, 1, unreadable=("expires_at",)))
    yield _restore("planned", "takes one back", takes_back=THIRD, **back)
    yield _restore("planned", "a name that cannot be typed", server_name="x" * 80)
    yield _restore("planned", "a backup of the future", backup=backup(499, -1))
    yield _restore("planned", "no backup", backup=None)
    yield _restore("waiting", leave={"since": MOMENT, "lasts": timedelta(hours=72)})
    yield _restore("preparing", safety_operation=OTHER)
    yield _restore("preparing", "being made", being_made, safety_operation=OTHER)
    yield _restore("preparing", "not known", {"safety": _safety("unknown", backup_id=0)}, safety_operation=OTHER)
    yield _restore("expired", "safety backup made", {"safety": _safety("succeeded")}, safety_operation=OTHER)
    yield _restore("refused", "safety backup made", safety_operation=OTHER, undo_backup_id=502, **CHANGED)
    yield _restore("sending", **sent)
    yield _restore("accepted", **sent)
    yield _restore("accepted", "seen", statuses=seen, **sent)
    yield _restore("accepted", "no way back", **without)
    yield _restore("accepted", "way back lost", undo_lost=True, **sent)
    yield _restore("accepted", "way back in doubt", {"is_undoable": False}, **sent)
    yield _restore("accepted", "undo later", {"undo_from": NOW + timedelta(hours=1), "undo_counts": True}, **sent)
    yield _restore("accepted", "took one back", takes_back=THIRD, **sent)
    yield _restore("unknown", **sent)
    yield _restore("unknown", "for half an hour", sent=HALF_AN_HOUR, **sent)
    yield _restore("failed", **REFUSED, **sent)
    no_safety = {"safety_operation": OTHER, "error": "The safety backup failed, so nothing was restored."}
    yield _restore("failed", "no safety backup", {"safety": _safety("failed", backup_id=0)}, **no_safety)


def _items(*fates: str) -> tuple[PruneItem, ...]:
    """Items of these fates, newest first, the oldest of an unknown size."""
    rows = [
        PruneItem(
            backup=backup(600 - number, 24 * (number + 1), size_mb=None if number == len(fates) - 1 else 100.0),
            reason={"keep": "one of the last 1", "leave": "its status is not known"}.get(fate, ""),
            fate=cast(Any, fate),
            operation_id=f"op_{number:016d}" if fate == "delete" else "",
        )
        for number, fate in enumerate(fates)
    ]
    return tuple(rows)


def _prune(
    status: str,
    state: str = "",
    result: Given | None = None,
    /,
    became: Sequence[tuple[str, Given]] = (),
    **fields: Any,
) -> Told:
    rules: Given = {"keep_last": 1, "keep_daily": 2, "keep_weekly": 0, "keep_monthly": 0, "older_than_days": 7}
    known: Given = {"id": OWN, "server_name": "web-server-01", "arguments": {"server_id": 12345} | rules}
    known["items"] = _items("keep", "later", "leave", "delete", "delete", "delete")
    made = operation("prune_backups", status, **known | fields)
    due = [item for item in reversed(made.details.items) if item.operation_id]  # type: ignore[union-attr] # a prune's
    deletes = [
        operation(
            "delete_backup", then, **{"id": item.operation_id, "backup_id": item.backup.id, "part_of": OWN} | more
        )
        for item, (then, more) in zip(due, became, strict=False)
    ]
    return Told(f"{status} {state}", Result(made, deletes=tuple(deletes), **result or {}))


def _prunes() -> Iterator[Told]:
    gone: tuple[str, Given] = ("succeeded", {})
    yes: tuple[str, Given] = ("accepted", {})
    no = ("failed", REFUSED)
    unsure = ("unknown", {"evidence": "no answer came"})
    absent = ("refused", {"error_code": "not_found", "error": "There is no backup 597."})
    long_ago = ("unknown", {"sent": A_DAY})
    relisted = ("unknown", {"listed_again": MOMENT})
    yield _prune("planned", budget=SPENT)
    yield _prune("planned", "an approver decides", {"approver": "approver"}, budget=LEFT, all_left_expire_by=LATER)
    yield _prune("planned", "one", items=_items("delete", "keep"))
    yield _prune("planned", "one, its size unknown", items=_items("delete"))
    yield _prune("planned", "none of known size", items=tuple(each for _ in "ab" for each in _items("delete")))
    yield _prune("waiting", leave={"since": MOMENT, "lasts": timedelta(hours=72)}, budget=SPENT)
    yield _prune("preparing", became=(gone,))
    yield _prune("preparing", "under other rules", became=(gone,), policy="")
    yield _prune("preparing", "held up", {"obstacle": BusyError("Another call is at it.")}, became=(gone,))
    yield _prune("succeeded", became=(gone, gone, gone), budget=SPENT)
    yield _prune("succeeded", "nothing left for later", became=(gone,), items=_items("keep", "delete"))
    yield _prune("succeeded", "many", became=(gone,) * 20, items=_items(*["delete"] * 20))
    some = _items(*["delete"] * 60)
    yield _prune("planned", "many", items=some)
    yield _prune("preparing", "many", became=(gone,) * 30, items=some)
    yield _prune("succeeded", "all of many", became=(gone,) * 60, items=some)
    yield _prune("unknown", "one of many", became=(*(gone,) * 30, unsure), items=some)
    yield _prune("unknown", "the second of many", became=(absent, *(gone,) * 30, unsure), items=some)
    locked = ("failed", {"error": "VPS.org refused it.", "said": "Gelöscht wird nichts."})
    yield _prune("failed", "many", became=(locked,) * 60, items=some)
    yield _prune("accepted", "all for a day", became=(("accepted", {"sent": A_DAY}),) * 3)
    yield _prune("accepted", became=(gone, yes, yes))
    yield _prune("accepted", "for a day", became=(gone, ("accepted", {"sent": A_DAY})))
    yield _prune("unknown", became=(gone, unsure), error="No answer came.")
    yield _prune("unknown", "the last of them", became=(gone, yes, unsure), error="")
    yield _prune("unknown", "for a day", became=(long_ago, long_ago))
    yield _prune("unknown", "listed again", became=(gone, relisted, gone))
    yield _prune("failed", became=(gone, no, absent), error="VPS.org refused it.")
    yield _prune("failed", "without effect", became=(("failed", {"lapsed": True, **CHANGED}), gone, yes))
    yield _prune("succeeded", "after one was given up", became=(("succeeded", {"lapsed": True}), gone))
    yield _prune("failed", "never sent", became=(("refused", CHANGED),), error="It is not as it was.")
    yield _prune("expired", became=(gone,))
    yield _prune("refused", **CHANGED)


EVERY = {"create_backup": _creates, "delete_backup": _deletes, "restore_server": _restores, "prune_backups": _prunes}


def _asked(plan: Operation) -> list[str]:
    """What a person is asked about a plan."""
    question = question_of(plan)
    return [
        *question.text.splitlines(),
        f"{question.label} [{question.field}: {question.expected!r}]",
        question.more,
    ]


def _shown(plan: Operation) -> list[str]:
    """What an approver is shown of it."""
    shown = render(ACTIONS, plan)
    told = [f"{name}: {value}" for name, value in shown.facts.items()]
    told += [f"backup {item.backup.id}: {item.fate}" for item in shown.backups]
    told += [f"{name}: {text!r}" for name, text in shown.written_by_others.items()]
    return [shown.call, shown.summary, *told, f"{shown.label} [{shown.expected}]"]


def _answers(action: str) -> str:
    told = []
    for state, result in EVERY[action]():
        told += [f"## {state.strip()}\n", f"{operation_text(operation_answer(result, CONTEXT))}\n"]
        if result.operation.status is Status.PLANNED:
            told += ["A person is asked:\n", *(f"    {line}" for line in _asked(result.operation)), ""]
        elif result.operation.status is Status.WAITING:
            told += ["An approver is shown:\n", *(f"    {line}" for line in _shown(result.operation)), ""]
    return "\n".join(told)


@pytest.mark.parametrize("action", EVERY)
def test_every_state_is_told_in_the_words_that_were_reviewed(action: str) -> None:
    reviewed = (ANSWERS / f"{action}.txt").read_text(encoding="utf-8")
    assert _answers(action) == reviewed


if __name__ == "__main__":
    ANSWERS.mkdir(exist_ok=True)
    for name in EVERY:
        (ANSWERS / f"{name}.txt").write_text(_answers(name), encoding="utf-8")
