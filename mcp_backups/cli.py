"""The command line: `mcp-backups` serves MCP over standard input and output; its commands look after the rest."""

import argparse
import re
import sys
from collections.abc import Sequence
from functools import partial

from mcp_backups import __version__
from mcp_backups.errors import BackupsError, ConfigError

_EXIT_CONFIG = 2
_LAST_PORT = 65535
_MOST_HOURS = 8760


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done, 1 failed, 2 wrong usage or settings."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except ConfigError as error:
        print(f"mcp-backups: {error.what}", file=sys.stderr)
        return _EXIT_CONFIG
    except BackupsError as error:
        print(f"mcp-backups: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mcp-backups",
        description="An MCP server that lets AI agents look after the backups of VPS.org servers.",
        epilog="Without a command it serves MCP over standard input and output, as MCP clients start it.",
    )
    parser.add_argument("--version", action="version", version=f"mcp-backups {__version__}")
    parser.add_argument("--sandbox", action="store_true", help="serve an emulated account: no token, no network")
    _add_backup_seconds(parser)
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve MCP; with --http for any number of clients on this machine")
    serve.add_argument("--http", action="store_true", help="over Streamable HTTP instead of standard input and output")
    serve.add_argument("--host", default="127.0.0.1", help="address on this machine; 127.0.0.1 by default")
    serve.add_argument("--port", type=_port, default=8765, help="port, 8765 by default; 0 takes a free one")
    serve.add_argument("--sandbox", action="store_true", default=argparse.SUPPRESS, help="serve an emulated account")
    serve.set_defaults(run=_serve)

    sandbox = commands.add_parser("sandbox", help="run the emulated VPS.org API alone, for any client")
    sandbox.add_argument("--port", type=_port, default=0, help="port on this machine; 0, the default, takes a free one")
    _add_backup_seconds(sandbox)
    sandbox.set_defaults(run=_sandbox)

    demo = commands.add_parser("demo", help="show what an agent sees, on the sandbox")
    demo.add_argument("--json", action="store_true", help="print the same as JSON")
    demo.set_defaults(run=_demo)

    check = commands.add_parser(
        "check",
        help="check that every server has a fresh good backup",
        epilog="Exit codes: 0 every server has one, 1 not every, 2 wrong usage or settings, 3 it cannot be told.",
    )
    check.add_argument("--max-age", type=_hours, default=24, metavar="AGE", help="such as 36h or 7d; 24h by default")
    check.add_argument("--server", type=_count, default=0, metavar="ID", help="one server alone; all by default")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(run=_check)

    operations = commands.add_parser("operations", help="list the last operations")
    operations.add_argument("--limit", type=_count, default=20, help="how many, 20 by default")
    operations.add_argument("--json", action="store_true", help="print JSON lines")
    operations.set_defaults(run=_operations)
    settle = operations.add_subparsers(title="commands", metavar="COMMAND").add_parser(
        "settle",
        help="record what became of an operation whose outcome is unknown",
        description="Record what you found out about an operation whose outcome is unknown: its server opens again.",
    )
    settle.add_argument("operation", help="its id")
    settle.add_argument(
        "--as", dest="verdict", choices=["succeeded", "failed"], required=True, help="it took effect, or it did not"
    )
    settle.set_defaults(run=_settle)

    audit = commands.add_parser("audit", help="show, verify or export the log of what was done")
    audit.add_argument("operation", nargs="?", default="", help="id of one operation; all by default")
    form = audit.add_mutually_exclusive_group()
    form.add_argument("--verify", action="store_true", help="only check that nothing was changed or taken out")
    form.add_argument("--export", action="store_true", help="print every event as a JSON line")
    audit.set_defaults(run=_audit)
    return parser


def _add_backup_seconds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backup-seconds", type=float, default=8.0, metavar="S", help="how long a sandbox backup takes; 8 by default"
    )


def _port(raw: str) -> int:
    port = int(raw)
    if not 0 <= port <= _LAST_PORT:
        raise argparse.ArgumentTypeError("a port is from 0 to 65535")
    return port


def _count(raw: str) -> int:
    count = int(raw)
    if count < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return count


def _hours(raw: str) -> int:
    match = re.fullmatch(r"([0-9]{1,4})([hd])", raw)
    hours = int(match[1]) * (24 if match[2] == "d" else 1) if match else 0
    if not 1 <= hours <= _MOST_HOURS:
        raise argparse.ArgumentTypeError("an age from 1h to 365d, such as 36h or 7d")
    return hours


def _serve(options: argparse.Namespace) -> None:
    from mcp_backups.logs import configure_logging
    from mcp_backups.settings import load_settings

    settings = load_settings()
    configure_logging(settings.log_level, settings.vps_api_token)
    import anyio

    from mcp_backups.transport import open_desk, open_sandbox_desk, sealing_key, serve_http, serve_stdio

    if options.sandbox:
        desk, key = partial(open_sandbox_desk, settings, options.backup_seconds), None
    else:
        desk, key = partial(open_desk, settings), sealing_key(settings.state_dir)
    if getattr(options, "http", False):
        anyio.run(serve_http, desk, options.host, options.port, key)
    else:
        anyio.run(serve_stdio, desk, key)


def _sandbox(options: argparse.Namespace) -> None:
    from mcp_backups.sandbox import run

    run(options.port, backup_seconds=options.backup_seconds)


def _demo(options: argparse.Namespace) -> int:
    from mcp_backups.demo import run

    return run(as_json=options.json)


def _check(options: argparse.Namespace) -> int:
    from datetime import timedelta

    from mcp_backups.check import check
    from mcp_backups.settings import load_settings

    if options.sandbox:
        raise ConfigError("check reads the account that the settings name; --sandbox does not go with it.")
    settings = load_settings()
    return check(settings, timedelta(hours=options.max_age), options.server, as_json=options.json)


def _operations(options: argparse.Namespace) -> int:
    from mcp_backups.audit import show_operations
    from mcp_backups.settings import load_settings

    return show_operations(load_settings(), options.limit, as_json=options.json)


def _settle(options: argparse.Namespace) -> None:
    import anyio

    from mcp_backups.clock import system_clock
    from mcp_backups.operations.ledger import Ledger
    from mcp_backups.operations.presence import Presence
    from mcp_backups.operations.unsettled import settle_by_word
    from mcp_backups.settings import load_settings

    folder = load_settings().state_dir
    ledger = Ledger(folder, system_clock().wall)
    try:
        settled = anyio.run(partial(settle_by_word, ledger, Presence(folder), options.operation, options.verdict))
    finally:
        ledger.close()
    print(f"{settled.id} ({settled.action} on server {settled.server_id}) is recorded as {settled.status}.")


def _audit(options: argparse.Namespace) -> int:
    from mcp_backups.audit import export_events, show_events, verify
    from mcp_backups.settings import load_settings

    settings = load_settings()
    if options.verify:
        return verify(settings)
    return (export_events if options.export else show_events)(settings, options.operation)
