"""What is not this user's own is not used, and each command says so in one line, whatever is wrong with the machine."""

import gc
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mcp_backups.commands.config
import mcp_backups.commands.demo
import mcp_backups.commands.doctor
import mcp_backups.transport  # noqa: F401 - all are there before their files may no longer be read
from mcp_backups.cli import main
from mcp_backups.private import folder_fault, write_whole
from mcp_backups.settings import PREFIX

pytestmark = pytest.mark.skipif(os.name == "nt", reason="files have no permission bits there")

NOBODY = 65534
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

COMMANDS = [
    *([], ["--sandbox"], ["serve", "--http"], ["check"], ["check", "--json"], ["doctor"], ["doctor", "--json"]),
    *(["config", "cursor"], ["config", "vscode", "--write"], ["operations"], ["audit"], ["audit", "--verify"]),
    ["operations", "settle", "op_aaaaaaaaaaaaaaaa", "--as", "failed"],
]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="place-")).resolve()
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)


@pytest.fixture
def plain_user(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Become a user that the rights of files count for, until the end of the test; nothing of ours is set."""
    for name in os.environ:
        if name.upper().startswith((PREFIX, "VPS_API_", "XDG_")):
            monkeypatch.delenv(name)
    yield lambda: os.seteuid(NOBODY) if IS_ROOT else None
    if IS_ROOT:
        os.seteuid(0)
    gc.enable()


def owned(path: Path, mode: int = 0o700) -> Path:
    """A folder of the plain user."""
    path.mkdir(parents=True)
    path.chmod(mode)
    if IS_ROOT:
        os.chown(path, NOBODY, NOBODY)
    return path


def _home_of_another(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (place / "other").mkdir(mode=0o700)
    (place / "other").chmod(0o700 if IS_ROOT else 0)
    monkeypatch.setenv("HOME", str(place / "other"))
    return str(place / "other" / ".config" / "mcp-backups" / "config.toml")


def _no_home(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(place)
    return "HOME"


def _unwritable_home(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HOME", str(owned(place / "home", 0o555)))
    return str(place / "home" / ".local" / "state" / "mcp-backups")


def _empty_home(_: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HOME", "")
    return "HOME"


def _relative_home(_: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HOME", "home")
    return "HOME"


def _home_is_a_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (place / "home").touch()
    monkeypatch.setenv("HOME", str(place / "home"))
    return str(place / "home")


def _home_is_not_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    place.chmod(0o555)
    monkeypatch.setenv("HOME", str(place / "nowhere"))
    return str(place / "nowhere" / ".local")


def _settings_file_unreadable(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HOME", str(owned(place / "home")))
    folder = owned(place / "home" / ".config" / "mcp-backups")
    (folder / "config.toml").touch(0)
    folder.parent.chmod(0o755)
    return str(folder / "config.toml")


def _settings_file_is_a_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HOME", str(owned(place / "home")))
    (owned(place / "home" / ".config" / "mcp-backups").parent).chmod(0o755)
    owned(place / "home" / ".config" / "mcp-backups" / "config.toml")
    return str(place / "home" / ".config" / "mcp-backups" / "config.toml")


def _state_folder_open_to_all(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HOME", str(owned(place / "home")))
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(owned(place / "state", 0o777)))
    return str(place / "state")


SITUATIONS = [
    _home_of_another,
    _no_home,
    _unwritable_home,
    _empty_home,
    _relative_home,
    _home_is_a_file,
    _home_is_not_there,
    _settings_file_unreadable,
    _settings_file_is_a_folder,
    _state_folder_open_to_all,
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_command_says_in_one_line_what_is_wrong_and_exits_2(
    situation: Callable[[Path, pytest.MonkeyPatch], str],
    command: list[str],
    place: Path,
    plain_user: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = situation(place, monkeypatch)
    plain_user()
    code = main(command)
    told = capsys.readouterr()
    assert code == 2
    assert named in told.out + told.err
    assert "MCP_BACKUPS_" in told.out + told.err or "settings file" in told.out + told.err
    if command[:1] != ["doctor"]:  # that reports on standard output
        assert told.out == ""
        assert told.err.startswith("mcp-backups: ")
        assert told.err.count("\n") == 1
    assert not (place / "~").exists()


def test_a_working_folder_that_is_gone_is_told_in_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "gone").mkdir()
    monkeypatch.chdir(place / "gone")
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(owned(place / "state") if not IS_ROOT else place / "state"))
    (place / "gone").rmdir()
    assert main(["config", "vscode"]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert told.err.startswith("mcp-backups: Your home folder or this folder cannot be found")
    monkeypatch.undo()


def test_without_a_folder_for_temporary_files_the_demo_says_so_in_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place / "gone"))
    assert main(["demo", "--json"]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert told.err.startswith("mcp-backups: The system does not let it: No such file or directory (")


def _link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


FOLDERS: list[tuple[Callable[[Path], Path], str]] = [
    (lambda place: owned(place / "state"), ""),
    (lambda place: owned(place / "state", 0o755), ""),
    (lambda place: owned(place / "home") / "state", ""),
    (lambda place: owned(place / "home") / "several" / "folders" / "deep", ""),
    (lambda place: owned(owned(place / "tmp", 0o1777) / "state"), ""),
    (lambda place: owned(place / "tmp", 0o1777) / "state", ""),
    (lambda place: owned(owned(place / "group", 0o770) / "state"), ""),
    (lambda place: _link(place / "link", owned(place / "state")), ""),
    (lambda place: owned(place / "state", 0o777), "can be written to by others"),
    (lambda place: owned(place / "state", 0o770), "can be written to by others"),
    (lambda place: owned(place / "state", 0o702), "can be written to by others"),
    (lambda place: owned(place / "state", 0o1777), "can be written to by others"),
    (lambda place: _link(place / "link", owned(place / "state", 0o777)), "can be written to by others"),
    (lambda place: owned(owned(place / "open", 0o777) / "state"), "lies in "),
    (lambda place: owned(place / "open", 0o777) / "state", "lies in "),
    (lambda place: owned(owned(owned(place / "open", 0o777) / "a") / "b"), "lies in "),
    (lambda place: _link(place / "link", owned(owned(place / "open", 0o777) / "state")), "lies in "),
    (lambda place: owned(place / "home", 0o500) / "state", "cannot be made by this user"),
    (lambda place: owned(place / "state", 0), "cannot be read by this user"),
    (lambda place: owned(place / "home", 0) / "state", "cannot be made by this user"),
    (lambda place: _link(place / "link", place / "nowhere"), "cannot be reached by this user"),
    (lambda place: _link(place / "link", place / "link"), "cannot be reached by this user"),
    (lambda _: Path("/dev/null"), "is, or lies below, what is no folder"),
    (lambda _: Path("/dev/null/state"), "is, or lies below, what is no folder"),
    (lambda _: Path("state"), "is no absolute path"),
    (lambda _: Path("~/state"), "is no absolute path"),
]


@pytest.mark.parametrize(("make", "fault"), FOLDERS)
def test_a_state_folder_is_this_users_alone(
    make: Callable[[Path], Path], fault: str, place: Path, plain_user: Callable[[], None]
) -> None:
    if IS_ROOT:
        os.chown(place, NOBODY, NOBODY)
    folder = make(place)
    if folder.is_symlink() and IS_ROOT:
        os.chown(folder, NOBODY, NOBODY, follow_symlinks=False)
    plain_user()
    found = folder_fault(folder)
    assert found.startswith(fault) if fault else found == ""


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a folder to another user")
@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda place: place / "theirs", "belongs to another user"),
        (lambda place: place / "theirs" / "state", "would lie in a folder of another user"),
        (lambda place: place / "their link", "belongs to another user"),
    ],
)
def test_a_state_folder_of_another_user_is_refused(make: Callable[[Path], Path], fault: str, place: Path) -> None:
    """Root reaches it, and would leave files there that its owner cannot use; and its owner could exchange it."""
    owned(place / "theirs")
    (place / "ours").mkdir(0o700)
    (place / "their link").symlink_to(place / "ours")
    os.chown(place / "their link", NOBODY, NOBODY, follow_symlinks=False)
    assert stat.S_IMODE((place / "ours").stat().st_mode) == 0o700
    assert folder_fault(make(place)) == fault


@pytest.mark.parametrize(
    "plant",
    [
        lambda fresh, theirs: fresh.symlink_to(theirs),
        lambda fresh, theirs: fresh.hardlink_to(theirs),
        lambda fresh, theirs: fresh.symlink_to(theirs.with_name("nowhere")),
        lambda fresh, _: (fresh.touch(), fresh.chmod(0o666)),
        lambda fresh, _: os.mkfifo(fresh),
    ],
    ids=["link", "hard link", "link to nowhere", "open to all", "pipe"],
)
def test_no_secret_is_written_into_what_stands_in_its_way(plant: Callable[[Path, Path], None], place: Path) -> None:
    """Such as a link that was put there while the folder was open to others: they would read a key through it."""
    theirs = place / "theirs"
    theirs.write_text("theirs", encoding="utf-8")
    plant(place / "key.fresh", theirs)
    write_whole(place / "key", b"secret")
    assert theirs.read_text(encoding="utf-8") == "theirs"
    assert (place / "key").read_bytes() == b"secret"
    assert stat.S_IMODE((place / "key").lstat().st_mode) == 0o600
    assert stat.S_ISREG((place / "key").lstat().st_mode)
    assert sorted(path.name for path in place.iterdir()) == ["key", "theirs"]
