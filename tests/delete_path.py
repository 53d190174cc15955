"""How much code one planned and confirmed delete runs through: `python -m tests.delete_path`.

Prints each file of the package with its functions, and their numbers. A reader who follows a delete from the tool to
the wire has to open these files; `test_delete_path.py` keeps them few.
"""

import re
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

import anyio

import mcp_backups
from mcp_backups.sandbox import Emulator
from mcp_backups.settings import Settings
from tests.stage import ManualClock, session

PACKAGE = Path(mcp_backups.__file__).parent


async def functions_by_file() -> dict[str, set[str]]:
    """The functions of the package, by file, that run while a client has one backup deleted.

    The server is started and has answered before, and the emulator is not counted.
    """
    seen: defaultdict[str, set[str]] = defaultdict(set)

    def note(frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE) and not path.is_relative_to(PACKAGE / "sandbox"):
            seen[path.relative_to(PACKAGE).as_posix()].add(frame.f_code.co_qualname)

    clock = ManualClock()
    with tempfile.TemporaryDirectory() as folder:
        async with (
            Emulator(now=clock.now) as emulator,
            session(emulator, Settings(state_dir=Path(folder) / "state"), clock) as agent,
        ):
            await agent.call("list_backups")
            threading.setprofile(note)  # the ledger works in threads, which are new with their first work
            sys.setprofile(note)
            try:
                plan = await agent.call("delete_backup", backup_id=499)
                done = await agent.call("delete_backup", backup_id=499, confirm=True, operation_id=plan.operation)
            finally:
                sys.setprofile(None)
                threading.setprofile(None)
            assert done.status == "succeeded", done.text
    return dict(seen)


def seen_in_a_process_of_its_own() -> dict[str, set[str]]:
    """The same as this program prints it: what other tests of this process left behind does not run there."""
    command = [sys.executable, "-m", "tests.delete_path"]
    printed = subprocess.run(
        command, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=120, check=True
    ).stdout
    found = re.findall(r"^(\S+) \(\d+\): (.*)$", printed, re.MULTILINE)
    return {file: set(functions.split(", ")) for file, functions in found}


def main() -> None:
    seen = anyio.run(functions_by_file)
    for file, functions in sorted(seen.items()):
        sys.stdout.write(f"{file} ({len(functions)}): {', '.join(sorted(functions))}\n")
    sys.stdout.write(f"{len(seen)} files, {sum(map(len, seen.values()))} functions\n")


if __name__ == "__main__":
    main()
