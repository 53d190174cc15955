"""Which process is alive and what it is at: seen by others, however it ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from mcp_backups.operations.presence import Presence

HOLDER = """
import sys, time
from pathlib import Path
import pytest

from mcp_backups.operations.presence import Presence
with Presence(Path(sys.argv[1])).at_work("op_1") as owner:
    print(owner, flush=True)
    sys.stdin.read()
"""


def test_a_process_is_at_work_on_what_it_says_and_on_nothing_else(tmp_path: Path) -> None:
    one, other = Presence(tmp_path), Presence(tmp_path)
    with one.at_work("op_1") as owner:
        assert one.is_at_work(owner, "op_1")
        assert not one.is_at_work(owner, "op_2")
        assert other.is_at_work(owner, "op_1")
    assert not one.is_at_work(owner, "op_1")
    one.leave()
    assert not other.is_at_work(owner, "op_1")


def test_two_calls_at_work_on_one_operation_do_not_end_each_other(tmp_path: Path) -> None:
    """The second call finds nothing to send and leaves while the first still waits for its answer."""
    presence = Presence(tmp_path)
    with presence.at_work("op_1") as owner:
        with presence.at_work("op_1"):
            pass
        assert presence.is_at_work(owner, "op_1")
    assert not presence.is_at_work(owner, "op_1")
    presence.leave()


def test_nobody_is_at_work_for_a_process_that_never_was(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    assert not presence.is_at_work("0" * 16, "op_1")
    assert not presence.is_at_work("", "op_1")


@pytest.mark.parametrize("owner", ["../../other", "/tmp/other", "a" * 15, "A" * 16, "a" * 16 + "\n", "é" * 16])
def test_what_is_no_process_id_becomes_no_path(tmp_path: Path, owner: str) -> None:
    (tmp_path / "other.lock").touch()
    presence = Presence(tmp_path / "a" / "b")
    assert not presence.is_at_work(owner, "op_1")
    assert (tmp_path / "other.lock").exists()


def test_asking_about_others_leaves_no_trace(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    presence.is_at_work("0" * 16, "op_1")
    presence.leave()
    assert list(tmp_path.iterdir()) == []


def test_one_that_has_left_leaves_no_file(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    with presence.at_work("op_1"):
        assert len(list((tmp_path / "alive").iterdir())) == 1
    presence.leave()
    presence.leave()
    assert list((tmp_path / "alive").iterdir()) == []


def test_a_process_that_was_killed_is_seen_to_be_gone_and_tidied_up(tmp_path: Path) -> None:
    with subprocess.Popen(
        (sys.executable, "-c", HOLDER, str(tmp_path)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            owner = process.stdout.readline().strip()
            presence = Presence(tmp_path)
            assert presence.is_at_work(owner, "op_1")
            assert presence.is_at_work(owner, "op_1")
        finally:
            process.kill()
        process.wait(30)
    assert not presence.is_at_work(owner, "op_1")
    assert list((tmp_path / "alive").iterdir()) == []
