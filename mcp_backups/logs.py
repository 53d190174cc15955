"""Logging to standard error: one line a record, nothing in it that a terminal obeys, and secrets masked."""

import json
import logging
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request over HTTP that is being answered; empty where there is none."""

_MOST_CHARS = 8_000
"""Of one record; of a longer one the middle is left out, since a traceback says the most at its end."""

_OF_STRANGERS = {"uvicorn.error", "mcp_backups.web.gate"}
_SELDOM_SECONDS = 60.0


class LineFormatter(logging.Formatter):
    """Makes each record one line, tracebacks included, whatever names, headers and ids stand in it.

    So no record forges another, and none moves a terminal's cursor: line ends become ` | `, and other characters that
    are not printed are spelt out. In place of a secret stands `***`.

    Args:
        secrets: What is never to be shown.
    """

    def __init__(self, *secrets: str) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return self.plain(super().format(record))

    def plain(self, text: str) -> str:
        """A text on one line, without what a terminal obeys, and with secrets masked."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        line = " | ".join(part for part in text.splitlines() if part.strip())
        line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
        half = _MOST_CHARS // 2
        return line if len(line) <= _MOST_CHARS else f"{line[:half]} … {line[-half:]}"


class JsonFormatter(LineFormatter):
    """Makes each record one JSON object in a line, with the id of the request over HTTP that it is about."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": self.plain(record.getMessage()),
        }
        if request_id := REQUEST_ID.get():
            told["request_id"] = request_id
        if record.exc_info:
            told["exception"] = self.plain(self.formatException(record.exc_info))
        return json.dumps(told, ensure_ascii=False)


class SeldomFilter(logging.Filter):
    """Lets warnings that any stranger can cause through once a minute each: nobody fills a disk with them.

    Args:
        ticks: Seconds, by a clock that nobody sets.
    """

    def __init__(self, ticks: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._ticks = ticks
        self._told: dict[object, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log it."""
        if record.name not in _OF_STRANGERS or record.levelno > logging.WARNING:
            return True
        now, last = self._ticks(), self._told.get(record.msg)
        if last is not None and now - last < _SELDOM_SECONDS:
            return False
        self._told[record.msg] = now
        return True


def configure_logging(level: str, *secrets: str, as_json: bool = False) -> None:
    """Log this process to standard error; libraries that log addresses and headers only from warnings on."""
    logging.raiseExceptions = False  # what cannot be formatted would be printed as it came
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(SeldomFilter())
    handler.setFormatter((JsonFormatter if as_json else LineFormatter)(*secrets))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("mcp_backups").setLevel(level)
