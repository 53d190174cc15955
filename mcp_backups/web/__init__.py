"""Streamable HTTP: what is listened on, whose requests are taken, and an end that lets calls finish."""

from .listening import Place, listen, loopback_names
from .serving import serve

__all__ = ["Place", "listen", "loopback_names", "serve"]
