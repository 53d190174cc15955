"""VPS.org over HTTP. `VpsClient` is the way in; nothing outside this package speaks HTTP to it.

`servers` answers beside it which servers there are, and which one is meant.
"""

from .client import Connect, VpsClient, client_for
from .link import Network

__all__ = ["Connect", "Network", "VpsClient", "client_for"]
