"""Who consents to a destructive operation: one pure decision."""

from mcp_backups.errors import DeclinedError
from mcp_backups.operations.operation import ApprovedBy
from mcp_backups.settings import Approval


def consent(approval: Approval, *, confirm: bool, shown: bool) -> ApprovedBy:
    """Who has approved a call.

    Args:
        approval: The operator's setting.
        confirm: The caller's `confirm`.
        shown: Whether the caller named the plan that it was shown.

    Returns:
        Empty when nobody has yet: the caller is to be shown the plan.

    Raises:
        DeclinedError: Only a person may consent, and none can be asked.
    """
    if not confirm:
        return ""
    if approval == "human":
        raise DeclinedError("Here a person must consent, and this client offers no way to ask one.")
    if shown:
        return "plan"
    return "flag" if approval == "flag" else ""
