"""Putting a question to the user through the client, on both protocol eras.

From 2026-07-28 on the question rides in the result, and the answer in the same call made again; before that it is a
request to the client while the call waits.
"""

from collections.abc import Callable
from typing import NamedTuple

import anyio
from mcp.server import ServerRequestContext
from mcp.server.request_state import InvalidRequestState, RequestStateCodec
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequestParams,
    ElicitRequest,
    ElicitRequestedSchema,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
)
from pydantic import BaseModel, ValidationError

from mcp_backups.clock import Clock, Moment
from mcp_backups.errors import DeclinedError
from mcp_backups.operations import Context
from mcp_backups.operations.consent import ANSWER_TIME, Question, Reply

QUESTION_IN_RESULT_SINCE = "2026-07-28"

_KEY = "consent"
_TYPES: dict[type, str] = {bool: "boolean", str: "string", int: "integer"}

Seal = Callable[[], RequestStateCodec]
"""Gets, when a question is asked or answered, what keeps the client's part of it from being read or changed."""


class Patience(NamedTuple):
    """How a call waits for a person.

    Attributes:
        seconds: How long; an answer after that counts as none.
        progress_seconds: How often it tells the client meanwhile that it goes on: many give up on a silent one.
    """

    seconds: float = ANSWER_TIME.total_seconds()
    progress_seconds: float = 15.0


PATIENCE = Patience()


class Asked(BaseModel):
    """What the client keeps, sealed, between a question and its answer.

    Attributes:
        operation_id: What the question is about.
        at: When it was put.
    """

    operation_id: str
    at: Moment


class QuestionPendingError(Exception):
    """The call ends with a question, and goes on when the client makes it again with the answer.

    Args:
        result: The question, as the protocol carries it.
    """

    def __init__(self, result: InputRequiredResult) -> None:
        super().__init__("a question is to be answered first")
        self.result = result


class ClientUser:
    """The user behind the client of one call.

    Args:
        context: The call's context.
        params: The call, which may bring the answer to a question.
        patience: How to wait for a person.
        seal: For what the client holds between a question and its answer.

    Raises:
        DeclinedError: The call brings an answer to a question that was not asked here.
    """

    def __init__(
        self,
        context: ServerRequestContext[Context],
        params: CallToolRequestParams,
        patience: Patience,
        seal: Seal,
    ) -> None:
        self._context = context
        self._clock: Clock = context.lifespan_context.clock
        self._patience = patience
        self._seal = seal
        self._asked = _unsealed(seal, params.request_state) if params.request_state is not None else None
        self._response = (params.input_responses or {}).get(_KEY)

    @property
    def can_be_asked(self) -> bool:
        """Whether the client declared, with this call, that it can show a form, or brings the answer to one."""
        if self._asked and self._response is not None:
            return True
        capabilities = self._context.session.client_capabilities
        elicitation = capabilities.elicitation if capabilities else None
        if elicitation is None or (elicitation.form is None and elicitation.url is not None):
            return False  # not declared, or only addresses to open; an empty object means forms
        return self._rides_in_result or self._context.session.can_send_request

    @property
    def answers_about(self) -> str:
        return self._asked.operation_id if self._asked else ""

    async def ask(self, operation_id: str, question: Question) -> Reply:
        """Put a question to the user.

        Raises:
            QuestionPendingError: The client must first bring the answer in another call.
        """
        if not self._rides_in_result:
            return await self._ask_live(question)
        if self._asked is None or self._asked.operation_id != operation_id or self._response is None:
            asked = Asked(operation_id=operation_id, at=self._clock.moment())
            raise QuestionPendingError(
                InputRequiredResult(
                    input_requests={_KEY: ElicitRequest(params=_form(question))},
                    request_state=self._seal().seal(asked.model_dump_json().encode()),
                )
            )
        if self._asked.at.outlived(ANSWER_TIME, self._clock.moment()):
            return Reply("none")
        return _reply(self._response)

    @property
    def _rides_in_result(self) -> bool:
        return self._context.protocol_version >= QUESTION_IN_RESULT_SINCE

    async def _ask_live(self, question: Question) -> Reply:
        form, reply = _form(question), Reply("none")
        with anyio.move_on_after(self._patience.seconds):
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(self._tell_that_it_waits)
                try:
                    response = await self._context.session.elicit_form(
                        form.message, form.requested_schema, related_request_id=self._context.request_id
                    )
                    reply = _reply(response)
                except (MCPError, ValidationError):
                    reply = Reply("unreadable")
                waiting.cancel_scope.cancel()
        return reply

    async def _tell_that_it_waits(self) -> None:
        waited = 0.0
        while True:
            await self._context.session.report_progress(waited, self._patience.seconds, "Waiting for the user's answer")
            await anyio.sleep(self._patience.progress_seconds)
            waited += self._patience.progress_seconds


def _unsealed(seal: Seal, state: str) -> Asked:
    try:
        return Asked.model_validate_json(seal().unseal(state))
    except (InvalidRequestState, ValidationError):
        raise DeclinedError("The answer is to no question that was asked here; the user was not asked.") from None


def _form(question: Question) -> ElicitRequestFormParams:
    field = {"type": _TYPES[type(question.expected)], "title": question.label}
    if question.more:
        field["description"] = question.more
    schema: ElicitRequestedSchema = {
        "type": "object",
        "properties": {question.field: field},
        "required": [question.field],
    }
    return ElicitRequestFormParams(message=question.text, requested_schema=schema)


def _reply(response: object) -> Reply:
    """What the client brought back."""
    if not isinstance(response, ElicitResult):
        return Reply("unreadable")
    return Reply(response.action, response.content)
