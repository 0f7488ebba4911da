"""Lies to real brokers in this process: nothing that is sent is without an answer to it."""

from __future__ import annotations

import asyncio
import logging
import struct
from pathlib import Path

import pytest

from minikafka.broker.request_memory import RequestMemory
from minikafka.kafka.server import KafkaServer
from tests.fuzz import requests
from tests.helpers.brokers import BrokerCluster
from tests.helpers.listeners import start_plaintext

NOW_MS = 1_800_000_000_000
COUNT = 400
ANSWER_S = 0.1


class Liar:
    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, fuzzed: requests.Fuzzed) -> bool:
        """Whether it was answered, and not closed for it, or waited for."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(fuzzed.wire)
        try:
            async with asyncio.timeout(ANSWER_S):
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                await reader.readexactly(size)
        except (OSError, EOFError):  # of which a timeout is one
            self.hang_up()
            return False
        return True

    def hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@pytest.mark.slow
async def test_every_lie_is_answered_or_refused_and_none_fails_unexpectedly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = BrokerCluster(tmp_path, {"offsets.topic.num.partitions": "2"})
    listener = None
    try:
        await cluster.start(1, 2)
        for topic in requests.TOPICS:
            await cluster.create_topic(topic, [1, 2])
        listener = KafkaServer(
            cluster.service(1),
            RequestMemory(1_000_000),
            max_request_bytes=1_000_000,
            max_idle_ms=60_000,
            max_fetch_sessions=10,
        )
        liar = Liar(await start_plaintext(listener))
        answered = 0
        with caplog.at_level(logging.ERROR):
            for number in range(COUNT):
                fuzzed = requests.request(1, 0, number, NOW_MS)
                answered += await liar.send(fuzzed)
                # Tasks of tests before this one may be missed by asyncio at any time.
                ours = [each for each in caplog.records if each.name.startswith("minikafka")]
                assert not ours, (number, str(fuzzed), caplog.text)
        liar.hang_up()
        assert answered > COUNT / 2
    finally:
        if listener is not None:
            await listener.stop()
        await cluster.close()
