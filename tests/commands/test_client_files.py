"""A client's file: another's entry is left alone, nothing but our own entry changes by a byte, no secret gets about."""

import json
import os
import re
import stat
import struct
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mcp_backups.commands.config import configure, jsonc
from mcp_backups.commands.config.catalogue import CLIENTS, Client, Machine
from mcp_backups.commands.config.files import LeftAloneError, replace_file
from mcp_backups.commands.config.forms import entry
from mcp_backups.commands.config.launch import INSTALLED, Launch
from mcp_backups.commands.config.merge import entry_in, is_ours, merged
from mcp_backups.commands.config.yaml_text import drop_from_yaml

TOKEN = "vps_tests_own_token"

pytestmark = pytest.mark.usefixtures("settings_file")
BOM = "\ufeff"

BY_KEY = {client.key: client for client in CLIENTS}
IN_JSON = [client for client in CLIENTS if client.form == "JSON"]
CODEX, CURSOR, GOOSE = BY_KEY["codex"], BY_KEY["cursor"], BY_KEY["goose"]


def file_of(client: Client, machine: Machine, content: bytes | str = b"", mode: int = 0o600) -> Path:
    """A client's file with what it holds."""
    path = client.path(machine)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def write(client: Client, machine: Machine, **options: Any) -> int:
    chosen: dict[str, Any] = {"write": True, "token_in_file": False, "machine": machine} | options
    return configure(client.key, **chosen)


OWN_YAML = "{cmd: uvx, args: [mcp-backups]}"

JSON_FILES = {
    "empty": "",
    "blank": " \n\n",
    "byte order mark alone": BOM,
    "only comments": "// Zed settings\n//\n/* none yet */",
    "an empty object": "{}",
    "an empty section": '{\n    "SECTION": {}\n}\n',
    "comments all over": (
        '// first\n{\n  // theme: dark\n  "theme": "dark", // why not\n  /* servers */ "SECTION": {\n'
        '    "other": {"command": "npx", "args": ["//no"]} // the last one\n    // "old": {}\n  }\n  // end\n}\n//\n'
    ),
    "a comment in an empty section": '{"SECTION": { // nothing yet\n}}',
    "trailing commas": '{\n\t"SECTION": {\n\t\t"other": {"command": "npx", "args": ["a",],},\n\t},\n}\n',
    "byte order mark and CRLF": f'{BOM}{{\r\n  "SECTION": {{\r\n    "other": {{}}\r\n  }}\r\n}}\r\n',
    "one line": '{"SECTION": {"other": {"command": "npx"}}, "theme": "dark"}',
    "tabs, and no line end": '{\n\t"theme": "dark",\n\t"größe": [ 1,2 ,3 ]\n}',
    "numbers that no float holds": '{\n  "a": 1e400, "b": 123456789012345678901234567890, "c": -0.0, "d": 1.10\n}\n',
    "names that stand twice": '{\n  "a": 1,\n  "a": {"b": 1, "b": 2},\n  "SECTION": {}\n}\n',
    "odd text": '{\n  "\\u0061é😀": "\\ud800 \\/ \u2028", "m": "mcp-backups"\n}\n',
    "odd layout": '{ "a" : 1\n, "SECTION" :\n{ "other": {}, "more" : {}\n   }   }  \n\n',
    "deep": '{"a": ' + "[" * 60 + "]" * 60 + "}",
}
TOML_FILES = {
    "empty": "",
    "byte order mark alone": BOM,
    "only comments": "# none yet",
    "comments all over": "# first\nmodel = 'o' # why not\n\n[mcp_servers.other] # theirs\ncommand = 'npx'\n# end\n",
    "byte order mark and CRLF": f"{BOM}a = 1\r\n[mcp_servers.other]\r\ncommand = 'npx'\r\n",
    "no line end": "model = 'o'",
    "numbers that no float holds": "a = 1e400\nb = 123456789012345678901234567890\nc = nan\nd = -inf\ne = 1_000\n",
    "odd layout": "'größe'   =  [ 1,2 ,\n3 ]\n\n\n[a]\n\t[a.b]\n  c = { d = \"\\u00e9😀\" }\n\n",
    "arrays of tables": "[[a]]\nb = 1\n[mcp_servers.other.env]\nX = 'y'\n[[a]]\nb = 2\n",
}
YAML_FILES = {
    "empty": "",
    "byte order mark alone": BOM,
    "only comments": "# none yet",
    "nothing in the section": "GOOSE_MODEL: gpt\nextensions:\n# end\n",
    "an empty section": "extensions: {}\n",
    "an empty section, and no line end": "a: 1\nextensions:",
    "comments all over": (
        "# first\nGOOSE_MODEL: gpt # why not\n\nextensions: # theirs\n  other:\n    cmd: npx # the last one\n"
        "    args:\n    - //no\n    - '#no' # yes\n  # - old\n# end\nz: [1, {a: b}]\n"
    ),
    "byte order mark and CRLF": f"{BOM}a: 1\r\nextensions:\r\n    other:\r\n        cmd: npx\r\nb: 2\r\n",
    "no line end": "extensions:\n  other: {cmd: npx}",
    "in one line": "{a: 1, extensions: {other: {cmd: npx}}, b: 2}",
    "in one line, empty": "{}",
    "a comma at the end": "extensions: {\n  other: {cmd: npx}, # theirs\n}\n",
    "what no float holds": "a: 1e400\nb: 123456789012345678901234567890\nc: .nan\nd: 0o17\ne: 2026-99-99\nf: !x y\n",
    "long texts": "extensions:\n  other:\n    description: |+\n      a\n\n      b\n\n    e: >-\n      c\n\n\nz: 1\n",
    "a long text at the end": "a: 1\nextensions:\n  other:\n    description: |\n      a: b\n      # no comment\n",
    "references": "a: &a {cmd: npx}\nextensions:\n  other: *a\n  more:\n    <<: *a\n    args: []\n",
    "odd layout": "---\n? a\n: 1\n'größe'  :   [ 1,2 ,\n 3 ]\nextensions :\n     other :   {  }\n\n\n...\n",
    "odd text": '"\\u0061é😀": "\\x41 \\/"\nn: no\nm: mcp-backups\n',
    "an anchor nobody refers to": "extensions: &theirs\n  other: {cmd: npx}\nb: 1\n",
    "a key of its own line, and a tag": "? a\n: 1\nextensions: !x\n    true: {cmd: npx}\n",
}
FILES = [
    pytest.param(client, text.replace("SECTION", client.section), id=f"{client.key}-{name}")
    for client in CLIENTS
    for name, text in {"JSON": JSON_FILES, "TOML": TOML_FILES, "YAML": YAML_FILES}[client.form].items()
]


def is_within(before: str, after: str) -> bool:
    """Whether all that was there is there in the same order, with something put between at most."""
    rest = iter(after)
    return all(character in rest for character in before)


@pytest.mark.parametrize(("client", "before"), FILES)
def test_an_entry_is_put_between_and_nothing_else_changes_by_a_byte(
    client: Client, before: str, machine: Machine
) -> None:
    path = file_of(client, machine, before)
    assert write(client, machine) == 0
    after = path.read_bytes().decode()
    assert is_within(before, after)
    assert is_ours(entry_in(after, client, "backups"))
    assert after.startswith(BOM) == before.startswith(BOM)
    assert ("\r\n" in before) == ("\r\n" in after)
    assert "\r\n" not in after or "\n" not in after.replace("\r\n", "")
    assert after.endswith("\n") or not before.endswith("\n")
    copy = path.with_name(f"{path.name}.bak")
    assert copy.read_bytes().decode() == before
    # A second time there is nothing to do, and nothing is done.
    assert write(client, machine) == 0
    assert path.read_bytes().decode() == after
    assert sorted(each.name for each in path.parent.iterdir()) == sorted([path.name, copy.name])


RENEWED_JSON = """{
  // the old one
  "%(section)s": {"a": 1e400,
    /* ours */ "backups": {
      "command": %(command)s, // moved
      "args": %(args)s,
      "alwaysAllow": ["list_backups"], "timeout": 60.0,
      "disabled": true,
      "env": { "MCP_BACKUPS_READ_ONLY": "true", /* rule */%(token)s
        "FOREIGN": "x", },
    },
  },
}"""
RENEWED_TOML = """# mine
[mcp_servers.backups] # ours
command = %(command)s # moved
enabled = false
args = %(args)s
required = false # on purpose
startup_timeout_sec = 5.5
env_vars = %(vars)s

[mcp_servers.backups.env]
FOREIGN = "x" # theirs
%(token)s
[mcp_servers.backups.tools.list_backups]
approval_mode = "approve"

[other]
x = nan
"""
RENEWED_YAML = """# mine
%(section)s:
  a: 1e400
  backups: # ours
    name: backups
    description: mine
    type: stdio
    cmd: %(command)s # moved
    args: %(args)s
    enabled: false
    timeout: 60
    envs:
      MCP_BACKUPS_READ_ONLY: "true" # rule
%(token)s      FOREIGN: x # theirs
%(token_file)s    env_keys: %(vars)s # passed

    available_tools: [list_backups]
  z: {}
"""


def renewed(client: Client, launch: Launch, *, old: bool) -> str:
    """A file with an entry of ours as an earlier call wrote it, or as it is to be now; for people's hands between."""
    command, args = ('"uvx"', '["mcp-backups"]') if old else (json.dumps(launch.command), json.dumps(launch.arguments))
    put = launch.variables.get("VPS_API_TOKEN_FILE")
    if client.form == "YAML":
        told = {"section": client.section, "command": command, "args": args, "vars": '["HOME", "VPS_API_TOKEN"]'}
        if old:
            return RENEWED_YAML % (told | {"token": '      VPS_API_TOKEN: "old"\n', "token_file": ""})
        return RENEWED_YAML % (
            told | {"token": "", "token_file": f'      VPS_API_TOKEN_FILE: "{put}"\n', "vars": '["HOME"]'}
        )
    if client.form == "TOML":
        token = 'VPS_API_TOKEN = "old"\n' if old else f'VPS_API_TOKEN_FILE = "{put}"\n'
        passed = '["HOME", "VPS_API_TOKEN"]' if old else '["HOME"]'
        return RENEWED_TOML % {"command": command, "args": args, "token": token, "vars": passed}
    token = ' "VPS_API_TOKEN": "old",' if old else ""
    text = RENEWED_JSON % {"section": client.section, "command": command, "args": args, "token": token}
    return text if old else text.replace('"FOREIGN": "x",', f'"FOREIGN": "x",\n        "VPS_API_TOKEN_FILE": "{put}" ')


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "client",
    [each for each in CLIENTS if each.key not in {"opencode", "vscode", "copilot"}],
    ids=lambda each: each.key,
)
def test_of_our_own_entry_only_what_we_write_is_renewed_and_it_stays_switched_off(client: Client, end: str) -> None:
    launch = Launch("/opt/mcp-backups", (), {"VPS_API_TOKEN_FILE": "/t"}, refers=False)
    before, after = (renewed(client, launch, old=old).replace("\n", end) for old in (True, False))
    assert merged(before, client, launch).replace("  }", " }") == after.replace("  }", " }")
    assert merged(merged(before, client, launch), client, launch) == merged(before, client, launch)


@pytest.mark.parametrize(
    ("key", "own"),
    [
        ("opencode", {"type": "local", "command": ["uvx", "mcp-backups"], "enabled": False}),
        ("copilot", {"type": "local", "command": "uvx", "args": ["mcp-backups"], "tools": ["list_backups"]}),
        ("vscode", {"type": "stdio", "command": "uvx", "args": ["mcp-backups"], "envFile": ".env"}),
    ],
)
def test_what_a_user_has_set_in_our_entry_stays(key: str, own: dict[str, Any]) -> None:
    client = BY_KEY[key]
    after = jsonc.read(merged(json.dumps({client.section: {"backups": own}}), client, INSTALLED))[client.section]
    assert (
        after["backups"].items()
        >= {name: value for name, value in own.items() if name not in {"command", "args"}}.items()
    )
    assert after["backups"]["command"] == entry(client, INSTALLED)["command"]


OURS: list[dict[Any, Any]] = [
    {"command": "mcp-backups"},
    {"command": "/opt/venv/bin/mcp-backups", "args": ["--sandbox"]},
    {"command": "C:\\venv\\Scripts\\mcp-backups.exe", "args": []},
    {"command": "uvx", "args": ["mcp-backups"]},
    {"command": "/home/me/.local/bin/uvx", "args": ["mcp-backups", "--sandbox"]},
    {"command": "/usr/bin/python3.13", "args": ["-P", "-m", "mcp_backups"], "enabled": False},
    {"command": "python", "args": ["-m", "mcp_backups"], "disabled": True},
    {
        "command": "docker",
        "args": ["run", "-i", "--rm", "-e", "VPS_API_TOKEN", "-v", "mcp-backups:/state", "mcp-backups"],
    },
    {"command": ["mcp-backups"], "environment": {}},
    {"type": "local", "command": ["/venv/bin/mcp-backups", "serve", "--account", "shop"]},
    {"command": "/another/checkout/.venv/bin/mcp-backups", "url": "", True: 1},
]
ANOTHERS: list[object] = [
    {"command": "npx", "args": ["-y", "@acme/mcp-backups-s3"], "env": {"KEY": "secret"}},
    {"command": "npx", "args": ["-y", "mcp-backups"]},
    {"command": "mcp-backups-s3"},
    {"command": "/opt/mcp-backups/bin/restic-mcp"},
    {"command": "uvx", "args": ["mcp-backups-s3"]},
    {"command": "uvx", "args": ["--from", "acme", "mcp-backups"]},
    {"command": "uvx", "args": ["acme", "mcp-backups"]},
    {"command": "uvx mcp-backups"},
    {"command": "python", "args": ["-m", "mcp_backups_s3"]},
    {"command": "python", "args": ["server.py", "-m", "mcp_backups"]},
    {"command": "docker", "args": ["run", "-i", "acme/mcp-backups"]},
    {"command": "docker", "args": ["run", "-e", "mcp-backups", "acme"]},
    {"command": "sh", "args": ["-c", "mcp-backups"]},
    {"command": ["npx", "mcp-backups"]},
    {"command": "env", "args": ["X=1", "mcp-backups"]},
    {"command": "cmd", "args": ["/c", "mcp-backups"]},
    {"command": "bash", "args": ["-lc", "exec mcp-backups"]},
    {"command": "uvx", "args": ["mcp-backups@0.0.9"]},
    {"command": "uvx", "args": ["mcp-backups", "--from", "acme"]},
    {"command": "uv", "args": ["tool", "run", "mcp-backups"]},
    {"command": "mcp-backups", "args": ["--bucket", "s3://acme", "--key", "secret"]},
    {"command": "/opt/acme/mcp-backups", "args": ["--stdio"]},
    {"command": "mcp-backups", "args": ["--sandbox", "--backup-seconds", "2"]},
    {"command": ["mcp-backups"], "args": ["acme"]},
    {"command": "mcp-backups", "cmd": "npx"},
    {"command": "python", "args": ["-m", "mcp_backups", "acme"]},
    {"command": "docker", "args": ["run", "--name", "mcp-backups", "acme"]},
    {"command": "docker", "args": ["run", "--entrypoint=acme", "mcp-backups"]},
    {"command": "docker", "args": ["run", "-i", "--rm", "mcp-backups", "acme"]},
    {"command": "docker", "args": ["exec", "mcp-backups", "acme"]},
    {"command": "docker", "args": ["run", "-i"]},
    {"type": "sse", "command": "mcp-backups"},
    {"command": "mcp-backups", "serverURL": "https://acme.example/mcp"},
    {"command": {"path": "mcp-backups"}},
    {"command": "mcp-backups", "url": "https://acme.example/mcp"},
    {"command": "mcp-backups", "args": "s3"},
    {"url": "https://mcp-backups.example/mcp"},
    {"httpUrl": "http://127.0.0.1:8765/mcp"},
    {"command": []},
    {},
    None,
    "mcp-backups",
    ["mcp-backups"],
]


@pytest.mark.parametrize("own", OURS, ids=str)
def test_an_entry_with_a_command_that_we_write_is_ours(own: dict[Any, Any]) -> None:
    assert is_ours(own)


@pytest.mark.parametrize("theirs", ANOTHERS, ids=json.dumps)
@pytest.mark.parametrize("key", ["cursor", "vscode", "opencode"])
def test_another_servers_entry_is_left_alone_and_another_name_is_offered(
    key: str, theirs: object, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    client = BY_KEY[key]
    before = json.dumps({client.section: {"backups": theirs}})
    path = file_of(client, machine, before)
    assert write(client, machine) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert "--name" in err
    assert [each.read_text() for each in path.parent.iterdir()] == [before]
    assert write(client, machine, name="vps-backups") == 0
    assert jsonc.read(path.read_text())[client.section]["backups"] == theirs


@pytest.mark.parametrize(
    "theirs", ["command = 'npx'\nargs = ['-y', 'mcp-backups']", "url = 'https://a.example'", "", "command = 'restic'"]
)
def test_so_it_is_in_toml(theirs: str, machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    before = f"[mcp_servers.backups]\n{theirs}\n"
    path = file_of(CODEX, machine, before)
    assert write(CODEX, machine) == 1
    assert "--name" in capsys.readouterr().err
    assert [each.read_text() for each in path.parent.iterdir()] == [before]


@pytest.mark.parametrize(
    ("key", "content", "reason"),
    [
        ("zed", '{\n  "theme": dark\n}', "not valid JSON in line 2"),
        ("zed", "{'theme': 1}", "not valid JSON in line 1"),
        ("zed", '{"a": 1 "b": 2}', "not valid JSON in line 1"),
        ("cursor", '{"a": NaN}', "not valid JSON in line 1"),
        ("cursor", '{"a": 01}', "not valid JSON in line 1"),
        ("cursor", '{"a": "b\n"}', "not valid JSON in line 1"),
        ("cursor", '{"a": 1}\n{}', "not valid JSON in line 2"),
        ("cursor", '{"a": [1, 2', "not valid JSON where it ends"),
        ("cursor", "/* no end", "not valid JSON in line 1"),
        ("cursor", "{,}", "not valid JSON in line 1"),
        ("cursor", "\0", "not valid JSON in line 1"),
        ("cursor", "[" * 100_000, "nested too deeply"),
        ("cursor", "[]", "no JSON object"),
        ("cursor", '{"mcpServers": []}', "'mcpServers' is no object"),
        ("cursor", '{"mcpServers": null}', "'mcpServers' is no object"),
        ("cursor", '{"mcpServers": {}, "mcpServers": {}}', "'mcpServers' stands there twice"),
        ("vscode", '{"inputs": {}}', "'inputs' is no list"),
        ("goose", "a: b: c\n", "not valid YAML in line 1"),
        ("goose", "a: 1\n\tb: 2\n", "not valid YAML in line 2"),
        ("goose", "a: 1\n---\nb: 2\n", "not valid YAML in line 2"),
        ("goose", "- a\n", "no YAML mapping"),
        ("goose", "a\n", "no YAML mapping"),
        ("goose", "\0", "not valid YAML"),
        ("goose", "[" * 100_000, "not valid YAML"),
        ("goose", "extensions: 1\n", "'extensions' is no object"),
        ("goose", "extensions: [a]\n", "'extensions' is no object"),
        ("goose", "extensions: {}\nextensions: {}\n", "'extensions' stands there twice"),
        ("goose", "a: &a {}\nextensions: *a\n", "something else in it would change"),
        ("goose", f"extensions:\n  backups: &a {OWN_YAML}\n  z: *a\n", "something else in it would change"),
        ("goose", f"a: &a {OWN_YAML}\nextensions:\n  backups: *a\n", "something else in it would change"),
        ("goose", "extensions: &a\n  b: {}\nz: *a\n", "something else in it would change"),
        ("goose", "[1]: 2\n", "not valid YAML"),
        ("codex", "a = = 1", "not valid TOML in line 1"),
        ("codex", "a = 1\na = 2", "not valid TOML"),
        ("codex", f"a = {'9' * 5000}", "not valid TOML"),
        ("codex", "mcp_servers = 1", "'mcp_servers' is no object"),
        ("codex", "mcp_servers = { other = { command = 'npx' } }", "takes no further table."),
        ("cursor", b"\xff\xfe{\0}\0", "no UTF-8 text"),
        ("codex", b"a = '\xe4'", "no UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_kept_is_left_alone_and_the_form_is_printed(
    key: str, content: bytes | str, reason: str, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    client = BY_KEY[key]
    path = file_of(client, machine, content)
    assert write(client, machine) == 1
    said = capsys.readouterr()
    assert reason in said.err
    assert len(said.err.splitlines()) == 1
    assert is_ours(entry_in(said.out, client, "backups"))
    assert [each.read_bytes() for each in path.parent.iterdir()] == [
        content if isinstance(content, bytes) else content.encode()
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(), JSON, max_size=4),
    st.sampled_from(IN_JSON),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([None, 1, 2, "\t"]),
)
def test_whatever_a_json_file_holds_is_there_afterwards(
    content: dict[str, Any], client: Client, end: str, indent: int | str | None
) -> None:
    before = json.dumps(content, indent=indent).replace("\n", end)
    try:
        after = merged(before, client, INSTALLED)
    except LeftAloneError:
        assert isinstance(content.get(client.section, {}), dict) is False or "inputs" in content
        return
    assert is_within(before, after)
    mine = {client.section, "inputs"} if client.key == "vscode" else {client.section}
    assert {name: value for name, value in json.loads(after).items() if name not in mine} == {
        name: value for name, value in content.items() if name not in mine
    }


@given(
    st.dictionaries(st.text(), JSON, max_size=4),
    st.none() | st.dictionaries(st.text(), JSON, max_size=3),
    st.sampled_from([True, False, None]),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 6),
)
def test_so_it_is_in_yaml(
    content: dict[str, Any], others: dict[str, Any] | None, flow: bool | None, end: str, indent: int
) -> None:
    content = content if others is None else content | {GOOSE.section: others}
    dumped = yaml.safe_dump(content, default_flow_style=flow, indent=indent, allow_unicode=True, sort_keys=False)
    before = dumped.replace("\n", end)
    try:
        after = merged(before, GOOSE, INSTALLED)
    except LeftAloneError:
        assert not isinstance(content.get(GOOSE.section, {}), dict)
        return
    assert is_within(before, after)
    was, now = (yaml.load(text, yaml.BaseLoader) for text in (before, after))
    assert is_ours(now[GOOSE.section].pop("backups"))
    assert was | {GOOSE.section: now[GOOSE.section]} == now
    assert now[GOOSE.section] == (was.get(GOOSE.section) or {})


@pytest.mark.parametrize(
    ("text", "gone", "left"),
    [
        ("a:\n  b: 1 # b\n  # c\n  c: 2\n", "b", "a:\n  # c\n  c: 2\n"),
        ("a:\n  b: 1\n  c:\n  - 2\n  - 3\nd: 4", "c", "a:\n  b: 1\nd: 4"),
        ("a:\n  b: |\n    x\n\n  c: 2", "c", "a:\n  b: |\n    x\n\n"),
        ("a:\n  b: 1\nd: 4\n", "b", "a: {}\nd: 4\n"),
        ("a: {b: 1, c: 2, d: 3}\n", "b", "a: {c: 2, d: 3}\n"),
        ("a: {b: 1, c: [2], d: 3}\n", "c", "a: {b: 1, d: 3}\n"),
        ("a: {b: 1, c: 2, d: 3,}\n", "d", "a: {b: 1, c: 2,}\n"),
        ("a: {b: 1}\n", "b", "a: {}\n"),
        ("a: {b: 1}\n", "c", "a: {b: 1}\n"),
        ("z: 1\n", "c", "z: 1\n"),
        ("", "c", ""),
    ],
)
def test_what_is_dropped_from_yaml_goes_alone(text: str, gone: str, left: str) -> None:
    assert drop_from_yaml(text, ["a", gone]) == left


MEMBERS = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=4, unique=True)
GAPS = st.sampled_from(["", " ", "\n", "\n  ", " // , }\n", "/* { */", "\r\n\t"])


COMMENT_STARTS = re.compile(r"//|/\*")


@given(MEMBERS, st.data())
def test_what_is_dropped_goes_alone_whatever_stands_around_it(names: list[str], data: st.DataObject) -> None:
    def gap() -> str:
        return str(data.draw(GAPS))

    members = [f'{gap()}"{name}"{gap()}:{gap()}{number}{gap()}' for number, name in enumerate(names)]
    text = f"{gap()}{{{','.join(members)}{data.draw(st.sampled_from(['', ',']))}{gap()}}}{gap()}"
    gone = data.draw(st.sampled_from(names))
    after = jsonc.drop(text, [gone])
    assert jsonc.read(after) == {name: value for name, value in jsonc.read(text).items() if name != gone}
    assert len(COMMENT_STARTS.findall(after.replace("*/", ""))) <= len(COMMENT_STARTS.findall(text.replace("*/", "")))
    back = jsonc.put(after, [gone], [1])
    assert jsonc.read(back) == jsonc.read(after) | {gone: [jsonc.JsonNumber("1")]}


MODES = [0o600, 0o400 | 0o200, 0o640, 0o644, 0o664, 0o666, 0o604, 0o755]


@pytest.mark.skipif(os.name == "nt", reason="there are no such modes there")
@pytest.mark.parametrize("mode", MODES, ids=oct)
@pytest.mark.parametrize("client", [CURSOR, CODEX], ids=lambda client: client.key)
def test_a_file_keeps_its_mode_and_its_copy_is_the_users_alone(client: Client, mode: int, machine: Machine) -> None:
    path = file_of(client, machine, mode=mode)
    assert write(client, machine) == 0
    assert stat.S_IMODE(path.stat().st_mode) == mode
    (copy,) = path.parent.glob("*.bak")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="access lists are told in another way there")
def test_who_reads_a_file_by_its_access_list_and_nobody_of_its_group_still_does(tmp_path: Path) -> None:
    """Its mode is 0640 then, of which the middle is the most that the list gives anybody."""
    path, nobody = tmp_path / "file.json", 0xFFFFFFFF
    path.write_text("first", encoding="utf-8")
    entries = [(0x01, 6, nobody), (0x02, 4, 12345), (0x04, 0, nobody), (0x10, 4, nobody), (0x20, 0, nobody)]
    listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", listed)
    except OSError:
        pytest.skip("this file system has no access lists")
    copy = replace_file(path, b"first", b"second")
    assert os.getxattr(path, "system.posix_acl_access") == listed
    assert copy is not None
    assert os.listxattr(copy) == []
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


@pytest.mark.skipif(os.name == "nt", reason="there are no such modes there")
@pytest.mark.parametrize("mode", [0o640, 0o644, 0o604, 0o620, 0o610, 0o666], ids=oct)
@pytest.mark.parametrize("client", [CURSOR, CODEX, BY_KEY["vscode"]], ids=lambda client: client.key)
def test_a_token_goes_into_no_file_that_others_may_read(
    client: Client, mode: int, machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VPS_API_TOKEN", TOKEN)
    path = file_of(client, machine, mode=mode)
    assert write(client, machine, token_in_file=True) == 1
    out, err = capsys.readouterr()
    assert (out, "chmod 600" in err, TOKEN in err) == ("", True, False)
    assert [each.read_bytes() for each in path.parent.iterdir()] == [b""]


def test_no_file_is_readable_by_others_even_for_a_moment(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at whenever bytes are written out or a file gets its name, under a mask that forbids nothing."""
    monkeypatch.setenv("VPS_API_TOKEN", TOKEN)
    path = file_of(CURSOR, machine, '{"a": "secret"}')
    seen: list[int] = []

    def looked(_: object) -> None:
        seen.extend(stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir())

    opened = os.open

    def watched(*arguments: Any, **options: Any) -> int:
        handle = opened(*arguments, **options)
        looked(handle)
        return handle

    monkeypatch.setattr(os, "fsync", looked)
    monkeypatch.setattr(os, "open", watched)
    before = os.umask(0)
    try:
        assert write(CURSOR, machine, token_in_file=True) == 0
    finally:
        os.umask(before)
    looked(path)
    assert set(seen) == {0o600}
    assert len(seen) > len(list(path.parent.iterdir()))


@pytest.mark.parametrize(
    ("client", "content"),
    [
        (CODEX, "a = = 1"),
        (CODEX, "mcp_servers = {}"),
        (CURSOR, "{"),
        (CURSOR, '{"mcpServers": {"backups": {"command": "npx"}}}'),
        (BY_KEY["opencode"], b"\xff"),
        (BY_KEY["vscode"], '{"servers": 1}'),
    ],
)
def test_a_token_that_could_not_be_written_down_is_not_printed_either(
    client: Client,
    content: bytes | str,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("VPS_API_TOKEN", TOKEN)
    file_of(client, machine, content)
    assert write(client, machine, token_in_file=True) == 1
    assert TOKEN not in "".join(capsys.readouterr())


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.key)
def test_no_answer_shows_a_token_that_is_there_or_put_there(
    client: Client, machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VPS_API_TOKEN", TOKEN)
    assert write(client, machine, token_in_file=True) == 0
    assert "The token stands in it" in capsys.readouterr().out
    assert write(client, machine) == 0
    assert TOKEN not in "".join(capsys.readouterr())


def test_that_a_token_stands_in_it_is_said_of_one_that_stood_there_before(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    client = BY_KEY["claude-desktop"]  # cannot refer to one, so that the old one stays
    own = {"command": "uvx", "args": ["mcp-backups"], "env": {"VPS_API_TOKEN": TOKEN}, "disabled": True}
    path = file_of(client, machine, json.dumps({"mcpServers": {"backups": own}}))
    assert write(client, machine) == 0
    said = capsys.readouterr().out
    assert json.loads(path.read_text())["mcpServers"]["backups"]["env"]["VPS_API_TOKEN"] == TOKEN
    assert "The token stands in it" in said
    assert "switched off" in said


def test_a_link_to_a_file_stays_a_link(machine: Machine, tmp_path: Path) -> None:
    """As those have it who keep such files under version control elsewhere."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "real.json").write_text("{}")
    path = file_of(CURSOR, machine)
    path.unlink()
    path.symlink_to(tmp_path / "kept" / "real.json")
    assert write(CURSOR, machine) == 0
    assert path.is_symlink()
    assert "mcpServers" in (tmp_path / "kept" / "real.json").read_text()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(os.name == "nt", reason="there are no such files there")
@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "device", "write-protected"])
def test_what_is_no_file_of_its_user_is_left_alone(
    kind: str, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(CURSOR, machine, "{}")
    if kind == "write-protected":
        path.chmod(0o400)
    else:
        path.unlink()
        makers: dict[str, Callable[[], None]] = {
            "folder": path.mkdir,
            "pipe": lambda: os.mkfifo(path),
            "loop": lambda: path.symlink_to(path),
            "device": lambda: path.symlink_to(os.devnull),
        }
        makers[kind]()
    assert write(CURSOR, machine) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_no_copy_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text("first")
    (tmp_path / "file.json.bak").symlink_to(tmp_path / "nowhere")
    copies = [replace_file(path, before, after) for before, after in ((b"first", b"second"), (b"second", b"third"))]
    assert [(copy.name, copy.read_text()) for copy in copies if copy] == [
        ("file.json.bak1", "first"),
        ("file.json.bak2", "second"),
    ]
    assert path.read_text() == "third"


@pytest.mark.parametrize("before", [None, b"earlier"])
def test_what_was_changed_meanwhile_is_left_as_it_is(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "file.json"
    path.write_text("now")
    with pytest.raises(LeftAloneError, match="meanwhile"):
        replace_file(path, before, b"ours")
    assert sorted((each.name, each.read_text()) for each in tmp_path.glob("*file*")) == [("file.json", "now")]


def test_what_cannot_be_written_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise OSError("disk full")

    path = tmp_path / "file.json"
    path.write_text("first")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        replace_file(path, b"first", b"second")
    assert sorted((each.name, each.read_text()) for each in tmp_path.glob("*file*")) == [("file.json", "first")]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_file_keeps_its_owner(tmp_path: Path) -> None:
    """As when it is written through sudo: its user could not read it any more."""
    path = tmp_path / "file.json"
    path.write_text("first")
    os.chown(path, 12345, 12346)
    copy = replace_file(path, b"first", b"second")
    assert copy is not None
    assert [(each.stat().st_uid, each.stat().st_gid) for each in (path, copy)] == [(12345, 12346)] * 2


def test_toml_in_an_order_that_would_change_is_left_alone() -> None:
    """The library sorts what stands between tables of one array."""
    before = "[[a]]\nb = 1\n[mcp_servers.backups]\ncommand = 'uvx'\nargs = ['mcp-backups']\n[[a]]\nb = 2\n"
    with pytest.raises(LeftAloneError, match="cannot be changed in place"):
        merged(before, CODEX, INSTALLED)


@pytest.mark.parametrize(
    "form",
    [
        "mcp_servers.backups.command = 'uvx'\nmcp_servers.backups.args = ['mcp-backups'] # by hand\n",
        "mcp_servers = { backups = { command = 'uvx', args = ['mcp-backups'] } } # by hand\n",
        "[mcp_servers]\nbackups = { command = 'uvx', args = ['mcp-backups'] } # by hand\n[a]\nb = 1\n",
        "[mcp_servers]\n[mcp_servers.backups]\ncommand = 'uvx'\nargs = ['mcp-backups'] # by hand\n\n# end\n",
        "[mcp_servers.backups.env]\nX = 'y'\n[mcp_servers.backups] # by hand\ncommand = 'uvx'\nargs = ['mcp-backups']",
    ],
)
def test_our_own_table_is_renewed_in_every_form_that_toml_has(form: str) -> None:
    launch = Launch("/opt/mcp-backups", (), {"MCP_BACKUPS_KEEP_MIN": "2"}, refers=True)
    after = merged(form, CODEX, launch)
    own = tomllib.loads(after)["mcp_servers"]["backups"]
    assert own.items() >= {"command": "/opt/mcp-backups", "args": [], "env_vars": ["VPS_API_TOKEN"]}.items()
    assert own["env"]["MCP_BACKUPS_KEEP_MIN"] == "2"
    assert "# by hand" in after
    assert merged(after, CODEX, launch) == after


def test_a_variable_that_is_passed_on_in_codexs_longer_form_is_left_as_it_is() -> None:
    before = (
        "[mcp_servers.backups]\ncommand = 'uvx'\nargs = ['mcp-backups']\nenv_vars = [{name='VPS_API_TOKEN'}, 'A']\n"
    )
    after = merged(before, CODEX, INSTALLED)
    assert "env_vars = [{name='VPS_API_TOKEN'}, 'A']\n" in after
    unasked = merged(after, CODEX, Launch("mcp-backups", (), {}, refers=False))
    assert tomllib.loads(unasked)["mcp_servers"]["backups"]["env_vars"] == ["A"]


def test_toml_is_read_as_a_client_reads_it() -> None:
    launch = Launch("mcp-backups", (), {"MCP_BACKUPS_CONFIG": 'C:\\a "b"\x7f'}, refers=True)
    after = merged("", CODEX, launch)
    assert tomllib.loads(after)["mcp_servers"]["backups"] == entry(CODEX, launch)
