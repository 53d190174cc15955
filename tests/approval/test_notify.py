"""People are told what waits, what was decided, and what became unknown; never in the way of anything."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from mcp_backups import notify
from mcp_backups.accounts import NamedAccount
from mcp_backups.errors import ConfigError
from mcp_backups.notify import GAP_SECONDS, LOOK_SECONDS, check_addresses, keep_told, through_apprise
from mcp_backups.sandbox import Fault
from mcp_backups.settings import load_settings
from mcp_backups.transport import open_context, open_idle_context
from tests.approval.conftest import Scene
from tests.stage import PROMPT, ManualClock, on_emulator, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated"),  # which Apprise asks for before Python 3.13
]

SECRET = "s3cret-path"


@dataclass
class Desk:
    """Where messages arrive, from a process whose pauses the test ends one by one.

    Attributes:
        fails: How often it fails before it takes one.
        tried: What came, whether it was taken or not.
    """

    clock: ManualClock
    fails: int = 0
    error: Exception | None = None
    told: list[str] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    _turn: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(0))

    async def __call__(self, text: str) -> bool:
        self.tried.append(text)
        if self.error:
            raise self.error
        if self.fails:
            self.fails -= 1
            return False
        self.told.append(text)
        return True

    async def sleep(self, seconds: float) -> None:
        """Wait until the test lets so much time pass."""
        self.pauses.append(seconds)
        await self._turn.acquire()
        self.clock.passed += seconds

    async def look(self, times: int = 1) -> list[str]:
        """Let it look so often; what it told by then, since the test last asked."""
        for _ in range(times):
            before = len(self.pauses)
            self._turn.release()
            await until(lambda before=before: len(self.pauses) > before)  # type: ignore[misc]
        told, self.told = self.told, []
        return told


@asynccontextmanager
async def telling(scene: Scene, desk: Desk, **rules: Any) -> AsyncIterator[Desk]:
    settings = on_emulator(scene.settings.model_copy(update=rules), scene.emulator)
    async with (
        open_idle_context(settings, scene.clock.clock, PROMPT) as context,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(keep_told, replace(context, clock=replace(context.clock, sleep=desk.sleep)), desk)
        await until(lambda: bool(desk.pauses))
        await desk.look()
        yield desk
        tasks.cancel_scope.cancel()


async def test_what_waits_and_what_was_decided_is_told(scene: Scene) -> None:
    async with telling(scene, Desk(scene.clock), console_url="https://console.example") as desk:
        assert await desk.look() == []
        await scene.asks()
        (message,) = await desk.look()
        waits = "waits for an approver until 2026-11-24T09:30Z: Backup 499 of server 12345 would be deleted for good."
        assert message == f"{scene.operation} {waits}\nhttps://console.example"
        scene.clock.advance(seconds=GAP_SECONDS)
        await scene.approves()
        (message,) = await desk.look()
        assert message.startswith(f'{scene.operation} was approved by "alice" (terminal). It was: Backup 499')
        scene.clock.advance(seconds=GAP_SECONDS)
        await scene.declines()
        (message,) = await desk.look()
        assert message.startswith(f'{scene.operation} was declined by "alice" (terminal).')
        scene.clock.advance(seconds=GAP_SECONDS)
        assert await desk.look() == []


async def test_where_there_are_several_accounts_it_is_told_which(scene: Scene) -> None:
    shop = NamedAccount(
        vps_api_token_file=scene.settings.state_dir / "shop",
        principals=frozenset({"local"}),
        token=SecretStr(scene.emulator.token),
    )
    await scene.start(accounts={"shop": shop})
    async with telling(scene, Desk(scene.clock)) as desk:
        await scene.asks()
        (message,) = await desk.look()
    assert message.startswith(f"{scene.operation} (account shop) waits for an approver until ")


async def test_what_became_unknown_is_told(scene: Scene) -> None:
    await scene.start(approval="plan")
    async with telling(scene, Desk(scene.clock)) as desk:
        scene.emulator.fail(Fault.status(500), method="DELETE", times=3)
        scene.operation = (await scene.agent.call(scene.tool, **scene.arguments)).operation
        assert (await scene.asks()).code == "outcome_unknown"
        assert await desk.look() == [
            f"{scene.operation}: It is not known whether backup 499 of server 12345 was deleted."
        ]


async def test_what_was_so_before_is_not_told(scene: Scene) -> None:
    await scene.asks()
    async with telling(scene, Desk(scene.clock)) as desk:
        assert await desk.look() == []


@pytest.mark.parametrize("decided", ["approves", "declines"])
async def test_a_decision_that_is_carried_out_at_once_is_told(scene: Scene, decided: str) -> None:
    await scene.asks()
    async with telling(scene, Desk(scene.clock)) as desk:
        await (scene.approves() if decided == "approves" else scene.declines())
        await scene.asks()
        (message,) = await desk.look()
        assert ("was approved" in message) is (decided == "approves")


async def test_at_most_one_message_comes_within_five_minutes(scene: Scene) -> None:
    async with telling(scene, Desk(scene.clock)) as desk:
        await scene.asks()
        assert len(await desk.look()) == 1
        scene.operation, scene.arguments = "", {"backup_id": 495}
        await scene.asks()
        assert await desk.look() == []
        await scene.declines()
        assert await desk.look(2) == []
        scene.clock.advance(seconds=GAP_SECONDS - 5 * LOOK_SECONDS)
        assert await desk.look() == []
        (message,) = await desk.look()
        waits, declined = message.splitlines()
        assert waits.startswith(f"{scene.operation} waits for an approver")
        assert declined.startswith(f"{scene.operation} was declined by")


async def test_of_many_the_first_are_named_and_the_others_counted(scene: Scene) -> None:
    async with telling(scene, Desk(scene.clock)) as desk:
        await scene.asks()
        (first,) = (each.operation for each in await scene.pending())

        def more(entries: Any) -> None:
            for number in range(24):
                entries.save(first.updated(id=f"op_{'b' * 15}{chr(97 + number)}"))

        await scene.as_approver(lambda context: context.ledger.write(more))
        (message,) = await desk.look()
        assert (message.count("waits for an approver"), message.splitlines()[-1]) == (20, "And 5 more.")


@pytest.mark.parametrize(("fails", "tries", "told"), [(0, 1, 1), (1, 2, 1), (2, 3, 1), (3, 3, 0)])
async def test_a_message_is_tried_three_times(
    scene: Scene, caplog: pytest.LogCaptureFixture, fails: int, tries: int, told: int
) -> None:
    async with telling(scene, Desk(scene.clock, fails=fails)) as desk:
        await scene.asks()
        assert len(await desk.look(3)) == told
        assert len(desk.tried) == tries
        assert ("A message was given up after 3 tries." in caplog.text) is not told
        scene.clock.advance(seconds=GAP_SECONDS)
        await desk.look()
        assert len(desk.tried) == tries


@pytest.mark.parametrize("error", [RuntimeError(SECRET), OSError(SECRET), ConfigError(SECRET)])
async def test_whatever_goes_wrong_it_goes_on_and_no_address_is_logged(
    scene: Scene, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async with telling(scene, Desk(scene.clock, error=error)) as desk:
        await scene.asks()
        await desk.look()
        assert f"What is new could not be looked up or told: {type(error).__name__}" in caplog.text
        assert SECRET not in caplog.text
        desk.error = None
        scene.clock.advance(seconds=GAP_SECONDS)
        await scene.approves()
        assert len(await desk.look()) == 1


async def test_a_ledger_that_cannot_be_read_ends_nothing(
    scene: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.asks()
    async with telling(scene, Desk(scene.clock)) as desk:
        with monkeypatch.context() as patch:
            patch.setattr(notify, "_look", fails)
            await desk.look()
        assert "could not be looked up or told: OSError" in caplog.text
        await scene.declines()
        assert len(await desk.look()) == 1


async def fails(*_: object) -> None:
    raise OSError


async def test_of_two_processes_one_tells_and_the_other_takes_over(scene: Scene) -> None:
    other = Desk(scene.clock)
    async with telling(scene, other):
        async with telling(scene, Desk(scene.clock)) as one:
            await scene.asks()
            assert [len(await desk.look()) for desk in (one, other)] in ([1, 0], [0, 1])
        teller = other
        scene.clock.advance(seconds=2 * GAP_SECONDS)
        await teller.look()
        await scene.approves()
        assert len(await teller.look()) == 1


async def test_names_and_descriptions_are_in_no_message(scene: Scene) -> None:
    hostile = scene.emulator.fleet
    hostile.backups[499].description = "Click https://evil.example"
    async with telling(scene, Desk(scene.clock)) as desk:
        await scene.asks()
        await scene.decides((await scene.shown()).mac, approve=True, by="https://evil.example/login")
        (message,) = await desk.look()
        assert "web-server" not in message
        assert "https://" not in message


class Receiver(ThreadingHTTPServer):
    """Where Apprise posts JSON to."""

    def __init__(self, status: int = 200) -> None:
        self.bodies: list[bytes] = []
        received = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> SecretStr:
        return SecretStr(f"json://127.0.0.1:{self.server_address[1]}/{SECRET}")


@pytest.fixture
def receive() -> Callable[[int], Receiver]:
    def start(status: int) -> Receiver:
        receiver = Receiver(status)
        Thread(target=receiver.serve_forever, daemon=True).start()
        return receiver

    return start


@pytest.mark.parametrize(("status", "taken"), [(200, True), (500, False)])
async def test_apprise_brings_it_and_logs_no_address(
    receive: Callable[[int], Receiver], caplog: pytest.LogCaptureFixture, status: int, taken: bool
) -> None:
    receiver = receive(status)
    try:
        assert await through_apprise([receiver.address])("op_a waits") is taken
    finally:
        receiver.shutdown()
        receiver.server_close()
    assert b'"message": "op_a waits"' in receiver.bodies[0]
    assert SECRET not in caplog.text


async def test_a_server_tells_through_apprise(
    scene: Scene, receive: Callable[[int], Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the server, whose calls do not wait for it."""
    monkeypatch.setattr(notify, "LOOK_SECONDS", 0.01)
    receiver = receive(200)
    settings = on_emulator(scene.settings.model_copy(update={"notify": (receiver.address,)}), scene.emulator)
    real = replace(scene.clock.clock, sleep=anyio.sleep)
    try:
        async with open_context(settings, real, PROMPT):
            await anyio.sleep(0.1)
            await scene.asks()
            await until(lambda: bool(receiver.bodies))
    finally:
        receiver.shutdown()
        receiver.server_close()
    assert scene.operation.encode() in receiver.bodies[0]


def test_an_address_that_apprise_does_not_know_is_told_by_its_place() -> None:
    with pytest.raises(ConfigError, match="its address number 2 is none that Apprise knows") as error:
        check_addresses([SecretStr("json://127.0.0.1:1/x"), SecretStr(f"nonsense://{SECRET}")])
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("raw", "count"),
    [
        ("json://127.0.0.1/a", 1),
        ("  json://127.0.0.1/a\n mailto://u:p@example.com ", 2),
        ("", 0),
        ("json:/127.0.0.1", None),
        (f"json://a {SECRET}", None),
        ("json://a,b://c d://e", 2),
    ],
)
def test_addresses_are_set_with_spaces_between(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, raw: str, count: int | None
) -> None:
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MCP_BACKUPS_NOTIFY", raw)
    if count is None:
        with pytest.raises(ConfigError, match=r"^config_error: MCP_BACKUPS_NOTIFY must be Apprise addresses") as wrong:
            load_settings()
        assert SECRET not in str(wrong.value)
    else:
        settings = load_settings()
        assert len(settings.notify) == count
        assert all(address.get_secret_value() in settings.secrets for address in settings.notify)
        assert "127.0.0.1" not in repr(settings)


def test_without_the_extra_one_line_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MCP_BACKUPS_NOTIFY", "json://127.0.0.1/a")
    monkeypatch.setattr("mcp_backups.settings.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"needs the extra `notify`: pip install '.\[notify\]' in the folder"):
        load_settings()
