"""Administration: topics, partitions, configuration, elections, and what a cluster looks like
(consumer groups: group_admin.py, transactions: transaction_admin.py).

State: the metadata cache and channels. Requests go to any broker, which forwards them to the
controller; what only a partition's leader knows is asked of that one. A call about one topic
raises that topic's error; only calls about several things return errors in their results.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TypeVar

from minikafka.api.metrics import BrokerMetrics
from minikafka.api.requests import (
    AlterBrokerConfigRequest,
    AlterReassignmentsRequest,
    AlterTopicConfigRequest,
    ClusterMetadata,
    ClusterUpdate,
    ControllerRequest,
    ControllerResponse,
    CreatePartitionsRequest,
    CreateTopic,
    CreateTopicsRequest,
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResult,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    ListOffsetsResult,
    ListReassignmentsRequest,
    NamedResult,
    PartitionResult,
    PartitionStatus,
    TopicConfigEntry,
    TopicMetadata,
)
from minikafka.api.transactions import CheckedPartition, DescribedProducers
from minikafka.client.administering.access_admin import AccessAdmin
from minikafka.client.administering.group_admin import GroupAdmin
from minikafka.client.administering.job_admin import JobAdmin
from minikafka.client.administering.node_admin import NodeAdmin
from minikafka.client.administering.transaction_admin import TransactionAdmin
from minikafka.client.administering.watching import watch_cluster
from minikafka.client.backoff import Backoff, Random
from minikafka.client.channel import Channel, Connect, connect_over_grpc
from minikafka.client.consuming.offsets import lookup_offsets
from minikafka.client.metadata import METADATA_MAX_AGE_MS, Cluster
from minikafka.client.values import check_positive
from minikafka.config.overrides import DEFAULT_BROKER, ConfigDescription
from minikafka.errors import (
    BrokerNotAvailableError,
    LeaderNotAvailableError,
    MinikafkaError,
    NetworkError,
    NotControllerError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
    UnknownServerError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import NO_LEADER, Assignment, TopicPartition

R = TypeVar(
    "R", PartitionStatus, DeleteRecordsResult, DescribedProducers, CheckedPartition
)  # about one partition: what it is, and its error
_SHARE_OF_THE_LEADER = 0.8  # of the time limit: its answer must still arrive
_TRY_AGAIN = (NetworkError, NotControllerError, BrokerNotAvailableError)


class AsyncAdmin(GroupAdmin, TransactionAdmin, NodeAdmin, JobAdmin, AccessAdmin):
    """Belongs to one event loop; `await start()` first, or use it with `async with`."""

    def __init__(
        self,
        bootstrap: str | Iterable[str],
        *,
        request_timeout_ms: float = 30_000,
        connect: Connect = connect_over_grpc,
        uniform: Random = random.random,
    ) -> None:
        """`bootstrap`: "host:port,host:port" or a list of such; any live broker will do.
        `request_timeout_ms` bounds each call, with all its retries."""
        check_positive(request_timeout_ms=request_timeout_ms)
        self._timeout_ms = request_timeout_ms
        self._cluster = Cluster(
            bootstrap, connect=connect, metadata_max_age_ms=METADATA_MAX_AGE_MS, uniform=uniform
        )

    async def __aenter__(self) -> AsyncAdmin:
        try:
            await self.start()
        except BaseException:
            await self._cluster.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Find the cluster. NetworkError names all addresses if none of them answers."""
        await self._cluster.start()

    async def close(self) -> None:
        """End. Idempotent."""
        await self._cluster.close()

    # --- looking ---------------------------------------------------------------------------------

    async def cluster_id(self) -> str:
        return (await self.metadata([])).cluster_id

    async def metadata(self, topics: Sequence[str] | None = None) -> ClusterMetadata:
        """Live brokers, controller, and topics (None: all) with the state of each partition. A
        topic that does not exist has an error in its place. Creates none."""

        async def ask(channel: Channel) -> ClusterMetadata:
            return await channel.metadata(topics, False)

        found = await self._cluster.call_any(ask, self._timeout_ms / 1000)
        self._cluster.absorb(found)
        return found

    async def describe_topic(self, topic: str) -> TopicMetadata:
        """One topic; UnknownTopicOrPartitionError if it does not exist."""
        [found] = (await self.metadata([topic])).topics
        if found.error is not None:
            raise type(found.error)(f"topic {topic!r}: {found.error}")
        return found

    async def describe_topic_configs(self, topic: str) -> Sequence[TopicConfigEntry]:
        return await self._cluster.call_any(
            lambda channel: channel.describe_topic_configs(topic), self._timeout_ms / 1000
        )

    async def describe_configs(self, topic: str) -> Sequence[ConfigDescription]:
        """Every property of a topic, with where its value comes from."""
        return await self._cluster.call_any(
            lambda channel: channel.describe_configs(topic), self._timeout_ms / 1000
        )

    async def describe_broker_configs(self, broker: int | None) -> Sequence[ConfigDescription]:
        """Every property of a live broker, with where its value comes from; None: those that are
        set for all brokers."""
        if broker is None:
            return await self._cluster.call_any(
                lambda channel: channel.describe_broker_configs(""), self._timeout_ms / 1000
            )
        live = {each.broker_id: each for each in (await self.metadata([])).brokers}
        if broker not in live:
            raise BrokerNotAvailableError(
                f"there is no live broker {broker}: there are {', '.join(map(str, sorted(live)))}"
            )
        channel = self._cluster.channel_to(live[broker].grpc_address)
        try:
            return await asyncio.wait_for(
                channel.describe_broker_configs(str(broker)), self._timeout_ms / 1000
            )
        except TimeoutError:
            raise RequestTimedOutError(f"broker {broker} did not answer in time") from None

    async def describe_partitions(
        self, partitions: Iterable[TopicPartition]
    ) -> list[PartitionStatus]:
        """Offsets, size and followers' progress of each partition, in the order asked for, each
        from its leader. An entry has an error where there is no leader or it does not answer."""
        wanted = list(partitions)
        statuses = await self._ask_leaders(
            wanted, lambda channel, asked: channel.describe_partitions(asked), PartitionStatus
        )
        return [statuses[each] for each in wanted]

    async def broker_metrics(self) -> dict[int, BrokerMetrics | MinikafkaError]:
        """What each live broker has done and holds, or why it does not say so."""
        brokers = (await self.metadata([])).brokers

        async def ask(address: str) -> BrokerMetrics | MinikafkaError:
            try:
                async with asyncio.timeout(self._timeout_ms / 1000):
                    return await self._cluster.channel_to(address).broker_metrics()
            except TimeoutError:
                return RequestTimedOutError(f"{address} did not answer in time")
            except MinikafkaError as error:
                return error

        answers = await asyncio.gather(*(ask(broker.grpc_address) for broker in brokers))
        return {broker.broker_id: each for broker, each in zip(brokers, answers, strict=True)}

    async def list_offsets(
        self, timestamps_ms: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, ListOffsetsResult]:
        """Offsets by time: ms since 1970, or LATEST_TIMESTAMP and its kin (api/requests.py)."""
        return await lookup_offsets(self._cluster, timestamps_ms, self._timeout_ms)

    def watch(self, topics: Sequence[str] = ()) -> AsyncIterator[ClusterUpdate]:
        """First everything, then every change as brokers hear of it, without end: when the broker
        that tells dies, another one goes on, and nothing is told twice or out of date. No topics:
        all."""
        return watch_cluster(self._cluster, topics)

    # --- changing --------------------------------------------------------------------------------

    async def create_topic(
        self,
        name: str,
        num_partitions: int = -1,
        replication_factor: int = -1,
        configs: Mapping[str, str] | None = None,
        assignments: Mapping[int, Sequence[int]] | None = None,
        validate_only: bool = False,
        wait: bool = True,
    ) -> None:
        """Create a topic; -1: the cluster's default. `assignments`: replicas by partition instead
        of counts. `wait`: return only when every live broker knows it and each partition has a
        leader.

        Raises TopicAlreadyExistsError, InvalidTopicError, InvalidPartitionsError,
        InvalidReplicationFactorError, InvalidReplicaAssignmentError, InvalidConfigError.
        """
        topic = CreateTopic(
            name, num_partitions, replication_factor, dict(configs or {}), dict(assignments or {})
        )
        await self._administer_one(CreateTopicsRequest([topic], validate_only))
        if wait and not validate_only:
            await self._wait_until_known(name)

    async def delete_topic(self, name: str) -> None:
        """Delete a topic with its records. UnknownTopicOrPartitionError if there is none."""
        await self._administer_one(DeleteTopicsRequest([name]))

    async def create_partitions(
        self, topic: str, total_count: int, assignments: Sequence[Sequence[int]] = ()
    ) -> None:
        """Give a topic more partitions: `total_count` in all. `assignments`: replicas of the new
        ones."""
        await self._administer_one(CreatePartitionsRequest(topic, total_count, assignments))

    async def alter_topic_config(self, topic: str, changes: Mapping[str, str | None]) -> None:
        """Set properties of a topic; None: back to the default."""
        await self._administer_one(AlterTopicConfigRequest(topic, dict(changes)))

    async def alter_broker_config(
        self, broker: int | None, changes: Mapping[str, str | None]
    ) -> None:
        """Set properties of a live broker, or of all brokers (None) that do not set them
        themselves; a change to None takes a property back. Takes effect without a restart.
        InvalidConfigError for a property that cannot be altered, and for a wrong value."""
        name = DEFAULT_BROKER if broker is None else str(broker)
        first = None
        if broker is not None:  # which alone can tell what goes with its other settings
            for each in (await self.metadata([])).brokers:
                if each.broker_id == broker:
                    first = each.grpc_address
        await self._administer_one(AlterBrokerConfigRequest(name, dict(changes)), first)

    async def elect_leaders(
        self, partitions: Sequence[TopicPartition] = (), unclean: bool = False
    ) -> Sequence[PartitionResult]:
        """Make the preferred replicas lead (no partitions: everywhere). `unclean`: a leader at any
        price, also that of losing records. One result for each partition."""
        return (await self._administer(ElectLeadersRequest(unclean, partitions))).partitions

    async def alter_partition_reassignments(
        self, targets: Mapping[TopicPartition, Sequence[int] | None]
    ) -> dict[TopicPartition, MinikafkaError | None]:
        """Move partitions to other replicas (broker ids, in order of preference), in place of what
        is under way; None cancels that. An answer without an error says that it has begun:
        `list_partition_reassignments` tells whether it goes on."""
        response = await self._administer(AlterReassignmentsRequest(targets))
        errors = {result.topic_partition: result.error for result in response.partitions}
        return {each: errors[each] for each in targets}

    async def list_partition_reassignments(
        self, partitions: Sequence[TopicPartition] = ()
    ) -> dict[TopicPartition, Assignment]:
        """Those that are under way, of all partitions or of some."""
        response = await self._administer(ListReassignmentsRequest(partitions))
        return dict(response.reassignments)

    async def delete_records(
        self, before_offsets: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, DeleteRecordsResult]:
        """Delete the records below an offset of each partition (-1: all that are committed); there
        is no way back. A result has an error where that failed."""

        def ask(
            channel: Channel, asked: Sequence[TopicPartition]
        ) -> Awaitable[Sequence[DeleteRecordsResult]]:
            items = [DeleteRecordsPartition(each, before_offsets[each]) for each in asked]
            timeout_ms = int(self._timeout_ms * _SHARE_OF_THE_LEADER)
            return channel.delete_records(DeleteRecordsRequest(timeout_ms, items))

        return await self._ask_leaders(list(before_offsets), ask, DeleteRecordsResult)

    # --- inside ----------------------------------------------------------------------------------

    async def _ask_leaders(
        self,
        partitions: Sequence[TopicPartition],
        call: Callable[[Channel, Sequence[TopicPartition]], Awaitable[Sequence[R]]],
        failed: Callable[[TopicPartition, MinikafkaError], R],
    ) -> dict[TopicPartition, R]:
        """What each partition's leader answers; `failed` makes the answer of one that does not."""
        await self.metadata(sorted({each.topic for each in partitions}))
        answers = await self._ask_leaders_once(partitions, call, failed)
        moved = [
            each
            for each, answer in answers.items()
            if answer.error is not None and answer.error.refresh_metadata
        ]
        if moved:  # once more: the leader may just have changed
            await self.metadata(sorted({each.topic for each in moved}))
            answers.update(await self._ask_leaders_once(moved, call, failed))
        return answers

    async def _ask_leaders_once(
        self,
        partitions: Sequence[TopicPartition],
        call: Callable[[Channel, Sequence[TopicPartition]], Awaitable[Sequence[R]]],
        failed: Callable[[TopicPartition, MinikafkaError], R],
    ) -> dict[TopicPartition, R]:
        found: dict[TopicPartition, R] = {}
        by_leader: dict[int, list[TopicPartition]] = {}
        for each in partitions:
            view = self._cluster.leader(each)
            if view is not None:
                by_leader.setdefault(view.leader, []).append(each)
            else:
                found[each] = failed(each, self._why_no_leader(each))

        async def ask(leader: int, asked: list[TopicPartition]) -> None:
            error: MinikafkaError = UnknownServerError(f"broker {leader} left it out")
            try:
                answers = await asyncio.wait_for(
                    call(self._cluster.channel(leader), asked), self._timeout_ms / 1000
                )
                found.update((answer.topic_partition, answer) for answer in answers)
            except TimeoutError:
                error = RequestTimedOutError(f"broker {leader} did not answer in time")
            except MinikafkaError as failure:
                error = failure
            for each in asked:
                found.setdefault(each, failed(each, error))

        await asyncio.gather(*(ask(*each) for each in by_leader.items()))
        return found

    def _why_no_leader(self, topic_partition: TopicPartition) -> MinikafkaError:
        topic = self._cluster.topics.get(topic_partition.topic)
        if topic is not None and topic.error is not None:
            return topic.error
        if topic is None or topic_partition.partition not in topic.partitions:
            return UnknownTopicOrPartitionError(f"there is no partition {topic_partition}")
        return LeaderNotAvailableError(f"{topic_partition} has no leader")

    async def _administer_one(self, request: ControllerRequest, first: str | None = None) -> None:
        """For a request about one thing: raises its error."""
        for result in (await self._administer(request, first)).results:
            if result.error is not None:
                raise result.error

    async def _administer(
        self, request: ControllerRequest, first: str | None = None
    ) -> ControllerResponse:
        """Ask brokers one after another, the one at `first` before others, until one has forwarded
        it. A request whose answer was
        lost is repeated: what it asks for may then be there already, and the error says so."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_ms / 1000
        backoff = Backoff(self._cluster.uniform)
        lost = False
        while True:
            failures: list[str] = []
            for address in dict.fromkeys([*filter(None, [first]), *self._cluster.candidates()]):
                remaining_ms = int((deadline - loop.time()) * 1000)
                if remaining_ms <= 0:
                    break
                try:
                    response = await asyncio.wait_for(
                        self._cluster.channel_to(address).administer(request, remaining_ms),
                        remaining_ms / 1000,
                    )
                except TimeoutError:
                    lost = True
                    failures.append(f"{address}: no answer in time")
                except _TRY_AGAIN as error:
                    lost = lost or isinstance(error, NetworkError)
                    failures.append(f"{address}: {error}")
                else:
                    return _explained(response) if lost else response
            if loop.time() >= deadline:
                raise RequestTimedOutError(
                    f"the request was not carried out within {self._timeout_ms:.0f} ms"
                    f"{' as far as is known' if lost else ''} ({'; '.join(failures)})"
                )
            await asyncio.sleep(min(backoff.next_s(), max(deadline - loop.time(), 0)))

    async def _wait_until_known(self, name: str) -> None:
        """Until every live broker that answers knows the topic, and leaders for its partitions."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_ms / 1000
        backoff = Backoff(self._cluster.uniform)
        while loop.time() < deadline:
            brokers = (await self.metadata([name])).brokers
            known = await asyncio.gather(
                *(self._knows(each.grpc_address, name, deadline) for each in brokers)
            )
            if all(known):
                return
            await asyncio.sleep(backoff.next_s())
        raise RequestTimedOutError(
            f"topic {name!r} is created, but not all of its partitions got a leader that every "
            f"broker knows within {self._timeout_ms:.0f} ms"
        )

    async def _knows(self, address: str, name: str, deadline: float) -> bool:
        timeout_s = max(deadline - asyncio.get_running_loop().time(), 0.001)
        try:
            found = await asyncio.wait_for(
                self._cluster.channel_to(address).metadata([name], False), timeout_s
            )
        except NetworkError:
            return True  # it is dying, and will hear of the topic when it comes back
        except (TimeoutError, MinikafkaError):
            return False
        topics = [topic for topic in found.topics if topic.error is None and topic.partitions]
        return bool(topics) and all(
            partition.state.leader != NO_LEADER for partition in topics[0].partitions
        )


def _explained(response: ControllerResponse) -> ControllerResponse:
    """After a lost answer: an error that may stem from our own first attempt says so."""
    results: list[NamedResult | PartitionResult] = [*response.results, *response.partitions]
    for result in results:
        if isinstance(result.error, TopicAlreadyExistsError | UnknownTopicOrPartitionError):
            result.error = type(result.error)(
                f"{result.error} (the answer to an earlier attempt of this very request was "
                "lost: it may be what that one did)"
            )
    return response
