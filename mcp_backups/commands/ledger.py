"""`mcp-backups ledger`: accept a loss, migrate the database, copy the file to it."""

import sys
from contextlib import closing

import anyio

from mcp_backups.clock import system_clock
from mcp_backups.errors import ConfigError
from mcp_backups.ledger import ledger_for
from mcp_backups.operations import Operation
from mcp_backups.settings import Settings
from mcp_backups.text import plural, visible


def accept(settings: Settings) -> None:
    """Go on although part of the ledger is missing."""
    with closing(ledger_for(settings, Operation, system_clock())) as ledger:
        missing = anyio.run(ledger.accept)
    if missing:
        _say(f"Accepted, and recorded: {missing}. The ledger goes on from what is there.")
    else:
        _say("Nothing that was recorded here is missing: there is nothing to accept.")


def migrate(settings: Settings, serving_role: str) -> None:
    """Bring the database's tables to this version, and let a role serve with them."""
    from mcp_backups.ledger.postgres_session import migrate_database  # noqa: PLC0415 - needs an extra

    before, now = migrate_database(_url(settings), serving_role)
    done = f"are at version {now} already" if before == now else f"were brought from version {before} to {now}"
    _say(f"The ledger's tables {done}; {visible(serving_role)} may serve with them.")


def copy(settings: Settings) -> None:
    """Copy the ledger of the state folder to the database, and mark its file as moved."""
    from mcp_backups.ledger.moving import copy_to_postgres  # noqa: PLC0415 - needs an extra

    url = _url(settings)
    if settings.key_file is None:  # load_settings sees to it
        raise ConfigError("MCP_BACKUPS_KEY_FILE is not set.")
    copied = copy_to_postgres(settings.state_dir, settings.key_file, url, Operation)
    _say(
        f"Copied and verified: {plural(copied.events, 'event')}, {plural(copied.operations, 'operation')},"
        f" {plural(copied.plans, 'plan')}. The file is marked as moved; no process writes to it any more."
    )


def _url(settings: Settings) -> str:
    if settings.ledger_url is None:
        raise ConfigError("MCP_BACKUPS_LEDGER_URL is not set: it names the database.")
    return settings.ledger_url.get_secret_value()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
