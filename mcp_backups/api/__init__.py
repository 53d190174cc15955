"""VPS.org over HTTP. `VpsClient` is the way in; nothing outside this package speaks HTTP to it."""

from .client import VpsClient

__all__ = ["VpsClient"]
