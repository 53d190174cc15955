"""The command line: `mcp-backups` serves MCP over standard input and output; its commands look after the rest."""

import argparse
import gc
import logging
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mcp_backups import __version__
from mcp_backups.commands.usage import (
    DEFAULT_ADDRESS,
    EXITS,
    HELP,
    count,
    host,
    hours,
    metrics_file,
    ping_url,
    port,
    reason,
    seconds,
    since,
    where_to_listen,
)
from mcp_backups.errors import BackupsError, ConfigError, extra_missing
from mcp_backups.logs import LineFormatter
from mcp_backups.stdio import drop_output, open_closed_streams
from mcp_backups.text import visible

if TYPE_CHECKING:
    from mcp_backups.metrics import Prometheus
    from mcp_backups.settings import Settings

_EXIT_CONFIG = 2
_EXIT_PIPE = 141
"""What shells tell of a program that a closed pipe has ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done, 1 failed, 2 wrong usage or settings; `check` has 3 too."""
    open_closed_streams()
    options = _parser().parse_args(arguments)
    if logging.lastResort:  # what writes where no log is set up
        logging.lastResort.setFormatter(LineFormatter())
    try:
        code = options.run(options) or 0
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads the output, such as `head`, has seen enough
        drop_output()
        return _EXIT_PIPE
    except ConfigError as error:
        return _failed(error.what, _EXIT_CONFIG)
    except BackupsError as error:
        return _failed(str(error), 1)
    except OSError as error:  # the machine, not the account: no home, no temporary folder, a folder that is gone
        drop_output()
        where = f" ({error.filename})" if error.filename else ""
        return _failed(f"The system does not let it: {error.strerror or error}{where}.", _EXIT_CONFIG)
    except KeyboardInterrupt:
        return 130
    return int(code)


def _failed(what: str, code: int) -> int:
    print(f"mcp-backups: {visible(what)}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """One that tells a terminal nothing of an argument that the terminal would obey; its commands' parsers do alike."""

    def error(self, message: str) -> NoReturn:
        super().error(visible(message))


def _parser() -> "_Parser":
    parser = _Parser(
        prog="mcp-backups",
        description="An MCP server that lets AI agents look after the backups of VPS.org servers.",
        epilog="Without a command it serves MCP over standard input and output, as MCP clients start it. New here? Try"
        f" `mcp-backups demo`, then `mcp-backups config`, then `mcp-backups doctor`. {EXITS}",
    )
    parser.add_argument("--version", action="version", version=f"mcp-backups {__version__}")
    parser.add_argument("--sandbox", action="store_true", help="serve an emulated account: no token, no network")
    _add_backup_seconds(parser)
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    _add_servers(commands)
    _add_checks(commands)
    _add_approvals(commands)
    _add_tokens(commands)
    _add_records(commands)
    return parser


def _command(commands: "argparse._SubParsersAction[_Parser]", name: str) -> "_Parser":
    """A command with its help: a line in the list, more on its own page."""
    does, more, exits = HELP[name]
    return commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}. {more}", epilog=exits)


def _add_servers(commands: "argparse._SubParsersAction[_Parser]") -> None:
    serve = _command(commands, "serve")
    _add_account(serve)
    serve.add_argument("--http", action="store_true", help="over Streamable HTTP instead of standard input and output")
    serve.add_argument(
        "--host", type=host, help="address to listen on; 127.0.0.1 by default", default=argparse.SUPPRESS
    )
    serve.add_argument("--port", type=port, help="port, 8765 by default; 0 takes a free one", default=argparse.SUPPRESS)
    serve.add_argument(
        "--socket", type=Path, metavar="FILE", help="a Unix socket instead, for a proxy", default=argparse.SUPPRESS
    )
    serve.add_argument(
        "--log-format", choices=["text", "json"], default="text", help="of the log on standard error; text by default"
    )
    serve.add_argument("--sandbox", action="store_true", default=argparse.SUPPRESS, help="serve an emulated account")
    serve.set_defaults(run=_serve)

    sandbox = _command(commands, "sandbox")
    sandbox.add_argument("--port", type=port, default=0, help="port on this machine; 0, the default, takes a free one")
    _add_backup_seconds(sandbox)
    sandbox.set_defaults(run=_sandbox)

    demo = _command(commands, "demo")
    demo.add_argument("--json", action="store_true", help="print the same as JSON")
    demo.add_argument("--svg", type=Path, metavar="FILE", help="draw a picture of it too")
    demo.set_defaults(run=_demo)


def _add_checks(commands: "argparse._SubParsersAction[_Parser]") -> None:
    check = _command(commands, "check")
    _add_account(check)
    check.add_argument("--max-age", type=hours, default=24, metavar="AGE", help="such as 36h or 7d; 24h by default")
    check.add_argument("--server", type=count, default=0, metavar="ID", help="one server alone; all by default")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.add_argument(
        "--prometheus", type=metrics_file, metavar="FILE", help="write a .prom file for the textfile collector too"
    )
    check.add_argument(
        "--ping", type=ping_url, metavar="URL", help="tell a monitor such as healthchecks.io; @FILE holds that URL"
    )
    check.set_defaults(run=_check)

    doctor = _command(commands, "doctor")
    _add_account(doctor)
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.set_defaults(run=_doctor)

    config = _command(commands, "config")
    config.add_argument("client", nargs="?", default="", metavar="CLIENT", help="such as cursor; none lists them all")
    _add_account(config)
    config.add_argument("--name", default="backups", help="what the server is called there; backups by default")
    config.add_argument("--write", action="store_true", help="put it into the client's file")
    config.add_argument("--token-in-file", action="store_true", help="with --write: the token too, in plain text")
    config.add_argument(
        "--sandbox", action="store_true", default=argparse.SUPPRESS, help="for a server on an emulated account"
    )
    config.add_argument(
        "--http", nargs="?", const=DEFAULT_ADDRESS, default="", metavar="URL", help="for one that serves over HTTP"
    )
    config.set_defaults(run=_config)


def _add_approvals(commands: "argparse._SubParsersAction[_Parser]") -> None:
    approvals = _command(commands, "approvals")
    _add_account(approvals)
    approvals.add_argument("--json", action="store_true", help="print JSON lines")
    approvals.add_argument("--watch", action="store_true", help="print it anew whenever it changes, until Ctrl-C")
    approvals.set_defaults(run=_approvals)
    for name, run in (("approve", _approve), ("decline", _decline)):
        decision = _command(commands, name)
        decision.add_argument("operation", help="its id")
        if name == "decline":
            decision.add_argument("--reason", default="", help="why; whoever asked is told")
        decision.set_defaults(run=run)
    freeze = _command(commands, "freeze")
    freeze.add_argument("--reason", type=reason, required=True, help="why; whoever asks for something is told")
    freeze.set_defaults(run=_freeze)
    _command(commands, "thaw").set_defaults(run=_thaw)

    console = _command(commands, "console")
    _add_account(console)
    console.add_argument("--host", type=host, default="127.0.0.1", help="address on this machine; 127.0.0.1 by default")
    console.add_argument("--port", type=port, default=8766, help="port, 8766 by default; 0 takes a free one")
    console.add_argument("--socket", type=Path, metavar="FILE", help="a Unix socket instead, for a login in front")
    console.add_argument("--no-browser", action="store_true", help="open no browser")
    console.set_defaults(run=_console)


def _add_tokens(commands: "argparse._SubParsersAction[_Parser]") -> None:
    tokens = _command(commands, "tokens").add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = _command(tokens, "add")
    add.add_argument("name", help="who it is for")
    add.add_argument("--role", choices=["read", "write", "destroy"], required=True, help="what they may do")
    add.set_defaults(run=_add_token)
    _command(tokens, "list").set_defaults(run=_list_tokens)
    remove = _command(tokens, "remove")
    remove.add_argument("name", help="who it was for")
    remove.set_defaults(run=_remove_token)


def _add_records(commands: "argparse._SubParsersAction[_Parser]") -> None:
    operations = _command(commands, "operations")
    operations.add_argument("--limit", type=count, default=20, help="how many, 20 by default")
    _add_account(operations)
    operations.add_argument("--server", type=count, default=0, metavar="ID", help="only those of this server")
    operations.add_argument("--since", type=since, metavar="WHEN", help="only later ones: 7d, 36h or 2026-11-22T14:00Z")
    operations.add_argument("--principal", metavar="NAME", help="only what this one asked for over HTTP")
    operations.add_argument("--json", action="store_true", help="print JSON lines")
    operations.set_defaults(run=_operations)
    settle = _command(operations.add_subparsers(title="commands", metavar="COMMAND"), "settle")
    settle.add_argument("operation", help="its id")
    settle.add_argument(
        "--as", dest="verdict", choices=["succeeded", "failed"], required=True, help="it took effect, or it did not"
    )
    settle.set_defaults(run=_settle)

    ledger = _command(commands, "ledger").add_subparsers(title="commands", metavar="COMMAND", required=True)
    for task in ("accept", "copy", "migrate"):
        command = _command(ledger, task)
        command.set_defaults(run=_of_ledger, task=task)
        if task == "migrate":
            command.add_argument("--for", dest="role", required=True, help="whom servers log in as")

    audit = _command(commands, "audit")
    _add_account(audit)
    audit.add_argument("operation", nargs="?", default="", help="id of one operation; all by default")
    form = audit.add_mutually_exclusive_group()
    form.add_argument("--verify", action="store_true", help="only check that nothing was changed or taken out")
    form.add_argument("--export", action="store_true", help="print every event as a JSON line")
    audit.set_defaults(run=_audit)


def _add_account(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--account", default="", metavar="NAME", help="one of several that the settings file names")


def _add_backup_seconds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backup-seconds", type=seconds, default=8.0, metavar="S", help="how long a sandbox backup takes; 8 by default"
    )


def _serve(options: argparse.Namespace) -> None:
    if sys.flags.optimize > 1:
        raise ConfigError(
            "PYTHONOPTIMIZE=2 (python -OO) takes away the descriptions that tools are chosen by: set it to 1 at most."
        )
    gc.disable()  # nothing that is imported is garbage, and looking for some takes a tenth of the start
    from mcp_backups.logs import configure_logging

    is_http, where = getattr(options, "http", False), where_to_listen(options)
    settings = _served_settings(options, is_http=is_http)
    configure_logging(settings.log_level, *settings.secrets, as_json=getattr(options, "log_format", "") == "json")
    opened = None
    if not is_http:
        from mcp_backups.opening import open_session

        opened = open_session(settings)
    import anyio

    from mcp_backups.transport import (
        GetKey,
        OpenContext,
        open_context,
        open_sandbox_context,
        sealing_key,
        serve_http,
        serve_stdio,
    )

    metrics = _metrics() if is_http else None

    def context(served: "Settings") -> OpenContext:
        meter = metrics.of(served.account) if metrics else None
        if options.sandbox:
            return partial(open_sandbox_context, served, options.backup_seconds, meter)
        return partial(open_context, served, meter=meter)

    key: GetKey = (lambda: None) if options.sandbox else partial(sealing_key, settings.state_dir, settings.key_file)
    gc.freeze()
    gc.enable()
    if is_http:
        contexts = {each.account: context(each) for each in settings.for_each_account()}
        anyio.run(serve_http, settings, contexts, *where, key, metrics)
    else:
        anyio.run(serve_stdio, context(settings), key, opened)


def _served_settings(options: argparse.Namespace, *, is_http: bool) -> "Settings":
    """The settings of what is served: over HTTP every account, else the one that is named."""
    from mcp_backups.settings import load_settings

    settings, account = load_settings(), getattr(options, "account", "")
    if options.sandbox:
        if account:
            raise ConfigError("--account names one of the settings file; --sandbox does not go with it.")
        return settings.model_copy(update={"accounts": {}})
    if not is_http:
        return settings.for_account(account)
    if account:
        raise ConfigError("--http serves each account at an address of its own; --account does not go with it.")
    return settings


def _settings(options: argparse.Namespace, command: str) -> "Settings":
    """The settings for a command on the ledger, which holds every account; of one alone where it is named."""
    from mcp_backups.settings import load_settings

    _refuse_sandbox(options, command)
    settings, account = load_settings(), getattr(options, "account", "")
    return settings.for_account(account) if account else settings


def _settings_of_one(options: argparse.Namespace, command: str) -> "Settings":
    """The settings for a command on VPS.org: of the account that is named, or of the only one."""
    return _settings(options, command).for_account(options.account)


def _metrics() -> "Prometheus | None":
    from mcp_backups.metrics import Prometheus

    try:
        return Prometheus()
    except ImportError:  # it is an extra
        return None


def _sandbox(options: argparse.Namespace) -> None:
    from mcp_backups.sandbox import run

    run(options.port, backup_seconds=options.backup_seconds)


def _demo(options: argparse.Namespace) -> int:
    from mcp_backups.commands.demo import run

    return run(as_json=options.json, svg=options.svg)


def _check(options: argparse.Namespace) -> int:
    from datetime import timedelta

    from mcp_backups.commands.check import check

    return check(
        _settings_of_one(options, "check"),
        timedelta(hours=options.max_age),
        options.server,
        as_json=options.json,
        metrics=options.prometheus,
        ping=options.ping,
    )


def _doctor(options: argparse.Namespace) -> int:
    from mcp_backups.commands.doctor import doctor

    _refuse_sandbox(options, "doctor")
    return doctor(as_json=options.json, account=options.account)


def _config(options: argparse.Namespace) -> int:
    from mcp_backups.commands.config import configure, list_clients

    if not options.client:
        return list_clients()
    return configure(
        options.client,
        write=options.write,
        token_in_file=options.token_in_file,
        sandbox=options.sandbox,
        name=options.name,
        http=options.http,
        account=options.account,
    )


def _add_token(options: argparse.Namespace) -> None:
    from mcp_backups.commands.tokens import add

    add(_settings(options, "tokens").state_dir, options.name, options.role)


def _list_tokens(options: argparse.Namespace) -> None:
    from mcp_backups.commands.tokens import show

    show(_settings(options, "tokens").state_dir)


def _remove_token(options: argparse.Namespace) -> None:
    from mcp_backups.commands.tokens import remove

    remove(_settings(options, "tokens").state_dir, options.name)


def _refuse_sandbox(options: argparse.Namespace, command: str) -> None:
    if options.sandbox:
        raise ConfigError(f"{command} reads the account that the settings name; --sandbox does not go with it.")


def _approvals(options: argparse.Namespace) -> int:
    from mcp_backups.commands.approvals import show_approvals

    return show_approvals(_settings(options, "approvals"), as_json=options.json, watch=options.watch)


def _approve(options: argparse.Namespace) -> int:
    from mcp_backups.commands.approvals import approve, system_user

    return approve(_settings(options, "approve"), options.operation, system_user())


def _decline(options: argparse.Namespace) -> int:
    from mcp_backups.commands.approvals import decline, system_user

    return decline(_settings(options, "decline"), options.operation, options.reason, system_user())


def _freeze(options: argparse.Namespace) -> int:
    from mcp_backups.commands.approvals import system_user
    from mcp_backups.commands.freeze import freeze

    return freeze(_settings(options, "freeze"), system_user(), options.reason)


def _thaw(options: argparse.Namespace) -> int:
    from mcp_backups.commands.approvals import system_user
    from mcp_backups.commands.freeze import thaw

    return thaw(_settings(options, "thaw"), system_user())


def _console(options: argparse.Namespace) -> None:
    from mcp_backups.logs import configure_logging

    settings = _settings_of_one(options, "console")
    try:
        from mcp_backups.console import serve_console
    except ModuleNotFoundError as missing:
        if missing.name != "jinja2":
            raise
        raise extra_missing("The console", "console") from None
    configure_logging(settings.log_level, *settings.secrets)
    serve_console(settings, options.host, options.port, options.socket, browser=not options.no_browser)


def _operations(options: argparse.Namespace) -> int:
    from mcp_backups.commands.audit import show_operations

    settings = _settings(options, "operations")
    asked = {"principal": options.principal, "server_id": options.server, "since": options.since}
    return show_operations(settings, options.limit, as_json=options.json, **asked)


def _settle(options: argparse.Namespace) -> None:
    import anyio

    from mcp_backups.clock import system_clock
    from mcp_backups.ledger import ledger_for
    from mcp_backups.operations import Operation
    from mcp_backups.operations.reconciliation import settle_by_word
    from mcp_backups.settings import load_settings

    _refuse_sandbox(options, "operations")
    with closing(ledger_for(load_settings(), Operation, system_clock())) as ledger:
        settled = anyio.run(partial(settle_by_word, ledger, ledger.liveness, options.operation, options.verdict))
    print(f"{visible(settled.id)} ({settled.action} on server {settled.server_id}) is recorded as {settled.status}.")


def _of_ledger(options: argparse.Namespace) -> None:
    from mcp_backups.commands import ledger
    from mcp_backups.settings import load_settings

    _refuse_sandbox(options, "ledger")
    if options.task == "migrate":
        ledger.migrate(load_settings(needs_key=False), options.role)
    else:
        {"accept": ledger.accept, "copy": ledger.copy}[options.task](load_settings())


def _audit(options: argparse.Namespace) -> int:
    from mcp_backups.commands.audit import export_events, show_events, verify

    settings = _settings(options, "audit")
    if settings.account and (options.verify or options.export):
        raise ConfigError("--verify and --export are about the whole log, of every account; leave --account out.")
    if options.verify:
        return verify(settings)
    return (export_events if options.export else show_events)(settings, options.operation)
