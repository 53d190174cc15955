"""What the command line says of its commands, and how it reads their values."""

import argparse
import re
from datetime import UTC, datetime
from pathlib import Path

from mcp_backups.errors import ConfigError
from mcp_backups.text import time_or_age, visible
from mcp_backups.values import is_web_address

_LAST_PORT = 65535
_MOST_HOURS = 8760
_MOST_DIGITS = 16
_MOST_ADDRESS = 4096
_ADDRESS = "an address that begins with https:// or http://, or @FILE that holds one"

DEFAULT_ADDRESS = "http://127.0.0.1:8765/mcp"
"""Where `serve --http` is reached, if it is not told otherwise."""

EXITS = "Exit codes: 0 done, 1 failed, 2 wrong usage or settings."

HELP = {
    "serve": (
        "serve MCP; with --http for any number of clients",
        (
            "Without --http it serves one client over standard input and output, as `mcp-backups` alone, until that"
            " input ends. With it, the address is told on standard error, and every client needs an access token, which"
            " is made at the first start; Ctrl-C ends it. Clients from other machines need a proxy in front that does"
            " TLS, and access tokens of their own."
        ),
        EXITS,
    ),
    "sandbox": (
        "run the emulated VPS.org API alone, for any client",
        "It prints its address and a token. All that it holds is invented, and gone when Ctrl-C ends it.",
        EXITS,
    ),
    "demo": (
        "show what an agent sees, on the sandbox",
        "Plays a session of some ten seconds with a server of its own: no account, no token, none of your settings.",
        "Exit codes: 0 every answer was as told, 1 one was not.",
    ),
    "check": (
        "check that every server has a fresh good backup",
        (
            "For cron and CI. It reads the account that the settings name, and changes nothing. The monitor that --ping"
            " names is told when it begins (URL/start) and how it ends (URL, or URL/fail); the exit code is that of the"
            " check, whatever becomes of that."
        ),
        "Exit codes: 0 every server has one, 1 not every, 2 wrong usage or settings, 3 it cannot be told.",
    ),
    "doctor": (
        "check settings, token, network, clock, ledger and the server itself",
        "Each is ok, a warning or a failure, with what to do. It changes nothing and shows no token.",
        "Exit codes: 0 no failure, 1 a failure, 2 wrong usage or settings.",
    ),
    "config": (
        "print what an MCP client needs to start this server, or put it there",
        (
            "With --write a copy of the client's file is kept, and nothing else in it changes; where that cannot be, or"
            " the name belongs to another server, it is left alone. The token is only referred to, unless"
            " --token-in-file is given; that takes no file which others may read. With --http, what a client needs to"
            " reach a server over HTTP is printed."
        ),
        "Exit codes: 0 done, 1 the file was left alone, 2 wrong usage or settings.",
    ),
    "tokens": (
        "add, list and remove the access tokens that let clients in over HTTP",
        "Each stands for somebody, by name, and has a role: read, write or destroy. Needs no token of VPS.org.",
        EXITS,
    ),
    "add": (
        "make an access token, and print it once",
        (
            "read looks; write makes backups too; destroy deletes, prunes and restores too, under the rules and with"
            " the consent that are set. Only a hash of it is kept."
        ),
        EXITS,
    ),
    "list": ("list whom there are access tokens for", "No token is shown: only hashes are kept.", EXITS),
    "remove": (
        "remove an access token",
        "Servers that run let nobody in with it from the next request on.",
        EXITS,
    ),
    "operations": (
        "list the last operations",
        (
            "An operation is one write: a backup made or deleted, a server restored, backups pruned. Each as it"
            " is now, newest first; needs no token."
        ),
        EXITS,
    ),
    "settle": (
        "record what became of an operation whose outcome is unknown",
        "Say what you found out by looking at VPS.org: the operation's server opens again for other operations.",
        EXITS,
    ),
    "approvals": (
        "list what waits for an approver",
        (
            "Operations that somebody has to decide on outside the chat, and those that are approved and not begun;"
            " oldest first. Needs no token."
        ),
        EXITS,
    ),
    "approve": (
        "approve an operation that waits",
        (
            "Shows the whole plan beside what is there now, and asks you to type your consent; so it needs a terminal."
            " It is carried out when it is called again, within an hour, after everything was looked at again."
        ),
        "Exit codes: 0 approved, 1 not, 2 wrong usage or settings, or no terminal.",
    ),
    "decline": (
        "decline an operation that waits, or take an approval back",
        "Possible until the intent to send it is recorded. Whoever asked is told the reason.",
        "Exit codes: 0 declined, 1 there is nothing to decide on, 2 wrong usage or settings.",
    ),
    "freeze": (
        "send nothing that changes the account until `thaw`",
        "It holds for every process on this ledger at once, for backups as well. Reading goes on.",
        EXITS,
    ),
    "thaw": (
        "lift a freeze",
        "By whoever may approve, on a terminal. What was approved meanwhile is carried out when it is called again.",
        EXITS,
    ),
    "console": (
        "serve a web page for people: what waits, the fleet, operations, the log",
        (
            "On this machine, through an address that holds once and for 60 seconds; or behind a login, see"
            " docs/console.md. It changes nothing but what is decided there. Needs the extra `console`."
        ),
        EXITS,
    ),
    "ledger": (
        "look after the ledger itself",
        "It holds what was planned and done, and stops all changes where part of it is missing. Needs no token.",
        EXITS,
    ),
    "accept": (
        "go on although part of the ledger is missing",
        (
            "Where the ledger was lost, cut or put back from a copy, nothing is changed any more until you say this."
            " Look for the missing part first: budgets and guards no longer know of it. It is recorded that you did."
        ),
        "Exit codes: 0 done, or nothing is missing, 1 what is there was changed, 2 wrong usage or settings.",
    ),
    "copy": (
        "copy the ledger of this machine to PostgreSQL",
        (
            "Verifies the file of the state folder, copies all of it to the empty database that MCP_BACKUPS_LEDGER_URL"
            " names, verifies that too, and marks the file, so that no process writes to it any more. Run it again"
            " where it was interrupted."
        ),
        EXITS,
    ),
    "migrate": (
        "make the ledger's tables in PostgreSQL, or bring them to this version",
        (
            "MCP_BACKUPS_LEDGER_URL must log in as the role that owns the tables, or may make a schema; --for names"
            " the other role, as which servers log in. That one can add to the log of what was done, and never change"
            " it. Run it before a new version of mcp-backups is started."
        ),
        EXITS,
    ),
    "audit": (
        "show, verify or export the log of what was done",
        (
            "Each entry is sealed with this installation's key: nobody without it adds or alters one, such as a"
            " consent, and cutting the end of the log shows to whoever saw it before. Needs no token."
        ),
        (
            "Exit codes: 0 done, 1 it cannot be read, --verify found it changed, or there is no such operation,"
            " 2 wrong usage or settings."
        ),
    ),
}
"""Of each command: what it does, more about that, and its exit codes."""


def port(raw: str) -> int:
    if not (raw.isascii() and raw.isdecimal()) or len(raw) > len(str(_LAST_PORT)) or int(raw) > _LAST_PORT:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(raw)


def host(raw: str) -> str:
    """An address or name to listen on, in small letters and without the brackets that it has in a URL."""
    return raw.strip("[]").lower()


def where_to_listen(options: argparse.Namespace) -> tuple[str, int, Path | None]:
    """Where HTTP listens: host, port and socket.

    Raises:
        ConfigError: One of them is named, and --http is not: it would be passed over.
    """
    for name in ("host", "port", "socket"):
        if name in options and not getattr(options, "http", False):
            raise ConfigError(f"--{name} is where --http listens; call again with --http, or leave it out.")
    return getattr(options, "host", "127.0.0.1"), getattr(options, "port", 8765), getattr(options, "socket", None)


def seconds(raw: str) -> float:
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,3})?", raw):
        raise argparse.ArgumentTypeError("seconds are a number from 0 to 99999, such as 8 or 0.5")
    return float(raw)


def count(raw: str) -> int:
    if not (raw.isascii() and raw.isdecimal()) or len(raw) > _MOST_DIGITS or int(raw) < 1:
        raise argparse.ArgumentTypeError("a whole number, 1 or more")
    return int(raw)


def hours(raw: str) -> int:
    match = re.fullmatch(r"([0-9]{1,4})([hd])", raw)
    hours = int(match[1]) * (24 if match[2] == "d" else 1) if match else 0
    if not 1 <= hours <= _MOST_HOURS:
        raise argparse.ArgumentTypeError("an age from 1h to 365d, such as 36h or 7d")
    return hours


def since(raw: str) -> datetime:
    if moment := time_or_age(raw, datetime.now(UTC)):
        return moment
    raise argparse.ArgumentTypeError("a time such as 2026-11-22T14:00Z, of UTC unless it says otherwise, or an age: 7d")


def reason(raw: str) -> str:
    if not visible(raw):
        raise argparse.ArgumentTypeError("a few words that say why, such as 'incident 42'")
    return raw


def metrics_file(raw: str) -> Path:
    if not raw.endswith(".prom"):
        raise argparse.ArgumentTypeError("a file whose name ends in .prom: the textfile collector reads no other")
    return _path(raw)


def ping_url(raw: str) -> str:
    """An address, or what a file holds of which the name follows an @: other users see the arguments of a process."""
    url = _held(raw[1:]) if raw.startswith("@") else raw
    if not is_web_address(url):
        raise argparse.ArgumentTypeError(_ADDRESS)
    return url


def _held(file: str) -> str:
    """The beginning of what a file holds: some, such as devices, have no end."""
    try:
        with _path(file).open(encoding="ascii") as opened:
            return opened.read(_MOST_ADDRESS).strip()
    except (OSError, ValueError):
        raise argparse.ArgumentTypeError(f"{_ADDRESS}; that file cannot be read") from None


def _path(raw: str) -> Path:
    """With the home folder for `~`, which no shell puts there behind an `@` or `=`."""
    try:
        return Path(raw).expanduser()
    except RuntimeError:  # there is none
        return Path(raw)
