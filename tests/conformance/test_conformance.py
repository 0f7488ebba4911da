"""The recorded answers of Apache Kafka 3.9 and those of minikafka to the same requests."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator

import pytest

from minikafka.kafka.apis import APIS, ApiKey
from tests.conformance import recorded
from tests.conformance.cases import CASES, SETTINGS
from tests.conformance.compare import Difference, differences
from tests.conformance.exchange import CLOSED, Exchange, play
from tests.conformance.intended import INTENDED
from tests.helpers.processes import ProcessCluster

RECORDED = {api: recorded.read(api) for api in ApiKey}
Found = dict[ApiKey, list[tuple[Exchange, list[Difference]]]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """What one broker of minikafka answers, and where that differs, by API."""
    cluster = ProcessCluster(tmp_path_factory.mktemp("conformance"))
    try:
        cluster.up(1, "embedded", *(f"{name}={value}" for name, value in SETTINGS.items()))
        document = json.loads((cluster.path / "cluster.json").read_text())
        by_api: Found = {api: [] for api in ApiKey}
        for exchange in play(CASES, document["brokers"][0]["kafka"]):
            by_api[exchange.case.api].append((exchange, _differences(exchange)))
        yield by_api
    finally:
        cluster.down()


def _differences(exchange: Exchange) -> list[Difference]:
    """From the mode of Kafka that is nearest: what neither does is a difference."""
    recording = RECORDED[exchange.case.api].get(exchange.key)
    if recording is None:
        return []
    # As it is written down and read again.
    ours = json.loads(json.dumps(exchange.answer))
    return min((list(differences(kafka, ours)) for kafka in recording.answers), key=len)


@pytest.mark.parametrize("api", ApiKey, ids=lambda api: api.name)
def test_an_api_answers_as_kafka_does_but_where_it_is_meant(found: Found, api: ApiKey) -> None:
    unexpected = [
        f"{exchange.case.name} (version {exchange.version}): {difference}"
        for exchange, items in found[api]
        for difference in items
        if not any(each.covers(api, *exchange.key, difference) for each in INTENDED)
    ]
    assert not unexpected, "\n".join(unexpected)


def test_each_intended_difference_is_still_one(found: Found) -> None:
    used = {
        id(each)
        for api, exchanges in found.items()
        for exchange, items in exchanges
        for difference in items
        for each in INTENDED
        if each.covers(api, *exchange.key, difference)
    }
    idle = [f"{each.api.name}: {each.why}" for each in INTENDED if id(each) not in used]
    assert not idle, "\n".join(idle)


def test_every_api_and_version_that_is_served_has_an_answer_of_kafka() -> None:
    told = {
        (api, version)
        for api, recordings in RECORDED.items()
        for (_, version), recording in recordings.items()
        if any(answer != CLOSED for answer in recording.answers)
    }
    served = {
        (key, version)
        for key, api in APIS.items()
        for version in range(api.min_version, api.max_version + 1)
    }
    assert served <= told, (
        f"no answer of Kafka is recorded for {sorted(served - told)}: add cases in "
        "tests/conformance/cases_*.py and run `python -m tests.conformance.record` (Java, Maven)"
    )


def test_what_was_recorded_is_what_is_asked(found: Found) -> None:
    """Otherwise: python -m tests.conformance.record"""
    asked = {
        (each.case.api, *each.key): each.request for each, _ in itertools.chain(*found.values())
    }
    answered = {
        (api, *key): recording.request
        for api, recordings in RECORDED.items()
        for key, recording in recordings.items()
    }
    assert asked == answered


def test_every_case_has_a_name_of_its_own() -> None:
    names = Counter((case.api, case.name) for case in CASES)
    assert [name for name, times in names.items() if times > 1] == []
