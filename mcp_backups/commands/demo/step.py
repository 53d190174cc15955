"""One step of the demo: a call, what it answered, and what it had to answer."""

from dataclasses import dataclass, field
from typing import Any

AnswerRow = dict[str, Any]


class DemoError(Exception):
    """Something did not come out as told."""


@dataclass
class Step:
    """One call of a tool.

    Attributes:
        title: What the agent is about to do.
        moral: What its answer shows, if it is the expected one.
        expected: The answer's fields that decide, by name; a dot leads into a field that holds fields.
        shown: The answer's fields that people are shown, besides its status and its sentence.
        pictured: Whether it stands in the picture too, which is as long as one screen.
        text: The answer as a model without structured answers reads it.
        structured: The answer as data; empty for an error.
        progress: The notifications while it ran: seconds waited, seconds at most, the server's words.
    """

    title: str
    tool: str
    arguments: dict[str, Any]
    expected: dict[str, Any]
    moral: str
    shown: tuple[str, ...] = ()
    pictured: bool = False
    is_error: bool = False
    text: str = ""
    structured: dict[str, Any] = field(default_factory=dict)
    progress: list[tuple[float, float, str]] = field(default_factory=list)

    def __getitem__(self, name: str) -> Any:
        """A field of the answer; None where it has no such field."""
        if name == "code":
            return self.text.partition(":")[0] if self.is_error else None
        value: Any = self.structured
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    @property
    def rows(self) -> list[AnswerRow]:
        """The backups of a list, newest first, each with what it left out because most rows share it."""
        return [
            self.structured.get("defaults", {}) | {name: value for name, value in row.items() if value is not None}
            for row in self.structured["backups"]
        ]

    @property
    def unmet(self) -> str:
        """What is not as expected; empty when all is."""
        answer = self.text.partition("\n")[0]
        if self.is_error and "code" not in self.expected:
            return f"{self.tool} failed: {answer}"
        if not self.is_error and "code" in self.expected:
            return f"{self.tool} should have been refused ({self.expected['code']}), but answered: {answer}"
        for name, wanted in self.expected.items():
            if self[name] != wanted:
                return f"{self.tool} should have answered {name} {wanted!r}, not {self[name]!r}."
        return ""

    def as_data(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "tool": self.tool,
            "arguments": self.arguments,
            "expected": self.expected,
            "ok": not self.unmet,
            "is_error": self.is_error,
            "text": self.text,
            "structured": self.structured,
            "progress": self.progress,
        }
