"""Administration: typed errors of single calls, answers of each leader, a watch that outlives
brokers."""

import asyncio

import pytest

from minikafka.api.requests import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP
from minikafka.client.administering.admin import AsyncAdmin
from minikafka.errors import (
    BrokerNotAvailableError,
    LeaderNotAvailableError,
    MinikafkaError,
    NetworkError,
    NotControllerError,
    OffsetOutOfRangeError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    UsageError,
)
from minikafka.model import Assignment, TopicPartition
from tests.helpers.metrics import metrics_of
from tests.unit.client.fake_cluster import FakeChannel, FakeCluster, pass_time

T0 = TopicPartition("t", 0)


def admin_of(cluster, **options):
    options.setdefault("uniform", lambda: 0.5)
    options.setdefault("request_timeout_ms", 5000)
    bootstrap = options.pop("bootstrap", cluster.bootstrap)
    return AsyncAdmin(bootstrap, connect=cluster.connect, **options)


@pytest.fixture
def cluster():
    return FakeCluster()


async def test_a_topic_is_created_described_altered_and_deleted(cluster):
    async with admin_of(cluster) as admin:
        await admin.create_topic("t", 3, configs={"retention.ms": "5"})
        topic = await admin.describe_topic("t")
        assert [each.topic_partition.partition for each in topic.partitions] == [0, 1, 2]
        await admin.alter_topic_config("t", {"retention.ms": "7"})
        [entry] = await admin.describe_topic_configs("t")
        assert (entry.name, entry.value) == ("retention.ms", "7")
        await admin.create_partitions("t", 5)
        assert len((await admin.describe_topic("t")).partitions) == 5
        await admin.delete_topic("t")
        with pytest.raises(UnknownTopicOrPartitionError, match="'t'"):
            await admin.describe_topic("t")
        assert await admin.cluster_id() == "fake-cluster"


async def test_every_live_broker_is_asked_for_its_metrics_and_one_that_is_silent_is_told_of(
    cluster, monkeypatch
):
    whole = FakeChannel.broker_metrics

    async def broker_metrics(channel):
        if channel.broker_id == 3:
            raise NetworkError("the connection broke")
        return await whole(channel)

    monkeypatch.setattr(FakeChannel, "broker_metrics", broker_metrics)
    cluster.pause(2)
    async with admin_of(cluster, request_timeout_ms=200) as admin:
        found = await admin.broker_metrics()
    assert found[1] == metrics_of(1)
    assert isinstance(found[2], RequestTimedOutError)
    assert isinstance(found[3], NetworkError)
    cluster.resume(2)


async def test_settings_of_one_broker_are_asked_of_itself_and_those_of_all_of_anybody(cluster):
    async with admin_of(cluster) as admin:
        for broker, value in ((3, "7"), (2, "8"), (None, "9")):
            await admin.alter_broker_config(broker, {"log.roll.ms": value})
            [entry] = await admin.describe_broker_configs(broker)
            assert (entry.name, entry.value) == ("log.roll.ms", value)
        assert cluster.asked[:4] == [3, 3, 2, 2]
        assert cluster.configs["<default>"] == {"log.roll.ms": "9"}
        await admin.alter_topic_config("t", {"retention.ms": "5"})
        [entry] = await admin.describe_configs("t")
        assert (entry.name, entry.value, entry.source) == ("retention.ms", "5", 1)


async def test_settings_of_a_broker_that_is_not_there_are_not_found_but_can_be_altered(cluster):
    async with admin_of(cluster) as admin:
        with pytest.raises(BrokerNotAvailableError, match="no live broker 9: there are 1, 2, 3"):
            await admin.describe_broker_configs(9)
        await admin.alter_broker_config(9, {"log.roll.ms": None})
        assert cluster.configs["9"] == {"log.roll.ms": None}


async def test_a_broker_that_does_not_tell_its_settings_is_not_waited_for_longer(cluster):
    async with admin_of(cluster) as admin:
        await admin.metadata()
        cluster.paused[3] = asyncio.Event()
        with pytest.raises(RequestTimedOutError, match="broker 3 did not answer in time"):
            await admin.describe_broker_configs(3)


async def test_calls_about_one_topic_raise_its_error(cluster):
    cluster.create("t")
    async with admin_of(cluster) as admin:
        with pytest.raises(TopicAlreadyExistsError, match=r"'t' already exists$"):
            await admin.create_topic("t")
        with pytest.raises(UnknownTopicOrPartitionError, match="'nowhere' does not exist"):
            await admin.delete_topic("nowhere")
        with pytest.raises(UnknownTopicOrPartitionError, match="'nowhere' does not exist"):
            await admin.describe_topic_configs("nowhere")


async def test_validation_creates_nothing(cluster):
    async with admin_of(cluster) as admin:
        await admin.create_topic("t", validate_only=True)
    assert not cluster.topics


async def test_metadata_show_all_topics_and_create_none(cluster):
    cluster.create("a")
    cluster.create("b")
    async with admin_of(cluster) as admin:
        assert [topic.name for topic in (await admin.metadata()).topics] == ["a", "b"]
        [missing] = (await admin.metadata(["c"])).topics
        assert isinstance(missing.error, UnknownTopicOrPartitionError)
    assert set(cluster.topics) == {"a", "b"}


async def test_each_leader_describes_its_partitions_and_a_leaderless_one_has_an_error(cluster):
    cluster.create("t", 4)
    cluster.move("t", -1, 3)
    partitions = [TopicPartition("t", number) for number in range(4)]
    async with admin_of(cluster) as admin:
        statuses = await admin.describe_partitions([*partitions, TopicPartition("t", 9)])
    assert [each.error for each in statuses[:3]] == [None, None, None]
    assert isinstance(statuses[3].error, LeaderNotAvailableError)
    assert isinstance(statuses[4].error, UnknownTopicOrPartitionError)
    assert [each.topic_partition for each in statuses[:4]] == partitions


async def test_a_dead_leader_gives_an_entry_with_an_error(cluster):
    cluster.create("t", leader=2)
    async with admin_of(cluster) as admin:
        await admin.metadata()
        cluster.kill(2)
        cluster.down.discard(2)  # the others have not noticed yet
        cluster.pause(2)
        [status] = await admin.describe_partitions([T0])
        assert isinstance(status.error, RequestTimedOutError)
        cluster.resume(2)


async def test_records_are_deleted_by_the_leader_of_each_partition(cluster):
    cluster.create("t", 4)
    cluster.move("t", -1, 3)
    async with admin_of(cluster) as admin:
        results = await admin.delete_records(
            {TopicPartition("t", 0): 0, TopicPartition("t", 1): -1, TopicPartition("t", 2): 9}
            | {TopicPartition("t", 3): 0, TopicPartition("t", 9): 0}
        )
        assert [results[TopicPartition("t", n)].error for n in (0, 1)] == [None, None]
        assert isinstance(results[TopicPartition("t", 2)].error, OffsetOutOfRangeError)
        assert isinstance(results[TopicPartition("t", 3)].error, LeaderNotAvailableError)
        assert isinstance(results[TopicPartition("t", 9)].error, UnknownTopicOrPartitionError)
        cluster.move("t", 3, 0)
        [moved] = (await admin.delete_records({T0: 0})).values()
        assert moved.error is None, "a leader that is none any more is asked once only"


async def test_offsets_are_listed_and_survive_a_leader_change(cluster):
    cluster.create("t")
    async with admin_of(cluster) as admin:
        assert (await admin.list_offsets({T0: LATEST_TIMESTAMP}))[T0].offset == 0
        cluster.move("t", 2)
        assert (await admin.list_offsets({T0: EARLIEST_TIMESTAMP}))[T0].offset == 0


async def test_offsets_wait_for_a_leader_and_name_what_kept_them(cluster):
    cluster.create("t")
    cluster.move("t", -1)
    async with admin_of(cluster) as admin:
        asyncio.get_running_loop().call_later(2, cluster.move, "t", 2)
        assert (await admin.list_offsets({T0: LATEST_TIMESTAMP}))[T0].offset == 0
        cluster.move("t", -1)
        with pytest.raises(LeaderNotAvailableError, match="t-0 has no leader"):
            await admin.list_offsets({T0: LATEST_TIMESTAMP})


@pytest.mark.parametrize("trouble", [FakeCluster.pause, FakeCluster.kill])
async def test_a_leader_that_does_not_answer_fails_the_offsets_in_time(cluster, trouble):
    cluster.create("t", leader=2)
    async with admin_of(cluster) as admin:
        await admin.metadata()
        trouble(cluster, 2)
        with pytest.raises(MinikafkaError):
            await admin.list_offsets({T0: LATEST_TIMESTAMP})
        cluster.paused.clear()


async def test_a_request_waits_for_a_controller_and_gives_up_in_time(cluster):
    refusals = []

    async def refuse(self, request, timeout_ms, administer=FakeChannel.administer):
        refusals.append(self.broker_id)
        if len(refusals) < 10:
            raise NotControllerError("there is no controller")
        return await administer(self, request, timeout_ms)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeChannel, "administer", refuse)
        async with admin_of(cluster) as admin:
            await admin.create_topic("t")
            assert len(refusals) == 10
            for number in cluster.brokers:
                cluster.pause(number)
            refusals[:] = [0] * 20
            with pytest.raises(RequestTimedOutError, match="not carried out within 5000 ms as far"):
                await admin.delete_topic("t")
            cluster.paused.clear()


async def test_creation_waits_for_every_broker_to_know_the_topic_and_its_leaders(cluster):
    loop = asyncio.get_running_loop()

    async def late(self, topics, create, metadata=FakeChannel.metadata):
        if self.broker_id == 2 and loop.time() - begin < 3:
            topics = []
        return await metadata(self, topics, create)

    begin = loop.time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeChannel, "metadata", late)
        async with admin_of(cluster) as admin:
            await admin.create_topic("t")
            assert loop.time() - begin >= 3


async def test_a_topic_without_leaders_is_told_from_one_that_was_not_created(cluster):
    def create_leaderless(name, partitions=1, create=cluster.create):
        create(name, partitions)
        cluster.move(name, -1)

    cluster.create = create_leaderless
    async with admin_of(cluster) as admin:
        with pytest.raises(RequestTimedOutError, match="'t' is created, but not all of its"):
            await admin.create_topic("t")


async def test_a_request_goes_on_to_the_next_broker(cluster):
    async with admin_of(cluster) as admin:
        for number in (1, 2):
            cluster.kill(number)
        await admin.create_topic("t", wait=False)
        assert "t" in cluster.topics


async def test_an_error_after_a_lost_answer_says_that_it_may_be_ours(cluster):
    async with admin_of(cluster) as admin:
        cluster.kill(1)
        cluster.kill(2)
        cluster.create("t")
        with pytest.raises(TopicAlreadyExistsError, match="earlier attempt of this very request"):
            await admin.create_topic("t")


async def test_elections_give_a_result_for_each_partition(cluster):
    cluster.create("t")
    async with admin_of(cluster) as admin:
        [result] = await admin.elect_leaders([T0])
        assert (result.name, result.error) == ("t-0", None)


async def test_reassignments_are_begun_and_listed_and_have_an_error_for_each_partition(cluster):
    cluster.create("t")
    unknown = TopicPartition("u", 0)
    async with admin_of(cluster) as admin:
        errors = await admin.alter_partition_reassignments({T0: (2, 3), unknown: None})
        assert errors[T0] is None
        assert isinstance(errors[unknown], UnknownTopicOrPartitionError)
        assert await admin.list_partition_reassignments() == {T0: Assignment((2, 3))}
        assert await admin.list_partition_reassignments([T0]) == {T0: Assignment((2, 3))}


async def test_no_cluster_at_all_names_every_address(cluster):
    admin = admin_of(cluster, bootstrap="nobody:1, nowhere:2")
    with pytest.raises(
        NetworkError, match=r"no broker answers at nobody:1, nowhere:2 \(nobody:1 refused"
    ):
        async with admin:
            raise AssertionError("it started")
    assert all(channel.closed for channel in cluster.channels)


@pytest.mark.parametrize("bootstrap", ["host", "host:", ":1", "host:0", "host:x", "a:1,b"])
async def test_a_bad_address_is_named(cluster, bootstrap):
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        admin_of(cluster, bootstrap=bootstrap)


async def test_no_address_is_refused(cluster):
    with pytest.raises(UsageError, match="at least one HOST:PORT"):
        admin_of(cluster, bootstrap=" , ")


# --- watching ------------------------------------------------------------------------------------


async def test_a_watch_tells_everything_and_then_changes(cluster):
    cluster.create("t")
    async with admin_of(cluster) as admin:
        watch = admin.watch()
        first = await anext(watch)
        assert [str(each.topic_partition) for each in first.partitions] == ["t-0"]
        assert len(first.brokers) == 3
        cluster.move("t", 2)
        change = await anext(watch)
        assert [each.state.leader for each in change.partitions] == [2]
        assert change.brokers is None
        cluster.delete("t")
        assert [name for name, _ in (await anext(watch)).deleted_topics] == ["t"]
        await watch.aclose()
    assert not cluster.watchers


async def test_a_watch_goes_on_elsewhere_and_tells_only_what_is_new(cluster):
    cluster.create("t")
    cluster.create("gone")
    cluster.create("same")
    async with admin_of(cluster) as admin:
        watch = admin.watch()
        await anext(watch)
        [teller] = [channel.broker_id for channel in cluster.channels if channel.outstanding]
        cluster.kill(teller)
        # Nobody is listening while these happen.
        cluster.move("t", 3)
        cluster.delete("gone")
        update = await anext(watch)
        assert [str(each.topic_partition) for each in update.partitions] == ["t-0"]
        assert [name for name, _ in update.deleted_topics] == ["gone"]
        assert len(update.brokers) == 2
        await watch.aclose()


async def test_a_watch_waits_for_a_cluster_that_is_all_down(cluster):
    cluster.create("t")
    async with admin_of(cluster) as admin:
        watch = admin.watch(["t"])
        await anext(watch)
        for number in cluster.brokers:
            cluster.kill(number)
        waiting = asyncio.ensure_future(anext(watch))
        await pass_time(10)
        assert not waiting.done()
        cluster.restart(2)
        cluster.move("t", 2)
        assert [each.state.leader for each in (await waiting).partitions] == [2]
        await watch.aclose()
