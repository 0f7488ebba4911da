"""The recorded answers of Apache Kafka 3.9 with its AclAuthorizer, and those of minikafka."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

from minikafka.broker.access.access import Access
from minikafka.broker.request_memory import RequestMemory
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.server import KafkaServer
from minikafka.security.authorizer import Authorizer
from tests.conformance import recorded
from tests.conformance.cases_acls import CASES
from tests.conformance.compare import Intended, differences
from tests.conformance.exchange import Exchange, play
from tests.helpers.access import FakeAcls, FakeUsers, SharedAccess
from tests.helpers.brokers import BrokerCluster
from tests.helpers.listeners import start_plaintext

APIS = (ApiKey.DESCRIBE_ACLS, ApiKey.CREATE_ACLS, ApiKey.DELETE_ACLS)
_STRICT = ("no principal", "an operation that topics do not know", "a host that is none")
INTENDED = [
    *(
        Intended("a rule that could never hold is refused, and told why", ApiKey.CREATE_ACLS, case)
        for case in _STRICT
    ),
    Intended("so it need not be taken away", ApiKey.DELETE_ACLS, "what Kafka alone has made"),
    *(
        Intended("a number that means nothing is refused alone, with a reason", api, "an unknown *")
        for api in APIS
    ),
    *(
        Intended("a filter that could never find anything is told so", api, "of no principal")
        for api in (ApiKey.DESCRIBE_ACLS, ApiKey.DELETE_ACLS)
    ),
]


async def exchanges(path: Path) -> list[Exchange]:
    """What one broker of minikafka answers. What keeps its entries makes no difference to it."""
    shared = SharedAccess()
    cluster = BrokerCluster(path)
    cluster.access = lambda: Access(
        FakeAcls(shared), FakeUsers(shared), lambda: 0, authorizer=Authorizer()
    )
    try:
        await cluster.start(1)
        listener = KafkaServer(
            cluster.service(1),
            RequestMemory(1_000_000),
            max_request_bytes=1_000_000,
            max_idle_ms=60_000,
            max_fetch_sessions=10,
        )
        port = await start_plaintext(listener)
        try:
            return await asyncio.to_thread(lambda: list(play(CASES, f"127.0.0.1:{port}")))
        finally:
            await listener.stop()
    finally:
        await cluster.close()


async def test_entries_are_answered_as_kafka_does_but_where_it_is_meant(tmp_path: Path) -> None:
    kafka = {api: recorded.read(api, recorded.WITH_AUTHORIZER) for api in APIS}
    asked: dict[tuple[ApiKey, str, int], str] = {}
    unexpected = []
    used: set[int] = set()
    for exchange in await exchanges(tmp_path):
        api = exchange.case.api
        asked[api, *exchange.key] = exchange.request
        if exchange.key not in kafka[api]:
            continue
        ours = json.loads(json.dumps(exchange.answer))
        [theirs] = kafka[api][exchange.key].answers
        for difference in differences(theirs, ours):
            meant = [each for each in INTENDED if each.covers(api, *exchange.key, difference)]
            used |= set(map(id, meant))
            if not meant:
                unexpected.append(f"{exchange.case.name} ({exchange.version}): {difference}")
    assert not unexpected, "\n".join(unexpected)
    assert [each.why for each in INTENDED if id(each) not in used] == [], "it is none any more"
    answered = {
        (api, *key): recording.request
        for api, recordings in kafka.items()
        for key, recording in recordings.items()
    }
    assert asked == answered, "python -m tests.conformance.record"


def test_every_case_has_a_name_of_its_own() -> None:
    names = Counter((case.api, case.name) for case in CASES)
    assert [name for name, times in names.items() if times > 1] == []
