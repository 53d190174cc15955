"""Whether what a call said was so when it said it, and stayed so where it had to."""

import re
from collections.abc import Iterator

from mcp_backups.sandbox import Received
from tests.histories.world import Said

_UNDO = re.compile(r"backup_id=(\d+)")


def false_claims(said: Said, requests: list[Received]) -> Iterator[str]:
    """What a call said that was not so, one sentence each.

    Args:
        said: The call, its answer, and what was so then.
        requests: All that VPS.org got in the end; those that took effect late count as that.
    """
    told = f"{said.tool} {said.arguments} said: {said.answer.text[:300]}"
    if said.alone:
        yield from (f"FALSE: {problem}: {told}" for problem in _of_effect(said, requests))
    yield from (f"FALSE: {problem}: {told}" for problem in _of_what_is_there(said))
    checks = {"check_backups": _of_check, "list_backups": _of_list}
    if said.alone and not said.answer.is_error and said.tool in checks:
        yield from (f"FALSE: {problem}: {told}" for problem in checks[said.tool](said))


def _of_effect(said: Said, requests: list[Received]) -> Iterator[str]:
    """What it said of its own effect, now or later, when no other call was under way."""
    applied = [f"{each.method} {each.path}" for each in requests[slice(*said.requests)] if each.applied]
    made = applied.count("POST /backups/")
    is_restore = said.tool == "restore_server"  # the safety backup that it makes is named beside what it changed
    others = [each for each in applied if not each.startswith("GET ") and not (is_restore and each == "POST /backups/")]
    if said.claim == "nothing" and others:
        yield f"{others} took effect, not nothing"
    if is_restore and made and "safety backup" not in said.answer.text.lower():
        yield "a safety backup was made, and nothing said so"
    if said.tool == "create_backup" and said.claim in {"started", "done"} and made != 1:
        yield f"{made} were made, not one"


def _of_what_is_there(said: Said) -> Iterator[str]:
    """What it said of backups: that one is deleted or finished, that so many are left, that one is a way back."""
    data, truth, text = said.answer.data, said.truth, said.answer.text
    backup_id = int((data.get("backup") or {}).get("id", said.arguments.get("backup_id", 0)))
    action, status = data.get("action", said.tool), data.get("status", "")
    ended = {"delete_backup": _of_deleted, "create_backup": _of_made, "prune_backups": _of_pruned}
    if status == "succeeded" and action in ended:
        yield from ended[action](said, backup_id)
    if not said.alone or truth.lagged:
        return
    if action == "delete_backup" and "still listed" in text and backup_id not in truth.there:
        yield "it is not there"
    left = data.get("facts", {}).get("proven_backups_left", 0)
    counted = truth.good.keys() - {backup_id} - truth.going
    is_new = said.tool != "get_operation"  # a plan looked at later tells what was so when it was made
    if (
        is_new
        and status == "needs_confirmation"
        and left > sum(truth.good[each] == data["server"]["id"] for each in counted)
    ):
        yield f"of {sorted(counted)} so many cannot be left"
    back = _UNDO.search(data.get("undo") or "")
    if back and not truth.spoiled and (int(back[1]) not in truth.there or int(back[1]) in truth.going):
        yield f"{back[1]} is going or gone"


def _of_deleted(said: Said, backup_id: int) -> Iterator[str]:
    if backup_id in said.truth.there:
        yield "it is there"


def _of_made(said: Said, backup_id: int) -> Iterator[str]:
    truth, was_before = said.truth, said.answer.replayed or said.tool == "get_operation"
    if truth.lagged or truth.spoiled:
        return
    if backup_id in truth.there and backup_id not in truth.good:
        yield "it is not finished"
    text = said.answer.text
    is_told = (
        "no longer there" in text
        or "not in the complete list now" in text
        or ("was finished." in text and "this is what was known before" in text)
    )
    if backup_id not in truth.there and not (was_before and is_told):
        yield "it is not there"


def _of_pruned(said: Said, _: int) -> Iterator[str]:
    deleted = {each["id"] for each in said.answer.data["to_delete"] if each.get("outcome") == "deleted"}
    yield from (f"{number} is there" for number in deleted & said.truth.there.keys())


def _of_check(said: Said) -> Iterator[str]:
    data, truth = said.answer.data, said.truth
    for row in (*data["servers"], *data.get("others", [])):
        number = row.get("restore_to")
        if number is None:
            continue
        if number in truth.going | truth.gone:
            yield f"{number} of server {row['server_id']} was deleted here, or is just going"
        elif not truth.lagged and truth.good.get(number) != row["server_id"]:
            yield f"{number} is no good backup of server {row['server_id']}"
    in_all = data["totals"]["backups"] + data["totals"].get("orphaned_backups", 0)
    if data["complete"] and not truth.lagged and "server_id" not in said.arguments and in_all != len(truth.there):
        yield f"there are {len(truth.there)}"


def _of_list(said: Said) -> Iterator[str]:
    data, truth = said.answer.data, said.truth
    shown = {row["id"] for row in data["backups"]}
    if data["complete"] and not truth.lagged:
        wanted = 3 if "server_name" in said.arguments else said.arguments.get("server_id", 0)
        there = {number for number, server in truth.there.items() if wanted in (0, server)}
        is_cut = bool(data.get("next_cursor"))
        if data["total"] != len(there) or not (shown < there if is_cut else shown == there):
            yield f"there are {sorted(there)}"
    for row in data["backups"]:
        if row["id"] in truth.going and not {"being_deleted", "doubtful"} & set(row.get("flags", ())):
            yield f"{row['id']} is just going, and bears no flag"
