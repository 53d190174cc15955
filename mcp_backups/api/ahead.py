"""Pages of a list got before they are asked for, a few at a time."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic

import anyio

from mcp_backups.errors import BackupsError

from .rows import Row
from .wire import Page

AT_ONCE = 6
"""Pages that are asked for at the same time: enough to hide the way there and back, few enough not to press."""

Fetch = Callable[[str], Awaitable[Page[Row]]]
"""Gets the page with this query."""


@dataclass
class Ahead(Generic[Row]):
    """Pages of a list.

    What is expected only decides what is got together: a page that is asked for and was not expected is got by
    itself, and one that was got and is never asked for tells nothing, not even that it failed.

    Attributes:
        fetch: Gets one page.
        expected: The queries of the pages that are likely to be asked for, in that order; may be empty.
    """

    fetch: Fetch[Row]
    expected: Sequence[str]
    _got: dict[str, Page[Row] | BackupsError] = field(default_factory=dict)

    async def page(self, query: str) -> Page[Row]:
        """One page. Raises what getting it raised."""
        if query not in self._got:
            async with anyio.create_task_group() as group:
                for each in self._with_what_follows(query):
                    group.start_soon(self._get, each)
        got = self._got.pop(query)
        if isinstance(got, BackupsError):
            raise got
        return got

    def _with_what_follows(self, query: str) -> Sequence[str]:
        if query not in self.expected:
            return [query]
        place = self.expected.index(query)
        return self.expected[place : place + AT_ONCE]

    async def _get(self, query: str) -> None:
        try:
            self._got[query] = await self.fetch(query)
        except BackupsError as error:
            self._got[query] = error
