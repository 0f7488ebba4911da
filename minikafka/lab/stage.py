"""The cluster on which scenarios play: what can be done to it, and what can be seen.

Real processes in a temporary directory (local/throwaway.py). State: the cluster's files, the
clients that a scenario opened (closed after it), and a ZooKeeper session of the stage's own,
through which it looks. Everything is blocking; what has to happen is waited for with a deadline.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from minikafka.config import parse_properties
from minikafka.errors import NetworkError
from minikafka.lab.cable import Cable
from minikafka.lab.ensemble import DEADLINE_S, Ensemble, NotSeen, wait_until
from minikafka.lab.narrator import Narrator, words
from minikafka.lab.needs import Needs
from minikafka.lab.znodes import Tree, flatten
from minikafka.local.cluster import LocalCluster
from minikafka.local.clusterfile import BrokerEntry, ClusterFile
from minikafka.local.faults import Faults
from minikafka.local.layout import format_properties
from minikafka.local.throwaway import throwaway_cluster
from minikafka.model import PartitionState, TopicPartition, broker_name, describe_state

if TYPE_CHECKING:
    from minikafka.client import Admin, Producer
    from minikafka.zookeeper.looking.plain import PlainClient
    from minikafka.zookeeper.node import Node

T = TypeVar("T")
Client = TypeVar("Client", bound=contextlib.AbstractContextManager[Any])

_READ_S = 60.0
_ROOT = "/lab"  # where scenarios make znodes of their own


class LabStage:
    """See the module's docstring. Brokers are known by id; `name` gives the letter."""

    def __init__(
        self, local: LocalCluster, cluster: ClusterFile, zk: PlainClient, narrator: Narrator
    ) -> None:
        self.local = local
        self.zk = zk
        self.narrator = narrator
        self.say = narrator.say
        self.faults = Faults(local)
        self.zookeeper_hosts = cluster.zookeeper.hosts
        self.broker_ids = [broker.id for broker in cluster.brokers]
        self._clients = contextlib.ExitStack()
        self._topics: list[str] = []
        self._paused: set[int] = set()
        self.ensemble = Ensemble(local)
        self._cabled: set[int] = set()

    # --- names ---

    def name(self, broker_id: int) -> str:
        return "none" if broker_id < 0 else broker_name(broker_id)

    def names(self, broker_ids: Sequence[int]) -> str:
        return words(self.name(each) for each in broker_ids)

    @property
    def bootstrap(self) -> list[str]:
        return [broker.grpc for broker in self.local.require().brokers]

    def others(self, *broker_ids: int) -> list[int]:
        return [each for each in self.broker_ids if each not in broker_ids]

    # --- waiting ---

    def until(self, probe: Callable[[], T | None], what: str, timeout_s: float = DEADLINE_S) -> T:
        """The first value of `probe` that is true. Raises NotSeen."""
        return wait_until(probe, what, timeout_s)

    def until_words(self, topic: str, wanted: str, timeout_s: float = DEADLINE_S) -> str:
        """Wait for a state of partition 0 in the words of the slide. Raises NotSeen."""
        seen: list[str] = []

        def reached() -> str | None:
            found = self.words(topic)
            if found not in seen[-1:]:
                seen.append(found)
            return found if found == wanted else None

        try:
            return self.until(reached, wanted, timeout_s)
        except NotSeen as error:
            raise NotSeen(f"{error.message}; seen: {', then '.join(seen) or 'nothing'}") from None

    # --- what ZooKeeper holds ---

    def znodes(self, root: str = "/") -> Tree | None:
        """Everything from `root` down by path; None if ZooKeeper does not answer or there is no
        root to look at."""
        if not root or not self.ensemble.serves:
            return None
        with contextlib.suppress(NetworkError):
            self.zk.sync()
            return flatten(self.zk.inspector.tree(root))
        return None

    def node(self, path: str) -> Node | None:
        """A znode, None if it is not there."""
        from minikafka.zookeeper.looking.plain import RefusedError

        try:
            return self.zk.get(path)
        except RefusedError as error:
            if error.reason == "NONODE":
                return None
            raise

    def document(self, path: str) -> dict[str, Any]:
        """The JSON of a znode; empty if it is not there."""
        found = self.node(path)
        return {} if found is None else json.loads(found.data)

    def state(self, topic: str, partition: int = 0) -> PartitionState:
        """The State znode."""
        from minikafka.zookeeper.codec import decode_state
        from minikafka.zookeeper.paths import Layout

        path = Layout().state(topic, partition)
        node = self.zk.get(path)
        return decode_state(path, node.data, node.stat.version)

    def words(self, topic: str) -> str:
        """Leader=A Epoch=0 ISR={A,B,C}, as ZooKeeper has it."""
        state = self.state(topic)
        return describe_state(state.leader, state.leader_epoch, state.isr, {})

    def controller(self) -> int | None:
        """Its broker id, None while there is none."""
        found = self.document("/controller").get("brokerid")
        return None if found is None else int(found)

    def controller_epoch(self) -> int:
        return int(self.zk.get("/controller_epoch").data)

    def until_controller(self, wanted: Callable[[int], bool] = lambda _: True) -> int:
        def found() -> int | None:
            controller = self.controller()
            return controller if controller is not None and wanted(controller) else None

        return self.until(found, "a controller in /controller")

    def broker_epoch(self, broker_id: int) -> int | None:
        """The czxid of its registration, None if it is not registered."""
        found = self.node(f"/brokers/ids/{broker_id}")
        return None if found is None else found.stat.czxid

    def own_root(self) -> str:
        """A znode for those that a scenario makes itself; it goes after the scenario."""
        if self.node(_ROOT) is None:
            self.zk.create(_ROOT)
        return _ROOT

    # --- clients ---

    def keep(self, client: Client) -> Any:
        """Enter it, and leave it when the scenario is over."""
        return self._clients.enter_context(client)

    def admin(self) -> Admin:
        from minikafka.client import Admin

        admin: Admin = self.keep(Admin(self.bootstrap, request_timeout_ms=20_000))
        return admin

    def producer(self, **options: Any) -> Producer:
        from minikafka.client import Producer

        producer: Producer = self.keep(Producer(self.bootstrap, **options))
        return producer

    def producer_to(self, broker_id: int, **options: Any) -> Producer:
        """One that knows of one broker only, whoever leads: as a client with an old picture."""
        from minikafka.client import Producer
        from minikafka.client.channel import connect_over_grpc

        address = self.faults.broker(broker_id).grpc
        producer: Producer = self.keep(
            Producer(address, connect=lambda _: connect_over_grpc(address), **options)
        )
        return producer

    def session(self, hosts: str | None = None, timeout_ms: int | None = None) -> PlainClient:
        """Another ZooKeeper session, as of another process."""
        from minikafka.zookeeper.looking.plain import DEFAULT_SESSION_TIMEOUT_MS, open_plain

        found: PlainClient = self.keep(
            open_plain(hosts or self.zookeeper_hosts, timeout_ms or DEFAULT_SESSION_TIMEOUT_MS)
        )
        return found

    def close_clients(self) -> None:
        clients, self._clients = self._clients, contextlib.ExitStack()
        clients.close()

    def create_topic(
        self, topic: str, replicas: Sequence[int], configs: Mapping[str, str] | None = None
    ) -> str:
        """One partition; returns its state in the words of the slide once every replica is in
        sync."""
        from minikafka.client import Admin

        with Admin(self.bootstrap) as admin:
            admin.create_topic(topic, configs=configs, assignments={0: replicas})
        self._topics.append(topic)
        self.until(lambda: set(self.state(topic).isr) == set(replicas), f"a whole ISR of {topic}")
        return self.words(topic)

    def write(self, topic: str, values: Sequence[bytes], acks: str | int = "all") -> int:
        """The offset of the last one. Raises the error of the first that is not acknowledged."""
        from minikafka.client import Producer

        with Producer(self.bootstrap, acks=acks, delivery_timeout_ms=20_000) as producer:
            receipts = [producer.send(topic, value) for value in values]
            return max(receipt.result(25).offset for receipt in receipts)

    def read_all(self, topic: str, *, committed: bool = False) -> list[bytes]:
        """The value of each record of partition 0 that is below the high watermark; with
        `committed`, of transactions only what counts. Raises NotSeen."""
        from minikafka.client import Consumer

        partition = TopicPartition(topic, 0)
        isolation = "read_committed" if committed else "read_uncommitted"
        found: list[bytes] = []
        with Consumer(self.bootstrap, isolation=isolation) as consumer:
            consumer.assign([partition])
            consumer.seek_to_beginning(partition)
            end = consumer.end_offsets([partition])[partition]
            deadline = time.monotonic() + _READ_S
            while (position := consumer.position(partition)) < end:
                if time.monotonic() > deadline:
                    raise NotSeen(
                        f"{_READ_S:g} s were not enough to read {topic} to its end: "
                        f"at {position} of {end}"
                    )
                found += [record.value or b"" for record in consumer.poll(2_000)]
        return found

    def believed_controllers(self) -> dict[int, tuple[int, int]]:
        """What each live broker answers: (controller id, controller epoch)."""
        from minikafka.client import Admin

        answers = {}
        for broker in self._answering():
            with Admin(broker.grpc) as admin:
                metadata = admin.metadata([])
            answers[broker.id] = (metadata.controller_id, metadata.controller_epoch)
        return answers

    def believed_words(self, topic: str) -> dict[int, str]:
        """The state of partition 0 as each live broker tells it."""
        from minikafka.client import Admin

        found = {}
        for broker in self._answering():
            with Admin(broker.grpc) as admin:
                [partition] = admin.describe_topic(topic).partitions
            state = partition.state
            found[broker.id] = describe_state(state.leader, state.leader_epoch, state.isr, {})
        return found

    def _answering(self) -> list[BrokerEntry]:
        running = self.local.running(self.local.require())
        return [broker for broker in running if broker.id not in self._paused]

    # --- brokers ---

    def kill(self, broker_id: int) -> None:
        self.faults.kill(broker_id)

    def pause(self, broker_id: int) -> None:
        self._paused.add(broker_id)
        self.faults.pause(broker_id)

    def resume(self, broker_id: int) -> None:
        self.faults.resume(broker_id)
        self._paused.discard(broker_id)

    def restart(self, broker_id: int) -> None:
        """Start a dead one; returns when it serves."""
        self.faults.restart(broker_id)

    def stop(self, broker_id: int) -> None:
        """SIGTERM: it says goodbye to the controller and to ZooKeeper. Returns when it is gone."""
        self.local.stop_broker(self.faults.broker(broker_id), DEADLINE_S)

    def connect_through(self, broker_id: int, cable: Cable | None) -> None:
        """Start the broker anew with its ZooKeeper at the other end of this cable (None: with
        nothing between them)."""
        path = self.local.layout.properties(broker_id)
        hosts = self.zookeeper_hosts if cable is None else cable.address
        pairs = parse_properties(path.read_text()) | {"zookeeper.connect": hosts}
        self.stop(broker_id)
        path.write_text(format_properties(pairs))
        if cable is None:
            self._cabled.discard(broker_id)
        else:
            self._cabled.add(broker_id)
        self.restart(broker_id)

    def pid(self, broker_id: int) -> int | None:
        return self.faults.broker(broker_id).pid

    def logs(self, topic: str) -> dict[int, list[str]]:
        """The records of partition 0 as they lie on each broker's disk, each as value/epoch."""
        from minikafka.log.dump import DumpedBatch, dump_segment, segment_files

        found: dict[int, list[str]] = {}
        for broker_id in self.broker_ids:
            folder = self.log_folder(broker_id, topic)
            if folder.is_dir():
                found[broker_id] = [
                    f"{(record.value or b'').decode()}/{batch.header.leader_epoch}"
                    for path in segment_files(folder)
                    for batch in dump_segment(path, records=True)
                    if isinstance(batch, DumpedBatch)
                    for record in batch.records
                ]
        return found

    def until_same_logs(self, topic: str) -> list[str]:
        """Wait until every replica's disk has the same; returns that."""

        def same() -> list[str] | None:
            first, *others = self.logs(topic).values()
            return first if all(each == first for each in others) else None

        return self.until(same, "all logs to be the same")

    def log_folder(self, broker_id: int, topic: str) -> Path:
        return self.local.layout.data(broker_id) / f"{topic}-0"

    # --- between scenarios ---

    def restore(self) -> None:
        """Everybody back and in sync, the scenario's topics and znodes gone. Raises NotSeen."""
        self.ensemble.restore()
        for broker_id in list(self._paused):
            self.resume(broker_id)
        running = {broker.id for broker in self.local.running(self.local.require())}
        for broker_id in self.others(*running):
            self.restart(broker_id)
        for broker_id in list(self._cabled):
            self.connect_through(broker_id, None)
        self.until(
            lambda: all(self.broker_epoch(each) is not None for each in self.broker_ids),
            "every broker to be registered",
        )
        self.until_controller()
        self.zk.delete_tree(_ROOT)
        self._delete_topics()

    def _delete_topics(self) -> None:
        from minikafka.client import Admin
        from minikafka.errors import UnknownTopicOrPartitionError

        with Admin(self.bootstrap, request_timeout_ms=20_000) as admin:
            for topic in self._topics:
                with contextlib.suppress(UnknownTopicOrPartitionError):
                    admin.delete_topic(topic)
        for topic in self._topics:
            self.until(
                lambda topic=topic: self.node(f"/brokers/topics/{topic}") is None,  # type: ignore[misc]
                f"the deletion of {topic}",
            )
        self._topics.clear()


@contextlib.contextmanager
def open_stage(needs: Needs, narrator: Narrator) -> Iterator[LabStage]:
    """A cluster for the time of a `with`."""
    from minikafka.zookeeper.looking.plain import open_plain

    logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # what matters comes as an error
    narrator.note(
        f"Starting {needs.brokers} brokers and ZooKeeper ({needs.zookeeper}) in a temporary "
        "directory. Broker 1 is A, broker 2 is B, and so on."
    )
    with (
        throwaway_cluster(
            "minikafka-lab-",
            needs.brokers,
            needs.zookeeper,
            dict(needs.settings),
            lambda _: None,
            gently=False,
        ) as (local, cluster),
        open_plain(cluster.zookeeper.hosts) as zk,
    ):
        stage = LabStage(local, cluster, zk, narrator)
        try:
            stage.until_controller()
            yield stage
        finally:
            stage.close_clients()
            stage.ensemble.resume()
