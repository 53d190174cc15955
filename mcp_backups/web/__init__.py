"""Streamable HTTP: what is listened on, whose requests are taken, and an end that lets calls finish."""

from .listening import Place, listen, listen_unix, loopback_names, read_shared_secret
from .serving import serve

__all__ = ["Place", "listen", "listen_unix", "loopback_names", "read_shared_secret", "serve"]
