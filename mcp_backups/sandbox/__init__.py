"""An emulator of the VPS.org API over a real socket: a second, independent reading, for tests and for trying out.

Serve with `async with Emulator() as emulator`, with `serve_in_thread()`, or alone with `run(port)`; give the client
`emulator.base_url` and `emulator.token`; spoil requests with `emulator.fail(Fault.reset_after(), method="DELETE")`;
then ask `emulator.requests` what came, and `emulator.fleet` what it did.
"""

from .access import Throttle
from .emulator import Emulator, run, serve_in_thread
from .faults import End, Fault, FaultRule, Form
from .fleet import SANDBOX_TOKEN, Backup, Fleet, Plan, Restore, Server, utc_now
from .received import Received
from .reply import Reply
from .seed import large_fleet, seeded_fleet

__all__ = [
    "SANDBOX_TOKEN",
    "Backup",
    "Emulator",
    "End",
    "Fault",
    "FaultRule",
    "Fleet",
    "Form",
    "Plan",
    "Received",
    "Reply",
    "Restore",
    "Server",
    "Throttle",
    "large_fleet",
    "run",
    "seeded_fleet",
    "serve_in_thread",
    "utc_now",
]
