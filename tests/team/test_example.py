"""The example of a team: what its files name is there, and its roles can do what they must and no more."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from mcp_backups import cli
from tests.postgres.cluster import Cluster, programs
from tests.process import COMMAND, PATIENCE, environment
from tests.team.proxy import CONFIGURATION
from tests.test_distribution import SETTINGS

FOLDER = CONFIGURATION.parent
COMPOSE = (FOLDER / "compose.yml").read_text(encoding="utf-8")
OWNER, SERVER = "mcp_backups_owner", "mcp_backups"


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE)
    return loaded


def test_every_variable_is_given(parts: dict[str, Any]) -> None:
    asked = set(re.findall(r"\$\{(\w+)", COMPOSE))
    given = set(re.findall(r"(?m)^(\w+)=", (FOLDER / "settings.env").read_text(encoding="utf-8")))
    assert asked == given
    of_nginx = set(re.findall(r"\$\{(\w+)\}", CONFIGURATION.read_text(encoding="utf-8")))
    assert of_nginx == parts["services"]["nginx"]["environment"].keys()


def test_every_setting_secret_and_volume_is_one(parts: dict[str, Any]) -> None:
    services = parts["services"].values()
    ours = [each for each in services if each["image"] == "mcp-backups:team"]
    assert {name for each in ours for name in each["environment"]} <= SETTINGS.keys()
    assert {name for each in services for name in each.get("secrets", [])} == parts["secrets"].keys()
    mounted = {volume.split(":")[0] for each in services for volume in each.get("volumes", [])}
    assert {name for name in mounted if not name.startswith("./")} == parts["volumes"].keys()
    assert all((FOLDER / name).is_file() for name in mounted if name.startswith("./"))


def test_each_replica_listens_where_the_proxy_looks_for_it(parts: dict[str, Any]) -> None:
    nginx = parts["services"]["nginx"]["environment"]
    for number in (1, 2):
        replica = parts["services"][f"replica-{number}"]
        assert nginx[f"REPLICA_{number}"] == f"unix:{replica['command'][-1]}"
        assert replica["healthcheck"]["test"] == ["CMD", "test", "-S", replica["command"][-1]]


def test_every_command_is_one(parts: dict[str, Any]) -> None:
    by_hand = [shlex.split(line) for line in re.findall(r"(?m)^# +docker compose run --rm commands (.*)$", COMPOSE)]
    commands = [each["command"] for each in parts["services"].values() if "command" in each]
    assert len(by_hand + commands) == 4
    for each in by_hand + commands:
        assert cli._parser().parse_args(each).run


@pytest.fixture
def roles(cluster: Cluster) -> Iterator[dict[str, str]]:
    """The address of the ledger for each of the two roles that the example makes."""
    database = "team"
    cluster.execute(f"CREATE DATABASE {database}")
    folder = programs()
    assert folder
    command = [str(folder / "psql"), "-v", "ON_ERROR_STOP=1", "-f", str(FOLDER / "roles.sql")]
    passwords = {"OWNER_PASSWORD": "of the owner's", "SERVER_PASSWORD": "of the server's"}
    subprocess.run(
        [*command, cluster.url(database, "postgres")], env=os.environ | passwords, check=True, timeout=PATIENCE
    )
    try:
        yield {role: cluster.url(database, role) for role in (OWNER, SERVER)}
    finally:
        cluster.execute(f"DROP DATABASE {database} WITH (FORCE)", f"DROP ROLE {OWNER}", f"DROP ROLE {SERVER}")


def test_one_role_makes_the_tables_and_the_other_serves_with_them(
    roles: dict[str, str], parts: dict[str, Any], tmp_path: Path
) -> None:
    command = [*COMMAND, *parts["services"]["migrate"]["command"]]
    for _ in range(2):
        around = environment(tmp_path / "state", MCP_BACKUPS_LEDGER_URL=roles[OWNER])
        subprocess.run(command, env=around, check=True, timeout=PATIENCE, capture_output=True)
    with psycopg.connect(roles[SERVER], autocommit=True) as connection:
        connection.execute("SELECT seq FROM mcp_backups.events")
        for forbidden in (
            "DELETE FROM mcp_backups.events",
            "UPDATE mcp_backups.events SET status = ''",
            "TRUNCATE mcp_backups.events",
            "CREATE TABLE mcp_backups.mine (id INT)",
            "CREATE SCHEMA mine",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden)
