"""A client's file on the disk: read whole, replaced whole, and never readable by more people than before."""

import os
import shutil
import stat
from pathlib import Path
from tempfile import NamedTemporaryFile

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_PRIVATE = stat.S_IRUSR | stat.S_IWUSR
_ENOUGH_COPIES = 10_000


class LeftAloneError(Exception):
    """The file is not touched; says why, in our own words.

    Attributes:
        by_hand: Whether a person can put the entry there instead.
    """

    def __init__(self, reason: str, *, by_hand: bool = True) -> None:
        super().__init__(reason)
        self.by_hand = by_hand


class InvalidError(LeftAloneError):
    """What it holds cannot be read; or could not be any more, if it is told of a text that is to take its place."""


def read_file(path: Path, *, secret: bool) -> bytes | None:
    """What a file holds, None if there is none yet.

    Args:
        path: The file, or a link to it.
        secret: Whether a secret is to be put into it.

    Raises:
        LeftAloneError: It is no file, may not be written to, or is no place for a secret.
        OSError: It cannot be read.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise LeftAloneError("it is not a regular file", by_hand=False)
    if not status.st_mode & stat.S_IWUSR or not os.access(path, os.W_OK):
        raise LeftAloneError("it is write-protected")
    if secret and os.name != "nt" and status.st_mode & _OTHERS:
        raise LeftAloneError("others may read what is put there; make it private first (chmod 600)", by_hand=False)
    return path.read_bytes()


def replace_file(path: Path, before: bytes | None, after: bytes) -> Path | None:
    """Put new content in a file's place at once, with its owner and mode; a new file is the user's alone.

    Args:
        path: The file; of a link, what it leads to is replaced.
        before: What the file held when it was read, None if there was none.
        after: What it is to hold.

    Returns:
        The copy of the file as it was, None if there was none. That is the user's alone too.

    Raises:
        LeftAloneError: The file holds something else by now.
        OSError: It cannot be written; it is as it was.
    """
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    copy = None
    with NamedTemporaryFile("wb", dir=target.parent, prefix=f".{target.name}.", delete=False) as fresh:  # 0600
        try:
            fresh.write(after)
            fresh.flush()
            os.fsync(fresh.fileno())
            if before is not None:
                # The owner first: a mode that let one group read must not let another.
                _give(Path(fresh.name), target.stat())
                # With its access list, by which the group's bits may be the rights of others.
                shutil.copystat(target, fresh.name)
                os.utime(fresh.name)
                copy = _copy(target, before)
            fresh.close()
            _refuse_if_changed(target, before)
            Path(fresh.name).replace(target)
        except BaseException:
            fresh.close()
            Path(fresh.name).unlink(missing_ok=True)
            if copy is not None:
                copy.unlink()
            raise
    return copy


def _refuse_if_changed(target: Path, before: bytes | None) -> None:
    if (target.read_bytes() if target.exists() else None) != before:
        raise LeftAloneError("it was changed meanwhile; try again")


def _give(fresh: Path, status: os.stat_result) -> None:
    """To the owner of the file in whose place or beside which it is to stand."""
    own = fresh.stat()
    if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
        os.chown(fresh, status.st_uid, status.st_gid)


def _copy(target: Path, content: bytes) -> Path:
    """Keep what a file held beside it, under a name that is free."""
    status = target.stat()
    names = (target.with_name(f"{target.name}.bak{number or ''}") for number in range(_ENOUGH_COPIES))
    copy = next((name for name in names if not os.path.lexists(name)), None)
    if copy is None:
        raise LeftAloneError(f"there are {_ENOUGH_COPIES} copies of it already")
    handle = os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), status.st_mode & _PRIVATE)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        _give(copy, status)
    except BaseException:
        copy.unlink()
        raise
    return copy
