"""Logging to standard error, with the token masked wherever it might stand."""

import logging
import sys

from pydantic import SecretStr


class MaskingFormatter(logging.Formatter):
    """Writes `***` in place of the token, in messages and tracebacks alike.

    Args:
        token: What is never to be shown.
    """

    def __init__(self, token: SecretStr | None) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._token = token

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return line.replace(self._token.get_secret_value(), "***") if self._token else line


def configure_logging(level: str, token: SecretStr | None) -> None:
    """Log this process to standard error; libraries that log addresses and headers only from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(MaskingFormatter(token))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("mcp_backups").setLevel(level)
