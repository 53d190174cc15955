"""A setting that is wrong stops the start, with one line that names it and never tells its value."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme
from pydantic import SecretStr

from mcp_backups.errors import ConfigError
from mcp_backups.settings import DEFAULT_URL, PREFIX, Settings, load_settings, setting_names

TOKEN = "vps_s3cret"
SECRET = "s3cret"
"""In every value that must not be shown."""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="files have no permission bits there")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting from outside reaches these tests; the default settings file is in the test's own folder."""
    for name in os.environ:
        if name.upper().startswith((PREFIX, "VPS_API_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
def set_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], None]:
    """Put settings into the environment."""

    def put(settings: Mapping[str, str]) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)

    return put


def a_file(path: Path, content: str | bytes, mode: int = 0o600) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return str(path)


def refusal() -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings()
    return caught.value.what


WRONG_VALUES = [
    ("VPS_API_TOKEN", "vps s3cret"),
    ("VPS_API_TOKEN", "vps_s3cret\n\n"),
    ("VPS_API_TOKEN", " vps_s3cret"),
    ("VPS_API_TOKEN", "VPS_API_TOKEN=vps_s3cret"),
    ("VPS_API_TOKEN_FILE", "s3cret/token"),
    ("VPS_API_TOKEN_FILE", "./s3cret"),
    ("VPS_API_TOKEN", "vps\r\nX-Other: s3cret"),
    ("VPS_API_TOKEN", "vps_s3cret\x1b"),
    ("VPS_API_TOKEN", "vps_s3crét"),
    ("VPS_API_TOKEN", "vps_s3cret\udcff"),
    ("VPS_API_TOKEN", "s3cret" * 100),
    ("VPS_API_URL", "http://s3cret.test/api/v1"),
    ("VPS_API_URL", "http://127.0.0.1.s3cret.test/"),
    ("VPS_API_URL", "https://user:s3cret@api.test/v1"),
    ("VPS_API_URL", "https://s3cret@api.test/v1"),
    ("VPS_API_URL", "https://api.test/v1?key=s3cret"),
    ("VPS_API_URL", "https://api.test/v1#s3cret"),
    ("VPS_API_URL", "https://api.test/v1?"),
    ("VPS_API_URL", "https://api.test:s3cret/"),
    ("VPS_API_URL", "https://api.test:99999/s3cret"),
    ("VPS_API_URL", "https://[s3cret/"),
    ("VPS_API_URL", "https:///s3cret"),
    ("VPS_API_URL", "ftp://s3cret.test/"),
    ("VPS_API_URL", "s3cret.test"),
    ("VPS_API_URL", "https://s3cret.test/a b"),
    ("VPS_API_URL", "https://s3cret.test/\x01"),
    ("VPS_API_URL", "https://s3crét.test/"),
    ("VPS_API_URL", "https:\\\\s3cret.test"),
    ("VPS_API_CA_FILE", "s3cret.pem"),
    ("VPS_API_PROXY", "s3cret.test"),
    ("VPS_API_PROXY", "s3cret.test:3128"),
    ("VPS_API_PROXY", "socks5://s3cret.test:1080"),
    ("VPS_API_PROXY", "http://:s3cret@"),
    ("VPS_API_PROXY", "http://user:s3cret@proxy.test:port"),
    ("VPS_API_PROXY", "http://user:s3cret@proxy.test:99999"),
    ("VPS_API_PROXY", "http://user:s3 cret@proxy.test"),
    ("VPS_API_PROXY", "http://user:s3crét@proxy.test"),
    ("VPS_API_PROXY", "http://proxy.test/s3cret"),
    ("VPS_API_PROXY", "http://proxy.test?s3cret"),
    ("VPS_API_PROXY", "http://user:s3cret#@proxy.test"),
    ("MCP_BACKUPS_APPROVAL", "s3cret"),
    ("MCP_BACKUPS_READ_ONLY", "s3cret"),
    ("MCP_BACKUPS_READ_ONLY", "maybe"),
    ("MCP_BACKUPS_READ_ONLY", "2"),
    ("MCP_BACKUPS_READ_ONLY", "t"),
    ("MCP_BACKUPS_READ_ONLY", "\uff11"),
    ("MCP_BACKUPS_SERVERS", ""),
    ("MCP_BACKUPS_SERVERS", " "),
    ("MCP_BACKUPS_SERVERS", " , "),
    ("MCP_BACKUPS_PROTECTED_SERVERS", ","),
    ("MCP_BACKUPS_PROTECTED_BACKUPS", ""),
    ("MCP_BACKUPS_SERVERS", "[12345]"),
    ("MCP_BACKUPS_SERVERS", "12345.0"),
    ("MCP_BACKUPS_SERVERS", "1_0"),
    ("MCP_BACKUPS_SERVERS", "٣"),
    ("MCP_BACKUPS_SERVERS", "true"),
    ("MCP_BACKUPS_SERVERS", "12345, s3cret"),
    ("MCP_BACKUPS_SERVERS", "12345,,12346"),
    ("MCP_BACKUPS_SERVERS", "0"),
    ("MCP_BACKUPS_PROTECTED_SERVERS", "12345 12346"),
    ("MCP_BACKUPS_PROTECTED_BACKUPS", "9007199254740992"),
    ("MCP_BACKUPS_KEEP_MIN", "-1"),
    ("MCP_BACKUPS_KEEP_MIN", "s3cret"),
    ("MCP_BACKUPS_KEEP_MIN", "1.5"),
    ("MCP_BACKUPS_KEEP_MIN", "1.0"),
    ("MCP_BACKUPS_KEEP_MIN", "1_0"),
    ("MCP_BACKUPS_KEEP_MIN", "٣"),
    ("MCP_BACKUPS_KEEP_MIN", "+1"),
    ("MCP_BACKUPS_KEEP_MIN", "0x1"),
    ("MCP_BACKUPS_KEEP_MIN", "true"),
    ("MCP_BACKUPS_STATE_DIR", "s3cret"),
    ("MCP_BACKUPS_STATE_DIR", "./s3cret"),
    ("MCP_BACKUPS_STATE_DIR", "~no-such-user/s3cret"),
    ("MCP_BACKUPS_CONFIG", "s3cret.toml"),
    ("MCP_BACKUPS_DELETES_PER_HOUR", "100001"),
    ("MCP_BACKUPS_DELETES_PER_DAY", "many s3cret"),
    ("MCP_BACKUPS_RESTORES_PER_HOUR", "-1"),
    ("MCP_BACKUPS_CREATES_PER_HOUR", "many"),
    ("MCP_BACKUPS_REQUIRE_SAFETY_BACKUP", "perhaps s3cret"),
    ("MCP_BACKUPS_MARK_BACKUPS", "2"),
    ("MCP_BACKUPS_LOG_LEVEL", "s3cret"),
]


@pytest.mark.parametrize(("name", "value"), WRONG_VALUES)
def test_a_wrong_value_is_refused_by_the_settings_name(
    name: str, value: str, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    set_up({name: value})
    said = refusal()
    assert said.startswith(f"{name} ")
    assert SECRET not in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "url",
    [
        "https://api.test/v1",
        "https://api.test:8443",
        "http://127.0.0.1:8000/api/v1",
        "http://127.8.8.8/",
        "http://localhost:8000/",
        "http://[::1]:8000/",
    ],
)
def test_https_or_this_machine_is_accepted(url: str, set_up: Callable[[Mapping[str, str]], None]) -> None:
    set_up({"VPS_API_URL": url})
    assert load_settings().vps_api_url == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("HTTPS://API.Test/V1//", "https://api.test/V1"),
        ("https://api.test:443/v1", "https://api.test/v1"),
        ("https://api.test:0443/v1/", "https://api.test/v1"),
        ("https://api.test:/v1", "https://api.test/v1"),
        ("https://api.test:80", "https://api.test:80"),
        ("http://LOCALHOST:80/", "http://localhost"),
        ("http://[0:0::1]:443/", "http://[0:0::1]:443"),
    ],
)
def test_an_address_is_the_same_however_it_is_spelt(
    url: str, same: str, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    """By the address it is known which deletions may still take effect: another spelling once forgot them."""
    set_up({"VPS_API_URL": url})
    assert load_settings().vps_api_url == same


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MCP_BACKUPS_READONLY", "MCP_BACKUPS_READ_ONLY"),
        ("MCP_BACKUPS_APROVAL", "MCP_BACKUPS_APPROVAL"),
        ("MCP_BACKUPS_VPS_API_TOKEN", "VPS_API_TOKEN"),
        ("MCP_BACKUP_READ_ONLY", "MCP_BACKUPS_READ_ONLY"),
        ("MCP_BACKUP_READONLY", "MCP_BACKUPS_READ_ONLY"),
        ("mcp_backups_keep_mim", "MCP_BACKUPS_KEEP_MIN"),
        ("Mcp_Backup_Keep_Min", "MCP_BACKUPS_KEEP_MIN"),
        ("MCPBACKUPS_READ_ONLY", "MCP_BACKUPS_READ_ONLY"),
        ("MCP-BACKUPS-READ-ONLY", "MCP_BACKUPS_READ_ONLY"),
        ("MCP_BACKUPS__READ_ONLY", "MCP_BACKUPS_READ_ONLY"),
        ("MCP_BACKPUS_SERVERS", "MCP_BACKUPS_SERVERS"),
        ("MPC_BACKUPS_SERVERS", "MCP_BACKUPS_SERVERS"),
        ("MCCP_BACKUPS_SERVERS", "MCP_BACKUPS_SERVERS"),
        ("NCP_BACKUPS_SERVERS", "MCP_BACKUPS_SERVERS"),
        ("MCP_BAKUPS_PROTECTED_SERVER", "MCP_BACKUPS_PROTECTED_SERVERS"),
        ("MCP_BACKUPS_DELETE_PER_DAY", "MCP_BACKUPS_DELETES_PER_DAY"),
        ("VPS_API_TOKN", "VPS_API_TOKEN"),
        ("vps_api_tokenfile", "VPS_API_TOKEN_FILE"),
        ("VPSAPI_TOKEN", "VPS_API_TOKEN"),
        ("VSP_API_TOKEN", "VPS_API_TOKEN"),
        ("VPS_AIP_URL", "VPS_API_URL"),
        ("VPS_BACKUPS_READ_ONLY", "MCP_BACKUPS_READ_ONLY"),
        ("MCP_VPS_BACKUP_KEEP_MIN", "MCP_BACKUPS_KEEP_MIN"),
        ("VPSORG_BACKUPS_PROTECTED_SERVERS", "MCP_BACKUPS_PROTECTED_SERVERS"),
        ("MCP_SERVER_BACKUPS_APPROVAL", "MCP_BACKUPS_APPROVAL"),
        ("\uff2d\uff23\uff30_BACKUPS_READ_ONLY", "MCP_BACKUPS_READ_ONLY"),
        ("VPS_API_ADDRESS", ""),
        ("MCP_BACKUPS_DRY_RUN", ""),
        ("MCP_BACKUPS_ALLOWED_SERVERS", ""),
        ("BACKUPS_READ_ONLY", "MCP_BACKUPS_READ_ONLY"),
        ("backups_keep_min", "MCP_BACKUPS_KEEP_MIN"),
        ("BACKUPS_DELETES_PER_DAY", "MCP_BACKUPS_DELETES_PER_DAY"),
        ("MCP_VPS_READ_ONLY", "MCP_BACKUPS_READ_ONLY"),
        ("MCP_VPS_PROTECTED_SERVERS", "MCP_BACKUPS_PROTECTED_SERVERS"),
        ("MCP_BACKUPS_PROTECTION_SERVERS", ""),
    ],
)
def test_a_misspelt_setting_is_refused_rather_than_ignored(
    name: str, meant: str, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    """Who sets `MCP_BACKUP_READ_ONLY=1` believes that nothing can be changed."""
    set_up({name: SECRET})
    assert refusal() == f"{name} is not a setting" + (f"; did you mean {meant}?" if meant else ".")


@pytest.mark.parametrize(
    "name", ["MCP_BACKUPS_READ_ONLY ", "\u00a0MCP_BACKUPS_READ_ONLY", "MCP_BACKUPS_READ_ONLY\u202e"]
)
def test_that_only_what_nobody_sees_is_wrong_in_a_name_is_told(
    name: str, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    set_up({name: "true"})
    shown = "MCP_BACKUPS_READ_ONLY (with spaces or invisible characters, or cut here)"
    assert refusal() == f"{shown} is not a setting; did you mean MCP_BACKUPS_READ_ONLY?"


@pytest.mark.parametrize(
    "name",
    [
        *("MCP_BACKUPS_PORT", "MCP_BACKUPS_SERVICE_HOST", "MCP_BACKUPS_SERVICE_PORT", "MCP_BACKUPS_SERVICE_PORT_HTTP"),
        *("MCP_BACKUPS_PORT_8765_TCP", "MCP_BACKUPS_PORT_8765_TCP_ADDR", "MCP_BACKUPS_PORT_8765_TCP_PROTO"),
        *("MCP_BACKUP_SERVICE_HOST", "MCP_BACKUPS_HTTP_PORT", "VPS_API_SERVICE_HOST", "VPS_API_PORT_443_TCP_PORT"),
        *("VPN_API_TOKEN", "GPS_API_TOKEN", "AWS_API_URL", "VPS_TOKEN", "VITE_API_URL", "VPS_HOST", "API_URL"),
        *("GCP_BACKUP_BUCKET", "WP_BACKUPS_DIR", "DB_BACKUPS_KEEP", "BACKUPS_SERVERS", "MC_BACKUPS_DIR"),
        *("VPS_BACKUP_SERVERS", "VPS_BACKUPS_LOG_LEVEL", "MCP_READ_ONLY", "VPS_PROTECTED_SERVERS", "BACKUP_READ_ONLY"),
        *("BACKUPS_PER_DAY", "DB_BACKUPS_KEEP_MIN", "MCP_POSTGRES_READ_ONLY", "MCP_VPS_URL"),
        *("MCP_SERVER_URL", "MCP_BACKEND_URL", "MCP_BACKUPS", "MCP_PORT"),
    ],
)
def test_what_kubernetes_adds_and_what_others_call_theirs_stops_nothing(
    name: str, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    set_up({name: "tcp://10.0.0.1:8765"})
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    ("name", "value", "field", "read"),
    [
        ("mcp_backups_read_only", "true", "read_only", True),
        ("Mcp_Backups_Read_Only", "True", "read_only", True),
        ("MCP_BACKUPS_READ_ONLY", "1", "read_only", True),
        ("MCP_BACKUPS_READ_ONLY", " YES\n", "read_only", True),
        ("MCP_BACKUPS_READ_ONLY", "on", "read_only", True),
        ("MCP_BACKUPS_MARK_BACKUPS", "0", "mark_backups", False),
        ("MCP_BACKUPS_MARK_BACKUPS", "No", "mark_backups", False),
        ("MCP_BACKUPS_MARK_BACKUPS", "off", "mark_backups", False),
        ("mcp_backups_keep_min", " 3 ", "keep_min", 3),
        ("MCP_BACKUPS_KEEP_MIN", "03", "keep_min", 3),
        ("mcp_backups_servers", " 12345,12346 ,", "servers", None),
        ("mcp_backups_servers", " 12345,12346 ", "servers", {12345, 12346}),
        ("MCP_BACKUPS_APPROVAL", "human\n", "approval", "human"),
        ("vps_api_url", "https://api.test/v1", "vps_api_url", "https://api.test/v1"),
        ("VPS_API_TOKEN", "vps_s3cret\n", "vps_api_token", SecretStr(TOKEN)),
        ("VPS_API_TOKEN", "vps_s3cret\r\n", "vps_api_token", SecretStr(TOKEN)),
    ],
)
def test_a_setting_counts_in_any_case_and_with_space_around_its_value(
    name: str, value: str, field: str, read: object, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    set_up({name: value})
    if read is None:
        assert refusal() == f"{name.upper()} must be ids, which are whole numbers, with a comma between two."
    else:
        assert getattr(load_settings(), field) == read


def test_a_setting_that_stands_there_in_two_cases_is_refused(set_up: Callable[[Mapping[str, str]], None]) -> None:
    set_up({"MCP_BACKUPS_READ_ONLY": "true", "mcp_backups_read_only": "false"})
    assert refusal() == "MCP_BACKUPS_READ_ONLY is set twice, in capitals and in small letters: set it once."


UNFILLED = [
    *("${S3CRET}", "${VPS_API_TOKEN:-}", "${env:S3CRET}", "${input:s3cret}", "${user_config.s3cret}", "$S3CRET"),
    *("$env:S3CRET", "{env:S3CRET}", "{file:~/s3cret}", "{{ s3cret }}", "%S3CRET%", "$(S3CRET)", "<your s3cret>"),
    *('"${S3CRET}"', "'$S3CRET'", "Bearer ${S3CRET}"),
]


@pytest.mark.parametrize("value", UNFILLED)
@pytest.mark.parametrize("name", ["VPS_API_TOKEN", "VPS_API_TOKEN_FILE", "VPS_API_URL", "MCP_BACKUPS_READ_ONLY"])
def test_what_a_client_did_not_fill_in_is_told_as_that(
    name: str, value: str, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    set_up({name: value})
    said = refusal()
    assert said.startswith(f"{name} is a placeholder that the client did not fill in")
    assert SECRET not in said.lower()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MCP_BACKUPS_STATE_DIR", "$HOME/s3cret"),
        ("MCP_BACKUPS_STATE_DIR", "${HOME}/s3cret"),
        ("MCP_BACKUPS_CONFIG", "${env:S3CRET}"),
        ("VPS_API_URL", "https://${S3CRET}/api/v1"),
    ],
)
def test_a_value_that_is_filled_in_half_is_told_too(
    name: str, value: str, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    set_up({name: value})
    assert refusal().startswith(f"{name} is a placeholder that the client did not fill in")


@pytest.mark.parametrize("value", ['"vps_s3cret"', "'vps_s3cret'", "`vps_s3cret`", '"vps_s3cret', "vps_s3cret'"])
def test_quotes_round_the_token_are_told(value: str, set_up: Callable[[Mapping[str, str]], None]) -> None:
    set_up({"VPS_API_TOKEN": value})
    assert refusal() == "VPS_API_TOKEN must hold the token without quotation marks."


@pytest.mark.parametrize(
    "value",
    [
        *("your_token", "YOUR-API-TOKEN", "vps_xxxxxxxx", "...", "vps_your_token_here", "****", "null", "None"),
        *("undefined", "changeme", "CHANGE_ME", "vps_token", "op://vault/vps/token", "file:///run/token", "@token.txt"),
    ],
)
def test_the_token_of_an_example_is_told(value: str, set_up: Callable[[Mapping[str, str]], None]) -> None:
    set_up({"VPS_API_TOKEN": value})
    assert refusal() == "VPS_API_TOKEN must hold the token itself, not a placeholder for it."


@pytest.mark.parametrize("value", UNFILLED)
def test_a_token_that_was_not_filled_in_leaves_the_token_file_to_count(
    value: str, tmp_path: Path, set_up: Callable[[Mapping[str, str]], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Some clients hand on a variable that is not set as the words that name it."""
    set_up({"VPS_API_TOKEN": value, "VPS_API_TOKEN_FILE": a_file(tmp_path / "token", TOKEN)})
    assert load_settings().vps_api_token == SecretStr(TOKEN)
    assert caplog.messages[-1].endswith("VPS_API_TOKEN_FILE is used instead.")
    assert SECRET not in caplog.text.lower()


def test_a_token_file_that_was_not_filled_in_leaves_the_token_to_count(
    set_up: Callable[[Mapping[str, str]], None],
) -> None:
    set_up({"VPS_API_TOKEN": TOKEN, "VPS_API_TOKEN_FILE": "${VPS_API_TOKEN_FILE}"})
    assert load_settings().vps_api_token == SecretStr(TOKEN)


def test_two_that_were_not_filled_in_are_no_token(set_up: Callable[[Mapping[str, str]], None]) -> None:
    set_up({"VPS_API_TOKEN": "${VPS_API_TOKEN}", "VPS_API_TOKEN_FILE": "${VPS_API_TOKEN_FILE}"})
    assert "placeholder" in refusal()


@pytest.mark.parametrize(
    ("content", "mode", "rule"),
    [
        ("keep_min = ", 0o600, "is not valid TOML"),
        ("keep_min = s3cret", 0o600, "is not valid TOML"),
        (b"approval = '\xff'", 0o600, "cannot be read as text"),
        ("keep_min = 2", 0o602, "can be written to by anyone"),
        ("keep_min = 2", 0o666, "can be written to by anyone"),
        ("vps_api_token = 'vps_s3cret'", 0o640, "can be read by others"),
        ("vps_api_token = 'vps_s3cret'", 0o604, "can be read by others"),
    ],
)
def test_a_settings_file_that_cannot_be_trusted_is_refused(
    content: str | bytes, mode: int, rule: str, tmp_path: Path, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    set_up({"MCP_BACKUPS_CONFIG": a_file(tmp_path / "s3cret.toml", content, mode)})
    said = refusal()
    assert said.startswith("MCP_BACKUPS_CONFIG names a settings file that ")
    assert rule in said
    assert SECRET not in said


@pytest.mark.parametrize("name", ["APPROVERS", "SERVERS", "PROTECTED_BACKUPS", "HTTP_HOSTS", "HTTP_ORIGINS"])
@pytest.mark.parametrize("value", ["[]", "[ ]", '["5", "6"]', "['https://a.test']", '"5"', ' [ "5" ]'])
def test_a_list_as_a_file_has_it_is_no_name_in_the_environment(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"MCP_BACKUPS_{name} must be .*, and no brackets or quotation marks around"):
        load_settings({f"MCP_BACKUPS_{name}": value})


def test_an_address_in_brackets_is_a_host() -> None:
    assert load_settings({"MCP_BACKUPS_HTTP_HOSTS": "[::1]:8765"}).http_hosts == {"[::1]:8765"}


HOSTS = "must be hosts such as 10.0.0.5:8765, with a comma between two."
ORIGINS = "must be origins such as https://tools.example.com, with a comma between two."
ADDRESSES = "must be Apprise addresses, such as mailto://… and ntfy://…, with a space between two."
NO_SETTING, SMALL = " in the settings file is not a setting", "The names there are in small letters."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "keep_minimum = 2",
            f"keep_minimum{NO_SETTING}; did you mean keep_min? {SMALL}",
        ),
        (
            "[policy]\nkeep_min = 2",
            f"policy{NO_SETTING}. {SMALL}",
        ),
        (
            "MCP_BACKUPS_KEEP_MIN = 2",
            f"MCP_BACKUPS_KEEP_MIN{NO_SETTING}; did you mean keep_min? {SMALL}",
        ),
        ('"a\\nb" = 2', f"a b (with spaces or invisible characters, or cut here){NO_SETTING}. {SMALL}"),
        ("approvers = ['a b']", "MCP_BACKUPS_APPROVERS must be names without spaces, with a comma between two."),
        ("http_hosts = ['*']", f"MCP_BACKUPS_HTTP_HOSTS {HOSTS}"),
        ("http_hosts = ['https://a.test']", f"MCP_BACKUPS_HTTP_HOSTS {HOSTS}"),
        ("http_origins = ['a.test']", f"MCP_BACKUPS_HTTP_ORIGINS {ORIGINS}"),
        ("http_origins = ['https://a.test/']", f"MCP_BACKUPS_HTTP_ORIGINS {ORIGINS}"),
        (
            "console_login_header = 'X User'",
            "MCP_BACKUPS_CONSOLE_LOGIN_HEADER must be the name of a header: letters, digits and -.",
        ),
        ("notify = []", f"MCP_BACKUPS_NOTIFY {ADDRESSES}"),
        ("keep_min = true", "MCP_BACKUPS_KEEP_MIN must be a whole number."),
        ("keep_min = 1.0", "MCP_BACKUPS_KEEP_MIN must be a whole number."),
        ("keep_min = '1_0'", "MCP_BACKUPS_KEEP_MIN must be a whole number."),
        ("keep_min = 2026-11-23", "MCP_BACKUPS_KEEP_MIN must be a whole number."),
        ("read_only = 1", "MCP_BACKUPS_READ_ONLY must be true or false."),
        ("read_only = 'maybe'", "MCP_BACKUPS_READ_ONLY must be true or false."),
        ("read_only = [true]", "MCP_BACKUPS_READ_ONLY must be true or false."),
        ("servers = []", "MCP_BACKUPS_SERVERS is set, but names no id; take it out, or name some."),
        ("servers = ''", "MCP_BACKUPS_SERVERS is set, but names no id; take it out, or name some."),
        ("servers = 12345", "MCP_BACKUPS_SERVERS must be a list of ids."),
        ("servers = [true]", "MCP_BACKUPS_SERVERS must be ids, which are whole numbers, with a comma between two."),
        ("servers = [1.0]", "MCP_BACKUPS_SERVERS must be ids, which are whole numbers, with a comma between two."),
        ("[servers]\na = 1", "MCP_BACKUPS_SERVERS must be a list of ids."),
        ("state_dir = 'state'", "MCP_BACKUPS_STATE_DIR must be an absolute path, or begin with ~/."),
        ("state_dir = ''", "MCP_BACKUPS_STATE_DIR must be an absolute path, or begin with ~/."),
        ('state_dir = "/a\\u0000b"', "MCP_BACKUPS_STATE_DIR must be an absolute path, or begin with ~/."),
        ("state_dir = 1", "MCP_BACKUPS_STATE_DIR must be a path."),
        ("keep_min = -2", "MCP_BACKUPS_KEEP_MIN must be greater than or equal to 0."),
        ("vps_api_url = 'http://s3cret.test'", "VPS_API_URL must be https, unless it is on this machine."),
    ],
)
def test_a_wrong_line_in_the_settings_file_is_refused(
    content: str, said: str, tmp_path: Path, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    set_up({"MCP_BACKUPS_CONFIG": a_file(tmp_path / "config.toml", content)})
    assert refusal() == said


def test_no_spelling_of_the_token_escapes_the_rule_for_its_file(
    tmp_path: Path, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    set_up({"MCP_BACKUPS_CONFIG": a_file(tmp_path / "config.toml", f"VPS_API_TOKEN = '{TOKEN}'", 0o644)})
    assert refusal().startswith("VPS_API_TOKEN in the settings file is not a setting; did you mean vps_api_token?")


def test_a_settings_file_that_is_not_there_is_refused(
    tmp_path: Path, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    set_up({"MCP_BACKUPS_CONFIG": str(tmp_path / "s3cret.toml")})
    assert refusal() == "MCP_BACKUPS_CONFIG names a settings file that cannot be found or read."


def test_a_folder_is_no_settings_file(tmp_path: Path, set_up: Callable[[Mapping[str, str]], None]) -> None:
    set_up({"MCP_BACKUPS_CONFIG": str(tmp_path)})
    assert refusal() == "MCP_BACKUPS_CONFIG names a settings file that is not a regular file."


@pytest.mark.parametrize("is_named", [True, False], ids=["named", "in its usual place"])
def test_a_settings_file_may_be_a_link_as_kubernetes_mounts_them(
    is_named: bool, tmp_path: Path, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    mount = mounted(tmp_path / "mcp-backups", "config.toml", "keep_min = 2")
    set_up({"MCP_BACKUPS_CONFIG": str(mount)} if is_named else {})
    assert load_settings().keep_min == 2


def mounted(folder: Path, name: str, content: str, mode: int = 0o644) -> Path:
    """A file as Kubernetes mounts one of a ConfigMap or Secret."""
    real = folder / "..2026_11_23_03_00_00.1"
    real.mkdir(parents=True)
    a_file(real / name, content, mode)
    (folder / "..data").symlink_to(real.name)
    (folder / name).symlink_to(f"..data/{name}")
    return folder / name


TO_ALL = "can be written to by anyone; take that right away (chmod o-w)."


@pytest.mark.parametrize(
    ("prepare", "rule"),
    [
        (lambda path: a_file(path, "keep_min = "), "is not valid TOML."),
        (lambda path: a_file(path, "keep_min = 2", 0o666), TO_ALL),
        (lambda path: path.mkdir(), "is not a regular file."),
        (lambda path: path.symlink_to("nowhere"), "cannot be found or read."),
        (lambda path: a_file(path, b"\xff"), "cannot be read as text."),
    ],
)
def test_the_settings_file_in_its_usual_place_is_named_itself(
    prepare: Callable[[Path], object], rule: str, tmp_path: Path
) -> None:
    """And not a variable that is not set."""
    (tmp_path / "mcp-backups").mkdir()
    prepare(tmp_path / "mcp-backups" / "config.toml")
    assert refusal() == f"The settings file {tmp_path}/mcp-backups/config.toml {rule}"


def test_the_settings_file_is_read_from_its_usual_place(tmp_path: Path) -> None:
    (tmp_path / "mcp-backups").mkdir()
    a_file(tmp_path / "mcp-backups" / "config.toml", "keep_min = 3\nservers = [12345]\napproval = 'human'")
    settings = load_settings()
    assert (settings.keep_min, settings.servers, settings.approval) == (3, frozenset({12345}), "human")


def test_the_environment_wins_over_the_file(tmp_path: Path, set_up: Callable[[Mapping[str, str]], None]) -> None:
    file = a_file(
        tmp_path / "config.toml", "keep_min = 3\nread_only = true\nvps_api_url = 'https://file.test'\nservers = [1]"
    )
    set_up(
        {
            "MCP_BACKUPS_CONFIG": file,
            "MCP_BACKUPS_KEEP_MIN": "5",
            "VPS_API_URL": "https://environment.test",
            "MCP_BACKUPS_SERVERS": "12345, 12346",
        }
    )
    settings = load_settings()
    assert settings.keep_min == 5
    assert settings.vps_api_url == "https://environment.test"
    assert settings.servers == {12345, 12346}
    assert settings.read_only is True


def test_an_empty_variable_is_as_good_as_none(set_up: Callable[[Mapping[str, str]], None]) -> None:
    """A client's form that leaves a field blank hands on an empty variable."""
    names = [
        name
        for name in setting_names()
        if not name.endswith(("SERVERS", "_BACKUPS", "APPROVERS", "_HOSTS", "_ORIGINS")) or "MARK" in name
    ]
    set_up(dict.fromkeys(names, "") | dict.fromkeys(names[::2], " "))
    assert load_settings() == Settings()


def test_without_any_setting_the_account_is_asked_for_and_the_policy_is_careful() -> None:
    settings = load_settings()
    assert settings.vps_api_url == DEFAULT_URL
    assert settings.vps_api_token is None
    assert (settings.approval, settings.keep_min, settings.read_only) == ("auto", 1, False)


@pytest.mark.parametrize("content", ["vps_s3cret", "vps_s3cret\n", "vps_s3cret\r\n"])
def test_a_token_file_holds_the_token_and_perhaps_a_line_end(
    content: str, tmp_path: Path, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    set_up({"VPS_API_TOKEN_FILE": a_file(tmp_path / "token", content)})
    assert load_settings().vps_api_token == SecretStr(TOKEN)


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        ("", 0o600),
        ("\n", 0o600),
        ("vps_s3cret\n\n", 0o600),
        ("vps_s3cret\nsecond", 0o600),
        (" vps_s3cret", 0o600),
        ("vps s3cret", 0o600),
        ("vps_s3cr\u00e9t", 0o600),
        (b"\xff\xfev\x00p\x00s\x00", 0o600),
        ("\ufeffvps_s3cret", 0o600),
        ("s3cret" * 1000, 0o600),
        ("vps_s3cret", 0o640),
        ("vps_s3cret", 0o604),
        ("vps_s3cret", 0o620),
    ],
)
def test_a_token_file_that_is_wrong_or_open_to_others_is_refused(
    content: str | bytes, mode: int, tmp_path: Path, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    set_up({"VPS_API_TOKEN_FILE": a_file(tmp_path / "s3cret", content, mode)})
    said = refusal()
    assert said.startswith("VPS_API_TOKEN_FILE ")
    assert SECRET not in said


@pytest.mark.parametrize("mode", [0o444, 0o644, 0o440, 0o640, 0o400])
@pytest.mark.parametrize("place", ["a folder for secrets", "Kubernetes", "Kubernetes, the file itself", "read-only"])
def test_a_secret_counts_as_container_systems_mount_it(
    place: str, mode: int, tmp_path: Path, set_up: Callable[[Mapping[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in a container may read it: the container is the wall around it, and nobody can change its mode there."""
    path = mounted(tmp_path / "mount", "token", f"{TOKEN}\n", mode)
    if place == "a folder for secrets":
        path = path.resolve()
        monkeypatch.setattr("mcp_backups.private._SECRET_FOLDERS", (str(tmp_path / "mount"),))
    if place == "Kubernetes, the file itself":
        path = path.parent / "..data" / "token"
    if place == "read-only":
        path = path.resolve()
        monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    set_up({"VPS_API_TOKEN_FILE": str(path)})
    assert load_settings().vps_api_token == SecretStr(TOKEN)


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646, 0o444, 0o644])
def test_a_file_that_others_may_read_or_write_is_no_secret(
    mode: int, tmp_path: Path, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    """Writable for others nowhere; readable for them not in an ordinary folder."""
    path = mounted(tmp_path / "mount", "token", TOKEN, mode)
    set_up({"VPS_API_TOKEN_FILE": str(path if mode & 0o022 else path.resolve())})
    assert refusal() == "VPS_API_TOKEN_FILE names a file that others may read; make it private (chmod 600)."


def test_a_settings_file_with_the_token_may_be_a_mounted_secret(
    tmp_path: Path, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    path = mounted(tmp_path / "mount", "config.toml", f"vps_api_token = '{TOKEN}'")
    set_up({"MCP_BACKUPS_CONFIG": str(path)})
    assert load_settings().vps_api_token == SecretStr(TOKEN)


def test_a_path_may_begin_with_the_home_folder(
    tmp_path: Path, set_up: Callable[[Mapping[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client's JSON knows no shell that would put it in."""
    monkeypatch.setenv("HOME", str(tmp_path))
    a_file(tmp_path / "token", TOKEN)
    a_file(tmp_path / "config.toml", "keep_min = 4\nstate_dir = '~/other'")
    set_up({"VPS_API_TOKEN_FILE": "~/token", "MCP_BACKUPS_CONFIG": "~/config.toml", "MCP_BACKUPS_STATE_DIR": "~/state"})
    settings = load_settings()
    assert (settings.state_dir, settings.keep_min) == (tmp_path / "state", 4)
    assert settings.vps_api_token == SecretStr(TOKEN)


@pytest.mark.parametrize("name", ["missing-s3cret", "."])
def test_a_token_file_that_is_no_file_is_refused(
    name: str, tmp_path: Path, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    set_up({"VPS_API_TOKEN_FILE": str(tmp_path / name)})
    said = refusal()
    assert said.startswith("VPS_API_TOKEN_FILE names a file that ")
    assert SECRET not in said


def test_two_tokens_are_refused(tmp_path: Path, set_up: Callable[[Mapping[str, str]], None]) -> None:
    set_up({"VPS_API_TOKEN": TOKEN, "VPS_API_TOKEN_FILE": a_file(tmp_path / "token", "vps_other")})
    assert refusal() == "VPS_API_TOKEN and VPS_API_TOKEN_FILE are both set: set one of them."


def test_settings_never_show_the_token(set_up: Callable[[Mapping[str, str]], None]) -> None:
    set_up({"VPS_API_TOKEN": TOKEN})
    settings = load_settings()
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert settings.vps_api_token is not None
    assert settings.vps_api_token.get_secret_value() == TOKEN


@pytest.mark.parametrize(
    ("proxy", "hidden"),
    [
        ("http://proxy.test:3128", ()),
        ("https://proxy.test", ()),
        ("http://user:s3cret@proxy.test:3128/", (SECRET,)),
        ("http://user:p%40s3cret@[::1]:3128", (f"p%40{SECRET}", f"p@{SECRET}")),
        ("http://user@proxy.test", ()),
    ],
)
def test_the_proxys_password_is_a_secret(
    proxy: str, hidden: tuple[str, ...], set_up: Callable[[Mapping[str, str]], None]
) -> None:
    set_up({"VPS_API_PROXY": proxy})
    settings = load_settings()
    assert settings.vps_api_proxy is not None
    assert settings.vps_api_proxy.get_secret_value() == proxy
    assert "proxy.test" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert set(settings.secrets) == set(hidden)


@pytest.mark.parametrize(("mode", "is_refused"), [(0o600, False), (0o644, True), (0o640, True)])
@pytest.mark.parametrize(("credentials", "secret"), [("user:s3cret@", True), ("", False)])
def test_a_settings_file_with_the_proxys_password_is_as_private_as_one_with_the_token(
    credentials: str,
    secret: bool,
    mode: int,
    is_refused: bool,
    tmp_path: Path,
    set_up: Callable[[Mapping[str, str]], None],
) -> None:
    file = a_file(tmp_path / "config.toml", f"vps_api_proxy = 'http://{credentials}proxy.test:3128'", mode)
    set_up({"MCP_BACKUPS_CONFIG": file})
    if secret and is_refused:
        assert "holds the proxy's password and can be read by others; make it private (chmod 600)." in refusal()
    else:
        assert load_settings().vps_api_proxy is not None


@pytest.mark.parametrize(
    ("content", "mode", "rule"),
    [
        (None, 0o644, "that cannot be found or read."),
        ("", 0o644, "that holds no certificates in PEM form."),
        ("s3cret", 0o644, "that holds no certificates in PEM form."),
        (
            "-----BEGIN CERTIFICATE-----\ns3cret\n-----END CERTIFICATE-----\n",
            0o644,
            "that holds no certificates in PEM",
        ),
        (trustme.CA().private_key_pem.bytes().decode(), 0o600, "that holds no certificates in PEM form."),
        (trustme.CA().cert_pem.bytes().decode(), 0o666, f"that {TO_ALL}"),
        (trustme.CA().cert_pem.bytes().decode(), 0o644, ""),
    ],
    ids=["missing", "empty", "text", "broken", "a key", "open to others", "a certificate"],
)
def test_a_file_of_certificates_is_looked_at_before_anything_is_sent(
    content: str | None, mode: int, rule: str, tmp_path: Path, set_up: Callable[[Mapping[str, str]], None]
) -> None:
    if content is not None:
        a_file(tmp_path / "ca.pem", content, mode)
    set_up({"VPS_API_CA_FILE": str(tmp_path / "ca.pem")})
    if rule:
        assert refusal().startswith(f"VPS_API_CA_FILE names a file {rule}")
    else:
        assert load_settings().vps_api_ca_file == tmp_path / "ca.pem"


@pytest.mark.parametrize("how", ["-OO", "PYTHONOPTIMIZE"])
def test_without_the_words_that_tools_are_chosen_by_nothing_is_served(how: str) -> None:
    """Python drops docstrings then, and those are the tools' descriptions."""
    command = [sys.executable, *([how] if how == "-OO" else []), "-m", "mcp_backups", "--sandbox"]
    changed = {} if how == "-OO" else {how: "2"}
    ended = subprocess.run(
        command, env=os.environ | changed, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr.startswith(b"mcp-backups: PYTHONOPTIMIZE=2 (python -OO) takes away the descriptions")
    assert ended.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VPS_API_TOKEN", "vps s3cret"),
        ("VPS_API_URL", "http://user:s3cret@api.test/"),
        ("MCP_BACKUPS_APPROVAL", "s3cret"),
        ("MCP_BACKUPS_READONLY", "s3cret"),
        ("MCP_BACKUPS_CONFIG", "/s3cret/config.toml"),
    ],
)
@pytest.mark.parametrize("arguments", [(), ("--sandbox",)], ids=["server", "sandbox"])
def test_the_command_says_what_is_wrong_in_one_line_and_exits_2(
    name: str, value: str, arguments: tuple[str, ...]
) -> None:
    """Standard output belongs to the protocol; what a client shows of a failed start is standard error."""
    command = [str(Path(sys.executable).with_name("mcp-backups")), *arguments]
    ended = subprocess.run(
        command, env=os.environ | {name: value}, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
    )
    said = ended.stderr.decode()
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert said.startswith(f"mcp-backups: {name} ")
    assert said.count("\n") == 1
    assert SECRET not in said
