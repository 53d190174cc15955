"""Streamable HTTP: what is listened on, whose requests are taken, and an end that lets calls finish."""

from .listening import listen, loopback_names
from .serving import serve

__all__ = ["listen", "loopback_names", "serve"]
