"""Which server a request is for: `/mcp`, or `/mcp/NAME` where there are several accounts, and who may use it."""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from mcp_backups.access import Principal

PATH = "/mcp"
_OF_ACCOUNT = re.compile(rf"{PATH}/([A-Za-z0-9_-]{{1,64}})")


def path_of(account: str) -> str:
    """Where an account is served; of an empty name the only one."""
    return f"{PATH}/{account}" if account else PATH


class Paths(NamedTuple):
    """The accounts that are served.

    Attributes:
        users: The principals who may use each of several accounts; empty where there is one, for whoever is let in.
    """

    users: Mapping[str, Collection[str]] = {}

    @property
    def accounts(self) -> Collection[str]:
        """Their names; the only one's is empty."""
        return self.users or [""]

    def meant(self, path: str) -> str:
        """The path without a slash at its end, if it could be an account's; empty if it could not.

        That there is no such account must not show before it is known who asks.
        """
        path = path.removesuffix("/")
        could_be = _OF_ACCOUNT.fullmatch(path) if self.users else path == PATH
        return path if could_be else ""

    def open_to(self, principal: Principal) -> list[str]:
        """The accounts that somebody may use."""
        return [name for name in self.accounts if not self.users or principal.name in self.users[name]]


ONE = Paths()
"""There is one account alone."""
