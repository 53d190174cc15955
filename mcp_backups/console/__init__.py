"""The console: a small web page on which people see what waits for them, decide on it, and see how the backups stand.

Rendered here, without a line of script. It reads and decides; it never sends anything to VPS.org but reads.
"""

from .app import build_app
from .serving import serve_console

__all__ = ["build_app", "serve_console"]
