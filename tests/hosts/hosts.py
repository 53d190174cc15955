"""The command-line hosts: how each is installed, told of the scripted model, and let run its tools unasked."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Environment = Mapping[str, str]


@dataclass(frozen=True)
class Host:
    """One of them.

    Attributes:
        key: Its name for `mcp-backups config`.
        package: On npm.
        program: What that installs.
        arguments: Of the program, to let it work on one prompt and end.
        environment: By the address of the model.
        prepare: Puts into its files, below a home folder, what no option tells; after `mcp-backups config --write`.
    """

    key: str
    package: str
    program: str
    arguments: tuple[str, ...]
    environment: Callable[[str], Environment]
    prepare: Callable[[Path, str], None] = field(default=lambda _home, _url: None)


PROMPT = "Follow the script."


def _codex(home: Path, url: str) -> None:
    path = home / ".codex" / "config.toml"
    model = f"""\
model = "scripted"
model_provider = "scripted"

[model_providers.scripted]
name = "scripted"
base_url = "{url}/v1"
wire_api = "responses"

"""
    own = path.read_text(encoding="utf-8")
    unasked = own.replace("required = true\n", 'required = true\ndefault_tools_approval_mode = "approve"\n')
    path.write_text(model + unasked, encoding="utf-8")


def _gemini(home: Path, _url: str) -> None:
    path = home / ".gemini" / "settings.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["security"] = {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}}
    settings["privacy"] = {"usageStatisticsEnabled": False}
    path.write_text(json.dumps(settings), encoding="utf-8")


def _opencode(home: Path, url: str) -> None:
    path = home / ".config" / "opencode" / "opencode.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["provider"] = {
        "scripted": {
            "npm": "@ai-sdk/openai-compatible",
            "options": {"baseURL": f"{url}/v1", "apiKey": "none"},
            "models": {"scripted": {"limit": {"context": 200_000, "output": 8_000}}},
        }
    }
    settings |= {"model": "scripted/scripted", "small_model": "scripted/scripted", "permission": "allow"}
    path.write_text(json.dumps(settings), encoding="utf-8")


HOSTS = (
    Host(
        "claude-code",
        "@anthropic-ai/claude-code",
        "claude",
        ("-p", PROMPT, "--mcp-config", ".mcp.json", "--strict-mcp-config", "--allowedTools", "mcp__backups"),
        lambda url: {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "none",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "ENABLE_TOOL_SEARCH": "false",  # the script calls tools by name, and looks for none
            "MCP_CONNECTION_NONBLOCKING": "0",  # else a busy machine's first request has no tools yet
        },
    ),
    Host(
        "codex",
        "@openai/codex",
        "codex",
        ("exec", "--skip-git-repo-check", "--sandbox", "read-only", PROMPT),
        lambda _url: {},
        _codex,
    ),
    Host(
        "gemini",
        "@google/gemini-cli",
        "gemini",
        ("--approval-mode", "yolo", "--model", "gemini-2.5-flash", "--prompt", PROMPT),
        lambda url: {"GOOGLE_GEMINI_BASE_URL": url, "GEMINI_API_KEY": "none"},
        _gemini,
    ),
    Host(
        "opencode",
        "opencode-ai",
        "opencode",
        ("run", PROMPT),
        lambda _url: {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"},
        _opencode,
    ),
    Host(
        "copilot",
        "@github/copilot",
        "copilot",
        ("--prompt", PROMPT, "--allow-all-tools", "--no-auto-update"),
        lambda url: {
            "COPILOT_PROVIDER_BASE_URL": f"{url}/v1",
            "COPILOT_PROVIDER_API_KEY": "none",
            "COPILOT_MODEL": "scripted",
            "COPILOT_OFFLINE": "true",
        },
    ),
)


def bare_environment(home: Path, path: str) -> dict[str, str]:
    """An environment with nothing of whoever runs this but where programs lie: no keys, no settings, no addresses."""
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ") if name in os.environ}
    return kept | {"HOME": str(home), "PATH": path, "TERM": "dumb", "CI": "1", "MCP_BACKUPS_APPROVAL": "plan"}
