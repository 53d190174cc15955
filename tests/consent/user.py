"""The user behind a client, who does as the test says."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from mcp_types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult

Action = Literal["accept", "decline", "cancel"]


@dataclass
class User:
    """What a client's user does when asked.

    Attributes:
        action: What they press.
        content: What they fill in.
        meanwhile: What happens between the question and the answer.
        questions: What they were asked, in order.
    """

    action: Action = "accept"
    content: dict[str, Any] | None = None
    meanwhile: Callable[[], None] = lambda: None
    questions: list[ElicitRequestFormParams] = field(default_factory=list)

    async def __call__(self, context: object, params: ElicitRequestParams) -> ElicitResult:
        """Answer a question: an `elicitation_callback`."""
        del context
        assert isinstance(params, ElicitRequestFormParams)
        self.questions.append(params)
        self.meanwhile()
        return ElicitResult(action=self.action, content=self.content)

    @property
    def asked(self) -> list[str]:
        return [question.message for question in self.questions]


def agreeing(**content: Any) -> User:
    """Somebody who says yes, to a delete if nothing else is given."""
    return User(content=content or {"delete": True})
