"""Files and folders that are this user's own: who can read a secret, and who could put another ledger in place."""

import os
import stat
from pathlib import Path

from mcp_backups.errors import ConfigError
from mcp_backups.text import visible, without_line_end

_SECRET_FOLDERS = ("/run/secrets", "/var/run/secrets", "/run/credentials")
"""Where Docker, Podman, Kubernetes and systemd mount secrets."""

_MOST_SECRET_BYTES = 4096


def is_kept_private(path: Path, mode: int) -> bool:
    """Whether only its owner has access to a file, or it is a secret as container systems mount it.

    Those are readable by all in the container, which is the wall around them: below the folders that are made for it,
    behind the `..data` link that Kubernetes exchanges, or where nothing can be written and no mode be changed.

    Args:
        path: The file, which is there.
        mode: Its permission bits; 0 where the system has none.
    """
    if not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return True
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return False
    places = (path, path.resolve())
    is_in_folder = any(place.is_relative_to(folder) for place in places for folder in _SECRET_FOLDERS)
    is_in_data = "..data" in path.parts or (path.is_symlink() and "..data" in path.readlink().parts)
    return is_in_folder or is_in_data or bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def mode_of(path: Path, where: str) -> int:
    """The permission bits of a regular file; 0 on Windows, which has none.

    Raises:
        ConfigError: It is none; begins with `where`.
    """
    try:
        status = path.stat()
    except OSError:
        raise ConfigError(f"{where} cannot be found or read.") from None
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{where} is not a regular file.")
    return 0 if os.name == "nt" else stat.S_IMODE(status.st_mode)


def read_secret(path: Path, name: str) -> bytes:
    """What stands in a file that is for its owner alone, or a mounted secret: its first 4096 bytes.

    Args:
        path: The file.
        name: Of the setting that names it.

    Raises:
        ConfigError: Others may read it, or it cannot be read.
    """
    where = f"{name} names a file that"
    if not is_kept_private(path, mode_of(path, where)):
        raise ConfigError(f"{where} others may read; make it private (chmod 600).")
    try:
        with path.open("rb") as file:
            return file.read(_MOST_SECRET_BYTES)
    except OSError:
        raise ConfigError(f"{where} cannot be read.") from None


def read_secret_text(path: Path, name: str) -> str:
    """The same as text, without its line end. Raises as `read_secret`, also where it is no ASCII text."""
    try:
        return without_line_end(read_secret(path, name).decode("ascii"))
    except UnicodeDecodeError:
        raise ConfigError(f"{name} names a file that cannot be read as ASCII text.") from None


def folder_fault(folder: Path) -> str:
    """Why a folder of state, which may still have to be made, is not this user's own; empty if it is.

    Folders above it may be writable for a group, or for all where only owners may rename (as in /tmp).
    """
    if not folder.is_absolute():
        return "is no absolute path"
    if os.name == "nt":
        return ""  # rights are told in another way there
    try:
        missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
        there = folder.parents[len(missing) - 1] if missing else folder
        status, is_link_of, real = there.stat(), there.lstat().st_uid, there.resolve()
        above = {*there.parents, *real.parents, *([there, real] if missing else [])}
        open_to_all = [path for path in above if path.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH]
    except OSError:
        return "cannot be reached by this user"
    me, others = os.geteuid(), stat.S_IWGRP | stat.S_IWOTH
    needed = os.W_OK | os.X_OK if missing else os.R_OK | os.X_OK
    can_use = os.access(there, needed, effective_ids=os.access in os.supports_effective_ids)
    faults = {
        "is, or lies below, what is no folder": not stat.S_ISDIR(status.st_mode),
        f"lies in {visible(str(next(iter(open_to_all), '')))}, where anyone may put another in its place": open_to_all,
        "belongs to another user": not missing and (status.st_uid != me or is_link_of not in {me, 0}),
        "would lie in a folder of another user": missing and status.st_uid not in {me, 0},
        f"cannot be {'made' if missing else 'read'} by this user": not can_use,
        "can be written to by others (chmod go-w takes that right away)": not missing and status.st_mode & others,
    }
    return next((words for words, holds in faults.items() if holds), "")


def write_whole(path: Path, content: bytes) -> None:
    """A file that is for its owner alone, and whole and on disk before it has its name."""
    fresh = path.with_name(f"{path.name}.fresh")
    fresh.unlink(missing_ok=True)  # of a process that was killed, or a link, through which others could read it
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(file)
    fresh.replace(path)
