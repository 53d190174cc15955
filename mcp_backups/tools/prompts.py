"""Ways through the tools that people start: before a change, back in time, every morning, and cleaning up."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from string import whitespace
from typing import NamedTuple

from mcp_types import (
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    PaginatedRequestParams,
    Prompt,
    PromptArgument,
    PromptMessage,
    TextContent,
)

from mcp_backups.errors import InvalidArgumentError
from mcp_backups.models import MAX_ID
from mcp_backups.operations import Context
from mcp_backups.text import safe_text, stamp, time_told
from mcp_backups.tools.boundary import RequestContext, bounded
from mcp_backups.tools.observation import one_server

_AROUND = f"\"'{whitespace}"
_WHOLE = re.compile(r"[0-9]{1,16}")
_CHANGE_CHARS = 80
_MOST_KEPT = 1000
_MOST_HOURS = 8760

PromptArguments = Mapping[str, str]

_BEFORE_CHANGE = """\
Back up VPS.org server {server_id} before a change{change}.

1. Call check_backups(server_id={server_id}) to see what there is already.
2. Call create_backup(server_id={server_id}, description={description}, wait_seconds=45).
3. While its status is accepted or sending, call get_operation with its operation_id and wait_seconds=45: accepted \
means started, not finished. After outcome_unknown or a time-out, look with get_operation; a second create_backup \
could make a second backup.
4. Verify: list_backups(server_id={server_id}, limit=5) shows the new backup as completed, with a size above 0.
5. Report its id, time (UTC) and size, and that the change may begin; if it failed or could not be verified, that it \
may not. The way back is restore_server with that backup_id.
"""

_RESTORE = """\
Restore VPS.org server {server_id} {goal}. What was written to it since is lost, so the user decides.

1. Call check_backups(server_id={server_id}) for its state and the restore point recommended now.
2. {choose}
3. Call restore_server(server_id={server_id}, backup_id=ID) with that id. It changes nothing yet and answers a plan: \
show the user which backup, how old, what would be lost, and that a safety backup is made first.
4. Once the user agrees, call what next_step of the plan says: it makes the safety backup, waits for it and restores. \
While the status is preparing, repeat that same call, for up to an hour. After outcome_unknown do not: call \
get_operation(operation_id=ID) in a few minutes.
5. Verify: accepted means started, not finished. server_status is evidence, not proof: ask the user to look at the \
server itself.
6. Report what was restored, and the call in undo, which takes it back, with its undo_terms.
"""

_MORNING = """\
Check the backups of all VPS.org servers.

1. Call check_backups(max_age_hours={max_age_hours}).
2. Report first whether every server has a good backup younger than {max_age_hours} h. If complete is false, say what \
is missing: then nothing is proven for what was not read.
3. For each server that needs attention: what is wrong, since when (UTC and age), and which backup it would be \
restored to. check_backups with its server_id shows one that is not shown in full.
4. Propose what to do, and do nothing yet: create_backup where the newest good backup is too old or failed; for a \
backup that is stuck, a look at VPS.org. Start each only when the user agrees, and follow it with get_operation.
5. Verify: call check_backups(max_age_hours={max_age_hours}) again and report what is still open.
"""

_CLEAN_UP = """\
Clean up the manual backups of VPS.org server {server_id}. What is deleted is gone for good, so the user decides.

1. Call check_backups(server_id={server_id}): its newest good backup has to be known before anything goes.
2. {rules}
3. Call prune_backups(server_id={server_id}, {keep}). It changes nothing yet and answers a plan: what is \
to_delete, kept and by which rule, left for later and from when. Show the user the whole plan.
4. Once the user agrees, repeat the call with confirm=true and the plan's operation_id. It goes on after a backup that \
cannot be deleted, and stops where an outcome is unknown; then look with get_operation before anything else.
5. Verify: list_backups(server_id={server_id}) shows what is left, and check_backups(server_id={server_id}) that the \
server still has a good backup. Report both.
"""


class Way(NamedTuple):
    """One prompt.

    Attributes:
        arguments: Name to description; those in `required` have to be given.
        compose: Makes its text; raises InvalidArgumentError.
    """

    name: str
    title: str
    description: str
    arguments: Mapping[str, str]
    compose: Callable[[PromptArguments], str]
    required: frozenset[str] = frozenset({"server"})


def _before_change(given: PromptArguments) -> str:
    change = safe_text(given.get("change", ""))[:_CHANGE_CHARS]
    description = f"Before {change}" if change else "Before a change"
    return _BEFORE_CHANGE.format(
        server_id=_whole(given, "server_id", 1, MAX_ID),
        change=f": {change!r}" if change else "",
        description=repr(description),
    )


def _restore(given: PromptArguments) -> str:
    server_id = _whole(given, "server_id", 1, MAX_ID)
    point = given.get("point", "")
    if _WHOLE.fullmatch(point):
        backup_id = _whole(given, "point", 1, MAX_ID)
        goal = f"to its backup {backup_id}"
        choose = (
            f"Call list_backups(server_id={server_id}): backup {backup_id} has to be there and completed. If it is "
            "not, tell the user which are, and stop."
        )
    elif point:
        moment = stamp(_moment(point))
        goal = f"to its state at {moment}"
        choose = (
            f"Call list_backups(server_id={server_id}, status='completed', created_before={moment!r}): the first with "
            f"a size above 0 is the one. Where list_backups(server_id={server_id}, status='completed', "
            f"created_after={moment!r}, order='oldest', limit=1) shows one made at that very time, ask the user which "
            "of the two is meant. If there is neither, tell the user, and stop."
        )
    else:
        goal = "to its newest good backup"
        choose = "The restore point is restore_to of that answer; its reason says why newer ones were passed over."
    return _RESTORE.format(server_id=server_id, goal=goal, choose=choose)


def _morning(given: PromptArguments) -> str:
    return _MORNING.format(max_age_hours=_whole(given, "max_age_hours", 1, _MOST_HOURS, default=24))


def _clean_up(given: PromptArguments) -> str:
    server_id = _whole(given, "server_id", 1, MAX_ID)
    counts = {name: _whole(given, name, 0, _MOST_KEPT, default=0) for name in _KEEP_ARGUMENTS}
    keep = ", ".join(f"{name}={count}" for name, count in counts.items() if count)
    rules = f"The rules are {keep}: a backup that any of them keeps is kept." if keep else _ASK_FOR_RULES
    return _CLEAN_UP.format(server_id=server_id, rules=rules, keep=keep or "what the user chose")


_ASK_FOR_RULES = (
    "Ask the user what to keep: keep_last, keep_daily, keep_weekly and keep_monthly, or older_than_days, at least one "
    "of them above 0."
)
_KEEP_ARGUMENTS = {
    "keep_last": f"The newest backups to keep, 0 to {_MOST_KEPT}.",
    "keep_daily": f"Days to keep the newest backup of, 0 to {_MOST_KEPT}.",
    "keep_weekly": f"ISO weeks to keep the newest backup of, 0 to {_MOST_KEPT}.",
    "keep_monthly": f"Months to keep the newest backup of, 0 to {_MOST_KEPT}.",
    "older_than_days": "Age in days that what is deleted has at least, 0 to 1000.",
}
_SERVER = {"server": "Id of the server, or its name, or a beginning that only one name has."}

WAYS = {
    way.name: way
    for way in (
        Way(
            name="back_up_before_change",
            title="Back up before a change",
            description="Make a backup of one server, and see it finished before the change begins.",
            arguments=_SERVER | {"change": "What is about to be changed, in a few words; may be left out."},
            compose=_before_change,
        ),
        Way(
            name="restore_to_time",
            title="Restore a server to a time",
            description="Set one server back to its state at a time, or to one of its backups, with a way to undo it.",
            arguments=_SERVER
            | {
                "point": "A time as ISO 8601, such as 2026-11-22T14:00Z, or the id of a backup; the newest good one if "
                "left out.",
            },
            compose=_restore,
        ),
        Way(
            name="morning_check",
            title="Morning check of all servers",
            description="Find the servers without a fresh good backup, and what to do about each.",
            arguments={"max_age_hours": f"Hours within which a backup counts as fresh, 1 to {_MOST_HOURS}; 24."},
            compose=_morning,
            required=frozenset(),
        ),
        Way(
            name="clean_up_backups",
            title="Clean up old backups",
            description="Delete the manual backups of one server that no keep rule keeps, after a look at the plan.",
            arguments=_SERVER | _KEEP_ARGUMENTS,
            compose=_clean_up,
        ),
    )
}


async def list_prompts(_: RequestContext, __: PaginatedRequestParams | None) -> ListPromptsResult:
    return ListPromptsResult(prompts=[_definition(way) for way in WAYS.values()])


@bounded
async def get_prompt(request: RequestContext, params: GetPromptRequestParams) -> GetPromptResult:
    way = way_named(params.name)
    # Some clients take words by position, and hand on the quotation marks of an argument that is to be left out.
    given = {name: value.strip(_AROUND) for name, value in (params.arguments or {}).items()}
    if given.keys() - way.arguments.keys():
        raise InvalidArgumentError(f"{way.name} takes {', '.join(way.arguments)} and no other argument.")
    if missing := [name for name in way.required if not given.get(name)]:
        raise InvalidArgumentError(f"{way.name} needs {', '.join(missing)}: {way.arguments[missing[0]]}")
    if "server" in way.required:
        given["server_id"] = await _server_id(request.lifespan_context, given["server"])
    message = PromptMessage(role="user", content=TextContent(text=way.compose(given)))
    return GetPromptResult(description=way.description, messages=[message])


def way_named(name: str) -> Way:
    """The prompt of that name.

    Raises:
        InvalidArgumentError: There is none.
    """
    if name not in WAYS:
        raise InvalidArgumentError("There is no prompt of that name.", f"Get one of {', '.join(WAYS)}.")
    return WAYS[name]


def _definition(way: Way) -> Prompt:
    arguments = [
        PromptArgument(name=name, description=description, required=name in way.required)
        for name, description in way.arguments.items()
    ]
    return Prompt(name=way.name, title=way.title, description=way.description, arguments=arguments)


def _whole(given: PromptArguments, name: str, least: int, most: int, default: int = -1) -> int:
    raw = given.get(name, "").strip()
    if not raw and default >= 0:
        return default
    value = int(raw) if _WHOLE.fullmatch(raw) else -1
    if not least <= value <= most:
        raise InvalidArgumentError(f"{name} must be an integer from {least} to {most}.")
    return value


def _moment(raw: str) -> datetime:
    if moment := time_told(raw):
        return moment
    raise InvalidArgumentError("point must be a time as ISO 8601, such as 2026-11-22T14:00Z, or the id of a backup.")


async def _server_id(context: Context, given: str) -> str:
    """The id of the server that is meant, by its id or by a name that it bears."""
    if _WHOLE.fullmatch(given):
        return str(_whole({"server": given}, "server", 1, MAX_ID))
    return str(await one_server(context, 0, given))
