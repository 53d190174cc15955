"""OpenTelemetry: one span for each request to VPS.org, below that of the call that it serves; no secret in any."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode, set_tracer_provider

from mcp_backups.sandbox import SANDBOX_TOKEN, Emulator, Fault
from tests.stage import Session

pytestmark = pytest.mark.anyio

DESCRIPTION = "words of others"


class WhileOn(Sampler):
    """Records nothing more once it is switched off."""

    is_on = True

    def should_sample(self, *told: Any, **more: Any) -> SamplingResult:
        return (ALWAYS_ON if self.is_on else ALWAYS_OFF).should_sample(*told, **more)

    def get_description(self) -> str:
        return "WhileOn"


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    """What a process exports may be set once; so each test looks at its own spans of it, and later ones make none."""
    exporter, sampler = InMemorySpanExporter(), WhileOn()
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    set_tracer_provider(provider)
    yield exporter
    sampler.is_on = False


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    exporter.clear()
    yield exporter
    told = " ".join(span.to_json() for span in exporter.get_finished_spans())
    assert SANDBOX_TOKEN not in told
    assert DESCRIPTION not in told
    assert "Bearer" not in told


def of_requests(spans: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.kind is SpanKind.CLIENT and "url.full" in told(span)]


def told(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def names(spans: Sequence[ReadableSpan]) -> list[str]:
    return [span.name for span in spans]


async def test_each_request_has_a_span_below_that_of_its_call(
    agent: Session, emulator: Emulator, spans: InMemorySpanExporter
) -> None:
    assert (await agent.call("create_backup", server_id=12345, description=DESCRIPTION)).status == "accepted"
    found = of_requests(spans)
    assert names(found) == [f"{each.method} {each.path}" for each in emulator.requests]
    above = {span.context.span_id: span for span in spans.get_finished_spans() if span.context}
    for span in found:
        assert span.parent is not None
        assert above[span.parent.span_id].name == "tools/call create_backup"
        assert span.status.status_code is StatusCode.UNSET
    post = told(found[-1])
    assert post["http.request.method"] == "POST"
    assert post["http.response.status_code"] == 201
    assert post["url.full"] == f"{emulator.base_url}/backups/"
    assert (post["server.address"], post["server.port"]) == ("127.0.0.1", int(emulator.base_url.split(":")[2][:5]))
    assert not {"error.type", "http.request.resend_count"} & post.keys()


@pytest.mark.parametrize(
    ("fault", "times", "ends"),
    [
        (Fault.status(503, DESCRIPTION), 1, ["503", ""]),
        (Fault.status(401, {"detail": DESCRIPTION}), 1, ["401"]),
        (Fault.status(302), 1, ["302"]),
        (Fault.reset_before(), 2, ["ReadError", "ReadError", ""]),
        (Fault.raw(b"no HTTP\r\n\r\n"), 3, ["RemoteProtocolError"] * 3),
        (Fault.status(200, DESCRIPTION, content_type="text/html"), 1, ["BodyUnreadableError"]),
    ],
    ids=["retried", "refused", "redirect", "reset", "garbled", "web page"],
)
async def test_each_attempt_has_its_own_and_tells_how_it_ended(
    agent: Session, emulator: Emulator, spans: InMemorySpanExporter, fault: Fault, times: int, ends: list[str]
) -> None:
    emulator.fail(fault, path="^/backups/$", times=times)
    await agent.call("list_backups", server_id=12345)
    found = [span for span in of_requests(spans) if span.name == "GET /backups/"][: len(ends)]
    assert [told(span).get("error.type", "") for span in found] == ends
    assert [told(span).get("http.request.resend_count", 0) for span in found] == list(range(len(ends)))
    for span, end in zip(found, ends, strict=True):
        assert span.status.status_code is (StatusCode.ERROR if end else StatusCode.UNSET)
        assert span.status.description is None
        assert not span.events
        assert told(span).get("http.response.status_code", 0) == (int(end) if end.isdecimal() else 0 if end else 200)


async def test_an_id_is_no_part_of_a_spans_name(agent: Session, spans: InMemorySpanExporter) -> None:
    plan = await agent.call("delete_backup", backup_id=499)
    await agent.call("delete_backup", backup_id=499, confirm=True, operation_id=plan.operation)
    deletes = [span for span in of_requests(spans) if told(span)["http.request.method"] == "DELETE"]
    assert names(deletes) == ["DELETE /backups/{id}/"]
    assert told(deletes[0])["url.template"] == "/backups/{id}/"
    assert str(told(deletes[0])["url.full"]).endswith("/backups/499/")
