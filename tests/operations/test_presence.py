"""Which process is alive and what it is at: seen by others, however it ends."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from mcp_backups.errors import LedgerUnavailableError
from mcp_backups.ledger.liveness import FileLiveness
from tests.process import running

pytestmark = pytest.mark.anyio

HOLDER = """
import sys
import anyio
from pathlib import Path
from mcp_backups.ledger.liveness import FileLiveness

async def hold():
    async with FileLiveness(Path(sys.argv[1])).at_work("op_1") as owner:
        print(owner, flush=True)
        sys.stdin.read()

anyio.run(hold)
"""


async def test_a_process_is_at_work_on_what_it_says_and_on_nothing_else(tmp_path: Path) -> None:
    one, other = FileLiveness(tmp_path), FileLiveness(tmp_path)
    async with one.at_work("op_1") as owner:
        assert one.is_at_work(owner, "op_1")
        assert not one.is_at_work(owner, "op_2")
        assert other.is_at_work(owner, "op_1")
    assert not one.is_at_work(owner, "op_1")
    one.leave()
    assert not other.is_at_work(owner, "op_1")


async def test_where_no_lock_can_stand_nobody_is_at_work_and_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "alive").write_text("in the place of the folder")
    with pytest.raises(LedgerUnavailableError, match="It cannot be marked beside the ledger who is at work"):
        async with FileLiveness(tmp_path).at_work("op_1"):
            pytest.fail("It began all the same.")


async def test_two_calls_at_work_on_one_operation_do_not_end_each_other(tmp_path: Path) -> None:
    """The second call finds nothing to send and leaves while the first still waits for its answer."""
    liveness = FileLiveness(tmp_path)
    async with liveness.at_work("op_1") as owner:
        async with liveness.at_work("op_1"):
            pass
        assert liveness.is_at_work(owner, "op_1")
    assert not liveness.is_at_work(owner, "op_1")
    liveness.leave()


def test_nobody_is_at_work_for_a_process_that_never_was(tmp_path: Path) -> None:
    liveness = FileLiveness(tmp_path)
    assert not liveness.is_at_work("0" * 16, "op_1")
    assert not liveness.is_at_work("", "op_1")


def test_asking_about_others_leaves_no_trace(tmp_path: Path) -> None:
    liveness = FileLiveness(tmp_path)
    liveness.is_at_work("0" * 16, "op_1")
    liveness.leave()
    assert list(tmp_path.iterdir()) == []


async def test_one_that_has_left_leaves_no_file(tmp_path: Path) -> None:
    liveness = FileLiveness(tmp_path)
    async with liveness.at_work("op_1"):
        assert len([each async for each in anyio.Path(tmp_path / "alive").iterdir()]) == 1
    liveness.leave()
    liveness.leave()
    assert [each async for each in anyio.Path(tmp_path / "alive").iterdir()] == []


def test_a_process_that_was_killed_is_seen_to_be_gone_and_tidied_up(tmp_path: Path) -> None:
    with running(
        (sys.executable, "-c", HOLDER, str(tmp_path)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        owner = process.stdout.readline().strip()
        liveness = FileLiveness(tmp_path)
        assert liveness.is_at_work(owner, "op_1")
        assert liveness.is_at_work(owner, "op_1")
    assert not liveness.is_at_work(owner, "op_1")
    assert list((tmp_path / "alive").iterdir()) == []


def _removed(folder: Path, _: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / "alive")


def _replaced(folder: Path, _: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / "alive")
    (folder / "alive").touch()


def _read_only(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path), missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no file that is open")
@pytest.mark.parametrize("spoil", [_removed, _replaced, _read_only])
async def test_a_folder_that_is_gone_or_read_only_by_now_is_left_without_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path, pytest.MonkeyPatch], None]
) -> None:
    """It ended the process with a traceback, after all its work."""
    liveness = FileLiveness(tmp_path)
    async with liveness.at_work("op_1"):
        pass
    spoil(tmp_path, monkeypatch)
    liveness.leave()
    monkeypatch.undo()
    assert not liveness.is_here("op_1")


async def test_a_task_is_one_process_s_at_a_time(tmp_path: Path) -> None:
    one, other = FileLiveness(tmp_path), FileLiveness(tmp_path)
    assert await one.has_turn("notify")
    assert await one.has_turn("notify"), "it keeps it"
    assert not await other.has_turn("notify")
    assert await other.has_turn("something else")
    assert (tmp_path / "notify.lock").stat().st_mode & 0o777 == 0o600 or os.name == "nt"
    one.leave()
    assert await other.has_turn("notify")
    other.leave()
