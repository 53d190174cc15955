"""The network fails, is slow, or comes back."""

import ssl
from functools import partial
from pathlib import Path

import pytest
import trustme

from mcp_backups.sandbox import Emulator, Fault
from tests.faults.conftest import OpenBench
from tests.faults.stage import (
    LOST,
    Bench,
    Case,
    a_create,
    a_delete,
    a_list,
    a_restore,
    assert_case,
    on_delete,
    on_get,
    on_post,
    table,
    times_applied,
)
from tests.stage import PROMPT, ManualClock

pytestmark = pytest.mark.anyio

BRIEF = partial(PROMPT, deadline=0.4)
"""A client that waits 0.4 s for a request where 20 s are usual; 5.5 s and 25.5 s of the matrix shrink alike."""


@pytest.mark.parametrize("row", ["F54"])
@pytest.mark.parametrize("act", [a_list, a_create], ids=["list", "create"])
async def test_where_nothing_listens_nothing_was_changed(bench: Bench, row: str, act: object) -> None:
    await bench.emulator.down()
    connections = bench.emulator.connections
    assert callable(act)
    case = Case(row, "refused", act, (), "upstream_unavailable", "nothing", 0, gist=("could not be reached",))
    await assert_case(bench, case)
    assert bench.emulator.connections == connections
    assert bench.operations() == []


@pytest.mark.parametrize("row", ["F54"])
async def test_a_backup_is_asked_for_again_while_no_connection_can_be_made(
    emulator: Emulator, clock: ManualClock, bench_on: OpenBench, row: str
) -> None:
    """Only a request that certainly never left is sent again."""
    async with bench_on(emulator) as bench:
        confirmation = await bench.plan("delete_backup", backup_id=499)
        await emulator.down()
        answer = await bench.agent.call("delete_backup", **confirmation)
        assert answer.code == "upstream_unavailable", row
        await emulator.up()
        answer = await bench.agent.call("delete_backup", **confirmation)
        assert answer.status == "succeeded"
        assert times_applied(emulator, "DELETE") == 1
    assert clock.slept


@pytest.mark.parametrize("row", ["F55"])
@pytest.mark.parametrize("fault", ["self-signed", "wrong-host", "expired"])
async def test_a_certificate_that_does_not_hold_is_an_error_of_the_settings(
    clock: ManualClock, bench_on: OpenBench, tmp_path: Path, row: str, fault: str
) -> None:
    trusted, other = trustme.CA(), trustme.CA()
    issuer = other if fault == "self-signed" else trusted
    if fault == "expired":
        from datetime import UTC, datetime

        certificate = issuer.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    else:
        certificate = issuer.issue_cert("elsewhere.example" if fault == "wrong-host" else "127.0.0.1")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(served)
    trusted.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with (
        Emulator(now=clock.now, ssl=served) as api,
        bench_on(api, vps_api_ca_file=tmp_path / "ca.pem") as bench,
    ):
        case = Case(row, fault, a_list, (), "config_error", "nothing", 0, gist=("TLS verification failed",))
        await assert_case(bench, case)
        assert api.connections == 1


MADE = [
    Case("F57", "reset", a_create, (on_post(LOST),), "", "started", (0, 6), 1, 0, "accepted", applied=True),
    Case(
        "F57", "close", a_create, (on_post(Fault.close_after()),), "", "started", (0, 6), 1, 0, "accepted", applied=True
    ),
    Case(
        "F57",
        "half-a-header",
        a_create,
        (on_post(Fault.half_header()),),
        "",
        "started",
        (0, 6),
        1,
        0,
        "accepted",
        applied=True,
    ),
    Case(
        "F57", "cut-body", a_create, (on_post(Fault.cut_body()),), "", "started", (0, 6), 1, 0, "accepted", applied=True
    ),
    Case(
        "F57",
        "garbage",
        a_create,
        (on_post(Fault.raw(b"\x00\x01 nonsense\r\n\r\n", apply=True)),),
        "",
        "started",
        (0, 6),
        1,
        0,
        "accepted",
        applied=True,
    ),
    Case(
        "F64",
        "back-at-the-second-look",
        a_create,
        (on_post(LOST), on_get(Fault.reset_before(), 3, 1)),
        "",
        "started",
        (0, 8),
        1,
        0,
        "accepted",
        applied=True,
    ),
    Case(
        "F64",
        "back-at-the-third-look",
        a_create,
        (on_post(LOST), on_get(Fault.reset_before(), 5, 1)),
        "",
        "started",
        (0, 10),
        1,
        0,
        "accepted",
        applied=True,
    ),
]


@table(MADE)
async def test_a_backup_whose_answer_is_lost_is_found_by_looking_and_made_once(bench: Bench, case: Case) -> None:
    before = set(bench.emulator.fleet.backups)
    await assert_case(bench, case)
    assert len(set(bench.emulator.fleet.backups) - before) == 1


SILENT = [
    Case(
        "F58", "restore", a_restore, (on_post(Fault.silence()),), "outcome_unknown", "unknown", (0, 2), 1, applied=True
    ),
    Case("F58", "delete", a_delete, (on_delete(Fault.silence()),), "", "done", (0, 3), 0, 1, "succeeded", applied=True),
    Case("F58", "create", a_create, (on_post(Fault.silence()),), "", "started", (0, 6), 1, 0, "accepted", applied=True),
    Case("F59", "body", a_list, (on_get(Fault.drip(0.05), None),), "upstream_timeout", "nothing", (1, 3)),
    Case("F59", "header", a_list, (on_get(Fault.drip(0.05, "header"), None),), "upstream_timeout", "nothing", (1, 3)),
]


@table(SILENT)
async def test_no_silence_and_no_drip_holds_a_call_beyond_its_deadline(
    emulator: Emulator, bench_on: OpenBench, case: Case
) -> None:
    async with bench_on(emulator, BRIEF) as bench:
        await assert_case(bench, case)


@pytest.mark.parametrize("row", ["F61"])
async def test_latency_below_the_deadline_is_only_latency(emulator: Emulator, bench_on: OpenBench, row: str) -> None:
    async with bench_on(emulator, partial(PROMPT, deadline=3.0)) as bench:
        await assert_case(bench, Case(row, "latency", a_list, (on_get(Fault.delay(0.3)),), gets=1))
