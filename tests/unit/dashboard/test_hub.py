"""dashboard/hub.py: every listener hears everything from its beginning on, or loses its stream."""

from __future__ import annotations

import asyncio

from minikafka.dashboard.hub import Hub, encode


async def test_a_listener_hears_the_beginning_and_then_what_is_published() -> None:
    hub = Hub()
    stream = hub.subscribe(lambda: [encode("snapshot", {"a": "ü\n"})])
    assert await anext(stream) == 'event: snapshot\ndata: {"a":"ü\\n"}\n\n'
    hub.publish("event", [1])
    assert await anext(stream) == "event: event\ndata: [1]\n\n"
    assert len(hub) == 1
    await stream.aclose()  # type: ignore[attr-defined]
    assert len(hub) == 0


async def test_a_listener_that_does_not_keep_up_loses_its_stream() -> None:
    hub = Hub()
    stream = hub.subscribe(lambda: ["begin"])
    assert await anext(stream) == "begin"
    for number in range(5_000):
        hub.publish("event", number)
    assert [each async for each in stream] == []
    assert len(hub) == 0


async def test_closing_ends_every_stream_and_takes_no_new_one() -> None:
    hub = Hub()
    stream = hub.subscribe(lambda: ["begin"])
    await anext(stream)
    waiting = asyncio.ensure_future(anext(stream, "over"))
    hub.close()
    assert await waiting == "over"
    assert [each async for each in hub.subscribe(lambda: ["begin"])] == []
