"""/metrics of real brokers, and the board that is drawn from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from minikafka.local import clusterfile
from tests.helpers.processes import ProcessCluster

pytestmark = pytest.mark.slow

DEADLINE_S = 60
BOARD = Path(__file__).parents[3] / "docs" / "grafana" / "minikafka.json"
_METRIC = re.compile(r"\b(?:kafka|minikafka|process|python)_[a-z0-9_]+")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    made = ProcessCluster(tmp_path_factory.mktemp("metrics"))
    try:
        made.up(2, "embedded")
        yield made
    finally:
        made.down()


def scrape(cluster: ProcessCluster, name: str) -> str:
    known = clusterfile.load(cluster.path)
    assert known is not None
    with urlopen(f"http://{known.broker(name).metrics}/metrics", timeout=DEADLINE_S) as response:
        return response.read().decode()


def values(text: str) -> dict[tuple[str, str], float]:
    """(name of the sample, its topic or "") -> value, of samples without any other label."""
    return {
        (sample.name, sample.labels.get("topic", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.labels.keys() - {"topic"}
    }


def test_what_was_written_and_read_is_counted_over_the_cluster(cluster: ProcessCluster) -> None:
    cluster.minikafka("topics", "create", "counted", "--partitions", "4")
    lines = cluster.path / "lines"
    lines.write_bytes(b"".join(b"line %d\n" % number for number in range(1000)))
    cluster.minikafka("produce", "counted", str(lines))
    cluster.minikafka("consume", "counted")
    brokers = [values(scrape(cluster, name)) for name in ("A", "B")]

    def total(name: str, topic: str = "counted") -> float:
        return sum(broker[name, topic] for broker in brokers)

    traffic = "kafka_server_brokertopicmetrics_"
    assert total(traffic + "messagesin_total") == 1000
    assert total(traffic + "bytesin_total") == total(traffic + "bytesout_total") > 1000
    assert total(traffic + "replicationbytesin_total", "") >= total(traffic + "bytesin_total")
    assert total("kafka_server_replicamanager_leadercount", "") >= 4
    assert total("kafka_controller_kafkacontroller_activecontrollercount", "") == 1


def board_expressions() -> list[str]:
    board = json.loads(BOARD.read_text())
    panels = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    variables = [each.get("definition", "") for each in board["templating"]["list"]]
    return panels + variables


def test_every_metric_of_the_board_is_exported_by_a_broker(cluster: ProcessCluster) -> None:
    text = scrape(cluster, "A")
    exported = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    exported |= {sample for sample, _ in values(text)}
    wanted = {name for expression in board_expressions() for name in _METRIC.findall(expression)}
    assert len(wanted) > 30
    assert wanted - exported == set()


def test_the_board_can_be_imported_as_it_stands() -> None:
    board = json.loads(BOARD.read_text())
    assert "id" not in board
    identities = [panel["id"] for panel in board["panels"]]
    assert len(set(identities)) == len(identities)
    names = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)\}?", BOARD.read_text()))
    assert names == {"datasource", "job", "instance"}
    assert used <= names
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for target in panel.get("targets", ()):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
