"""What can go wrong, as classes: one per possible reaction.

    BackupsError                      everything a caller is told
    ├── InvalidArgumentError          mend the arguments
    ├── ConfigError                   the operator mends a setting
    ├── ApiError                      VPS.org did not do it, or did not say so
    │   ├── AuthFailedError           the token is missing or rejected
    │   ├── ForbiddenError            VPS.org does not allow this
    │   ├── NotFoundError             no such server or backup
    │   ├── ConflictError             something else may be under way
    │   ├── RejectedError             VPS.org refused the request, perhaps as invalid
    │   ├── RateLimitedError          wait, then try again
    │   ├── UnavailableError          VPS.org could not be reached or failed
    │   ├── UpstreamTimeoutError      VPS.org did not answer in time
    │   ├── ProtocolError             the answer could not be understood
    │   └── ResponseTooLargeError     the answer was larger than is read
    ├── OutcomeUnknownError           sent, no certain answer: look, do not repeat
    ├── ConfirmationInvalidError      the operation id does not fit this call
    ├── ConfirmationExpiredError      make a new plan
    ├── DeclinedError                 a person said no, or none could be asked
    ├── TargetChangedError            what was shown is no longer so: plan again
    ├── PolicyDeniedError             a rule of the operator's forbids it
    │   ├── BudgetExhaustedError      too many within the hour or the day
    │   └── ReadOnlyError             nothing may be changed here
    ├── FrozenError                   nothing is sent until the operator lifts that
    ├── BusyError                     another call is at it: wait
    ├── LedgerUnavailableError        nothing can be recorded, so nothing is sent
    │   ├── UnconfirmedError          whether it was recorded is not known, so nothing is sent
    │   └── LedgerLostError           part of what was recorded is missing: the operator decides
    └── InternalError                 a fault of this program

Every message is composed here, in the constructor, and has this form:
`code: what happened. What did (not) change. What to do next.`
"""

import json
from enum import StrEnum
from typing import ClassVar, Literal, Self

Changed = Literal["nothing", "started", "done", "unknown"]

CHANGED_SENTENCE: dict[Changed, str] = {
    "nothing": "Nothing was changed.",
    "started": "The change was started.",
    "done": "The change was made.",
    "unknown": "It is not known whether anything was changed.",
}


class Failure(StrEnum):
    """Whether VPS.org may have acted on a request that failed."""

    NOT_SENT = "not_sent"
    """The request never arrived: it may be sent again."""
    REFUSED = "refused"
    """VPS.org said no: nothing was done."""
    AMBIGUOUS = "ambiguous"
    """It may have arrived and taken effect: only looking tells."""


class BackupsError(Exception):
    """An anticipated failure, told in our own words.

    Args:
        what: One or more sentences on what happened; ids and numbers, never upstream text.
        next_step: What the caller can do about it; the class's own advice when empty.
        changed: What the call did to the account.
        said: VPS.org's own words about it, cleaned and short; they stand at the end, quoted, and nowhere else.
        fleeting: What of the next step is true only now, and is not to be told again later.
    """

    code: ClassVar[str] = "internal"
    advice: ClassVar[str] = "Report this to the operator of mcp-backups."

    def __init__(
        self, what: str, next_step: str = "", *, changed: Changed = "nothing", said: str = "", fleeting: str = ""
    ) -> None:
        self.what = what
        self.fleeting = fleeting
        self.next_step = next_step or self.advice
        self.changed: Changed = changed
        self.said = said
        super().__init__(self._composed(CHANGED_SENTENCE[changed]))

    def _composed(self, effect: str) -> str:
        # As JSON: a quotation mark within cannot end the quotation, nor a line break the line.
        quoted = f" VPS.org said: {json.dumps(self.said, ensure_ascii=False)}" if self.said else ""
        return f"{self.code}: {self.what} {effect} {self.next_step}{quoted}"

    def with_new_plan(self, tool: str) -> Self:
        """This error, which ended a plan: the same call again would send nothing, and be told of it once more."""
        if "without operation_id" not in self.next_step:
            self.next_step += f" Another try needs a new plan: call {tool} without operation_id."
            self.args = (self._composed(CHANGED_SENTENCE[self.changed]),)
        return self

    def beside(self, made: str) -> Self:
        """This error, which tells of a side product that is there whatever failed; as it is where there is none."""
        if made:
            effect = "The server was not changed." if self.changed == "nothing" else CHANGED_SENTENCE[self.changed]
            self.args = (self._composed(f"{effect} Made: {made}."),)
        return self


class InvalidArgumentError(BackupsError):
    code = "invalid_argument"
    advice = "Correct the arguments and call again."


class ConfigError(BackupsError):
    code = "config_error"
    advice = "The operator of mcp-backups must correct the setting."


def extra_missing(what: str, extra: str) -> ConfigError:
    """That something needs an extra which is not installed."""
    return ConfigError(f"{what} needs the extra `{extra}`: pip install '.[{extra}]' in the folder of mcp-backups.")


class ApiError(BackupsError):
    """VPS.org did not do what was asked, or did not say so.

    Args:
        failure: Whether the request may have taken effect.
        retry_after: Seconds VPS.org asked to wait, 0 when it named none.
        answered_yes: The status of the answer said yes, and its body did not: it is not known which holds.
    """

    def __init__(
        self,
        what: str,
        next_step: str = "",
        *,
        changed: Changed = "nothing",
        said: str = "",
        failure: Failure = Failure.REFUSED,
        retry_after: float = 0,
        answered_yes: bool = False,
    ) -> None:
        super().__init__(what, next_step, changed=changed, said=said)
        self.failure = failure
        self.retry_after = retry_after
        self.answered_yes = answered_yes


class AuthFailedError(ApiError):
    code = "auth_failed"
    advice = "The operator must set a valid token in VPS_API_TOKEN or VPS_API_TOKEN_FILE; do not try again before."


class ForbiddenError(ApiError):
    code = "forbidden"
    advice = "Tell the user; do not repeat it unless something changed at VPS.org."


class NotFoundError(ApiError):
    code = "not_found"
    advice = "Call list_backups to see what exists."


class ConflictError(ApiError):
    code = "conflict"
    advice = "Wait until what is under way is finished, then try once more; list_backups shows it."


class RejectedError(ApiError):
    code = "invalid_argument"
    advice = "Tell the user; do not repeat it unless something changed at VPS.org."


class RateLimitedError(ApiError):
    code = "rate_limited"
    advice = "Wait a minute, then try once more; if it is refused again, tell the user."


class UnavailableError(ApiError):
    code = "upstream_unavailable"
    advice = "Try again in a few minutes, at most three times; then tell the user."


class UpstreamTimeoutError(ApiError):
    code = "upstream_timeout"
    advice = "Try again in a few minutes, at most three times; then tell the user."


class ProtocolError(ApiError):
    code = "upstream_protocol"
    advice = "Ask the operator to check VPS_API_URL, and whether VPS.org is under maintenance."


class ResponseTooLargeError(ApiError):
    code = "response_too_large"
    advice = "Ask for one server with server_id, where the tool takes one; else tell the user."


class OutcomeUnknownError(BackupsError):
    code = "outcome_unknown"

    def __init__(self, what: str, next_step: str, *, said: str = "") -> None:
        super().__init__(what, next_step, changed="unknown", said=said)


class ConfirmationInvalidError(BackupsError):
    code = "confirmation_invalid"
    advice = "Call again without operation_id to get a plan, and confirm that one."


class ConfirmationExpiredError(BackupsError):
    code = "confirmation_expired"
    advice = "Call again without operation_id to get a new plan, and confirm that one."


class DeclinedError(BackupsError):
    code = "declined"
    advice = "Do not try again unless the user asks for it."


class TargetChangedError(BackupsError):
    code = "target_changed"
    advice = "Call again without operation_id to see what is there now."


class PolicyDeniedError(BackupsError):
    code = "policy_denied"
    advice = "Tell the user; only the operator of mcp-backups decides on its rules."


class BudgetExhaustedError(PolicyDeniedError):
    code = "budget_exhausted"
    advice = "Wait until then; tell the user."


class ReadOnlyError(PolicyDeniedError):
    code = "read_only"


class FrozenError(BackupsError):
    """Unlike a refusal by a rule it ends no plan: what was approved may go on afterwards."""

    code = "policy_denied"
    advice = "Tell the user, and do not try again before they say that it is lifted."


class BusyError(BackupsError):
    code = "busy"
    advice = "Wait a few seconds, then call again with the same arguments, at most three times; then tell the user."


class LedgerUnavailableError(BackupsError):
    code = "ledger_unavailable"
    advice = "Reading still works. The operator must mend the ledger; `mcp-backups doctor` says how to go on."


class UnconfirmedError(LedgerUnavailableError):
    advice = "Reading still works. Wait a minute, then call again with the same arguments, once; then tell the user."


class LedgerLostError(LedgerUnavailableError):
    advice = (
        "The operator of mcp-backups must look into it; `mcp-backups doctor` says how to go on. Reading still works."
    )


class InternalError(BackupsError):
    code = "internal"
    advice = "Try again once; if it happens again, tell the operator, whose log has the details."
