"""VPS.org over HTTP. `VpsClient` is the way in; nothing outside this package speaks HTTP to it."""

from .client import VpsClient
from .link import Network

__all__ = ["Network", "VpsClient"]
