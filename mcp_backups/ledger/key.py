"""The installation's key, and what it remembers of the ledger outside the ledger: where its chain ended."""

import hmac
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from mcp_backups.errors import ConfigError, LedgerLostError
from mcp_backups.private import read_secret, write_whole

from .tables import GENESIS

KEY_BYTES = 32

LOCK = "ledger.lock"
"""Held while the key is made or the ledger opened."""

_KEY, _DRAFT, _KEY_OF_0_1_0, _END = "installation.key", "installation.key.draft", "sealing.key", "ledger.end"
_GONE = f"The key of the ledger is gone (its file {_KEY})."
"""Also of a link that leads nowhere: the disk that it leads to may be away."""

_LOCK_SECONDS, _POLL_SECONDS = 3.0, 0.01
_SLOT, _SLOT_BYTES = 512, 256
_SLOTS = (0, _SLOT)


class End(NamedTuple):
    """Where a chain of events ended; the later of two is the greater.

    Attributes:
        term: When the operator last accepted a loss, in seconds since 1970, 0 for never: no end from before counts.
        seq: The number of the last event, 0 before the first.
        mac: Its MAC.
        operations: How many operations there were.
    """

    term: int
    seq: int
    mac: str
    operations: int

    def accepted(self) -> "End":
        """The beginning of a term in which nothing is remembered of those before."""
        return End(max(self.term + 1, int(time.time())), 0, GENESIS, 0)


BEGINNING = End(0, 0, GENESIS, 0)


class Remembered:
    """The end of the chain as this installation has seen it, in a file that all its processes share.

    It holds two ends, each with a MAC, so that one is whole whenever the machine stops. It may be behind the ledger, by
    what was recorded just before a process was killed; it is never ahead of it.

    Args:
        path: The file.
        key: Of the ledger.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self.path = path
        self._key = key
        self._written = b"", dict[int, End]()  # what this process wrote last, which need not be read again

    def read(self) -> End | None:
        """The end, None if there is no such file.

        Raises:
            LedgerLostError: It does not hold what was written with this key.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        ends = self._ends(content)
        if not ends:
            raise LedgerLostError("What was remembered of the ledger's end was changed.")
        return max(ends.values())

    def begin(self) -> None:
        """Remember that nothing has been recorded yet."""
        write_whole(self.path, self._slot(BEGINNING).ljust(_SLOT + _SLOT_BYTES))

    def begin_once(self) -> None:
        """The same, unless something is remembered: several processes may be at it, and none leaves half a file."""
        fresh = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}")
        Remembered(fresh, self._key).begin()
        try:
            os.link(fresh, self.path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()

    def note(self, end: End) -> None:
        """Remember this end, unless a later one is remembered."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        try:
            with _locked(file):
                content = os.read(file, _SLOT + _SLOT_BYTES)
                ends = self._written[1] if content == self._written[0] else self._ends(content)
                if end > max(ends.values(), default=BEGINNING):
                    older = min(_SLOTS, key=lambda slot: ends.get(slot, BEGINNING))
                    slot = self._slot(end)
                    os.lseek(file, older, os.SEEK_SET)
                    os.write(file, slot)
                    content = content.ljust(older, b"\0")
                    self._written = content[:older] + slot + content[older + _SLOT_BYTES :], ends | {older: end}
        finally:
            os.close(file)

    def _ends(self, content: bytes) -> dict[int, End]:
        """The ends that are whole, by where they stand."""
        ends = {}
        for slot in _SLOTS:
            words = content[slot : slot + _SLOT_BYTES].decode("ascii", "replace").split()
            try:
                end = End(int(words[0]), int(words[1]), words[2], int(words[3]))
            except (ValueError, IndexError):
                continue
            if self._slot(end) == content[slot : slot + _SLOT_BYTES]:
                ends[slot] = end
        return ends

    def _slot(self, end: End) -> bytes:
        words = " ".join(map(str, end))
        mac = hmac.digest(self._key, f"end {words}".encode(), "sha256").hex()
        return f"{words} {mac}".ljust(_SLOT_BYTES - 1).encode() + b"\n"


def installation_key(folder: Path, key_file: Path | None) -> bytes:
    """The key that all processes of this installation share, made at its first use where none is named: 32 bytes.

    Args:
        folder: Where the ledger lives.
        key_file: A file that holds the key; None for one of its own in that folder.

    Raises:
        ConfigError: The file that is named holds no key.
        LedgerLostError: The key is gone, though something was recorded with it.
        OSError, TimeoutError, NotImplementedError: It cannot be read or kept.
    """
    if key_file:
        return _named_key(key_file)
    path = folder / _KEY
    if not path.exists():
        from filelock import FileLock  # noqa: PLC0415 - needed once in the life of an installation

        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(folder / LOCK, timeout=_LOCK_SECONDS, mode=0o600, poll_interval=_POLL_SECONDS):
            if not path.exists():
                _make(folder, path)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise LedgerLostError("The key of the ledger was changed.")
    return key


def existing_key(folder: Path, key_file: Path | None) -> bytes | None:
    """The same where there is one; asking makes none. Raises as `installation_key`."""
    is_gone = not key_file and not (folder / _KEY).exists()
    if is_gone and (folder / _END).exists() and not (folder / _DRAFT).exists():
        raise LedgerLostError(_GONE)
    return None if is_gone else installation_key(folder, key_file)


def known_memory(folder: Path, key_file: Path | None) -> Remembered | None:
    """What is remembered of the ledger in a folder; None if there is no key yet. Raises as `installation_key`."""
    key = existing_key(folder, key_file)
    return remembered(folder, key_file, key) if key else None


def put_aside(folder: Path, key_file: Path | None) -> None:
    """Have what is remembered, and cannot be read, out of the way; and a key made here that is none any more."""
    lost, key = [remembered(folder, key_file, b"").path], folder / _KEY
    if not key_file and key.is_file() and not _is_key(key):
        lost.append(key)
    for path in lost:
        with suppress(FileNotFoundError):
            path.replace(path.with_name(f"{path.name}.lost"))


def remembered(folder: Path, key_file: Path | None, key: bytes) -> Remembered:
    """What is remembered of the ledger in a folder: beside the key where that is another place which can be written."""
    return Remembered(end_file(str(folder.absolute()), key_file, folder / _END), ledger_key(key))


def end_file(ledger: str, key_file: Path | None, otherwise: Path) -> Path:
    """Where the end of the ledger of that name is remembered."""
    if key_file and os.access(key_file.parent, os.W_OK):
        return key_file.with_name(f"{key_file.name}.{sha256(ledger.encode()).hexdigest()[:8]}.end")
    return otherwise


def ledger_key(key: bytes) -> bytes:
    """The key of the ledger's MACs, which is not that of anything else."""
    return hmac.digest(key, b"mcp-backups ledger", "sha256")


def _named_key(path: Path) -> bytes:
    content = read_secret(path, "MCP_BACKUPS_KEY_FILE")
    if len(content) == KEY_BYTES:
        return content
    text = content.rstrip(b"\r\n")
    if len(text) < KEY_BYTES:
        raise ConfigError(f"MCP_BACKUPS_KEY_FILE names a file that holds no key: {KEY_BYTES} random bytes or more.")
    return sha256(text).digest()


def _make(folder: Path, path: Path) -> None:
    """A key and, before it has its name, what is remembered: so that none is ever there without the other."""
    draft = folder / _DRAFT  # of a process that was killed here, perhaps
    if not draft.exists():
        old = folder / _KEY_OF_0_1_0
        write_whole(draft, old.read_bytes() if _is_key(old) else os.urandom(KEY_BYTES))
    memory = Remembered(folder / _END, ledger_key(draft.read_bytes()))
    try:
        if memory.read() is None:
            memory.begin()
    except LedgerLostError:
        draft.unlink()
        raise LedgerLostError(_GONE) from None
    draft.replace(path)


def _is_key(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == KEY_BYTES


@contextmanager
def _locked(file: int) -> Iterator[None]:
    """While inside, no other process or thread is: for the few microseconds that it takes to read and write a line."""
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415

        os.lseek(file, 2 * _SLOT, os.SEEK_SET)  # what is locked cannot be read there, so it is a byte that nobody reads
        msvcrt.locking(file, msvcrt.LK_LOCK, 1)
        os.lseek(file, 0, os.SEEK_SET)
        try:
            yield
        finally:
            os.lseek(file, 2 * _SLOT, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_UNLCK, 1)
    else:
        import fcntl  # noqa: PLC0415

        fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file lets go of it
