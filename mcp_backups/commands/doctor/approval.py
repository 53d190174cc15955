"""Who consents to what destroys something, and whether they hear of it."""

from mcp_backups.commands.doctor.finding import Finding
from mcp_backups.errors import ConfigError
from mcp_backups.notify import check_addresses
from mcp_backups.settings import Approval, Settings
from mcp_backups.text import plural

_CONSENTS: dict[Approval, str] = {
    "auto": "The client's user consents; where the client cannot ask, the agent confirms the plan that it was shown.",
    "plan": "The agent confirms the plan that it was shown.",
    "human": "The client's user consents; where the client cannot ask, an approver decides outside the chat.",
    "operator": "An approver decides outside the chat; `mcp-backups approvals` lists what waits.",
    "flag": "The agent consents, even without a plan.",
}
_UNATTENDED = (
    "Where the agent is unattended, MCP_BACKUPS_APPROVAL=operator is what has a person decide: its client answers"
    " questions by itself, or cannot ask any."
)


def examine_approval(settings: Settings) -> Finding:
    """Who consents under the operator's setting; for unattended agents it should be an approver."""
    what = f"{settings.approval}: {_CONSENTS[settings.approval]}"
    details = () if settings.approval == "operator" else (_UNATTENDED,)
    if settings.notify:
        try:
            check_addresses(settings.notify)
        except ConfigError as error:
            return Finding("approval", "failure", error.what, "Correct it: nobody would be told.", details)
        details = (*details, f"MCP_BACKUPS_NOTIFY: {plural(len(settings.notify), 'place')} told of what waits.")
    elif settings.approval in {"human", "operator"}:
        details = (*details, "Nobody is told of what waits: MCP_BACKUPS_NOTIFY names no address.")
    return Finding("approval", "ok", what, details=details)
