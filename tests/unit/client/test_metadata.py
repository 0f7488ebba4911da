"""The metadata cache: never back in epochs, never a flood of requests, never held up by one
broker."""

import asyncio

import pytest

from minikafka.api.requests import LeaderHint
from minikafka.client.metadata import Cluster, LeaderView
from minikafka.errors import NetworkError, UsageError
from minikafka.model import TopicPartition
from tests.unit.client.fake_cluster import FakeCluster, pass_time

T0 = TopicPartition("t", 0)


@pytest.fixture
def fake():
    fake = FakeCluster()
    fake.create("t")
    return fake


@pytest.fixture
async def cluster(fake):
    cluster = Cluster(fake.bootstrap, connect=fake.connect, uniform=lambda: 0.5)
    await cluster.start()
    await cluster.wait_for_topic("t", 1000)
    yield cluster
    await cluster.close()


async def refreshed(cluster):
    await asyncio.wait([cluster.refresh_soon()])


async def test_metadata_of_a_lower_epoch_are_ignored(fake, cluster):
    fake.move("t", 2)
    fake.move("t", 3)
    await refreshed(cluster)
    assert cluster.leader(T0) == LeaderView(3, 2)
    fake.partition("t").leader, fake.partition("t").leader_epoch = 2, 1
    await refreshed(cluster)
    assert cluster.leader(T0) == LeaderView(3, 2)


async def test_a_new_topic_id_begins_with_any_epoch(fake, cluster):
    fake.move("t", 2)
    await refreshed(cluster)
    fake.delete("t")
    fake.create("t", leader=3)
    await refreshed(cluster)
    assert cluster.leader(T0) == LeaderView(3, 0)


async def test_hints_count_only_if_they_are_newer_and_name_a_live_broker(cluster):
    assert not cluster.apply_hint(T0, None)
    assert not cluster.apply_hint(T0, LeaderHint(2, 0))
    assert not cluster.apply_hint(T0, LeaderHint(9, 5))
    assert cluster.apply_hint(T0, LeaderHint(2, 1))
    assert cluster.leader(T0) == LeaderView(2, 1)


async def test_requests_for_a_refresh_share_it_and_keep_growing_distances(fake, cluster):
    loop = asyncio.get_running_loop()
    await pass_time(10)
    before = fake.calls.count("metadata")
    begin = loop.time()
    while loop.time() - begin < 10:
        await asyncio.wait([cluster.refresh_soon(), cluster.refresh_soon()])
    # 20, 40, 80, 160, 200, 200 ... ms: about 53 in ten seconds.
    assert 48 <= fake.calls.count("metadata") - before <= 58


async def test_metadata_are_refreshed_now_and_then_unasked(fake, cluster):
    fake.move("t", 2)
    await pass_time(61)
    assert cluster.leader(T0) == LeaderView(2, 1)


async def test_a_paused_broker_does_not_hold_up_a_refresh(fake, cluster):
    loop = asyncio.get_running_loop()
    for paused in (1, 2):
        fake.pause(paused)
    begin = loop.time()
    await refreshed(cluster)
    assert cluster.last_error is None
    assert loop.time() - begin < 3
    for paused in (1, 2):
        fake.resume(paused)


async def test_a_leader_that_does_not_live_is_no_leader(fake, cluster):
    fake.kill(1)
    await refreshed(cluster)
    assert cluster.leader(T0) is None


async def test_a_failed_refresh_is_told_and_the_next_one_works(fake, cluster):
    for number in fake.brokers:
        fake.kill(number)
    await refreshed(cluster)
    assert isinstance(cluster.last_error, NetworkError)
    fake.restart(2)
    await refreshed(cluster)
    assert cluster.last_error is None


async def test_a_deleted_topic_is_not_created_again_by_a_refresh(fake, cluster):
    await cluster.wait_for_topic("made", 1000, allow_auto_create=True)
    fake.delete("made")
    await refreshed(cluster)
    assert "made" not in fake.topics


async def test_a_topic_without_any_broker_to_ask_is_a_network_error(fake, cluster):
    for number in fake.brokers:
        fake.kill(number)
    with pytest.raises(NetworkError, match="no broker answers"):
        await cluster.wait_for_topic("other", 3000)


async def test_a_closed_client_says_so(fake):
    cluster = Cluster([fake.bootstrap], connect=fake.connect)
    await cluster.start()
    await cluster.close()
    with pytest.raises(UsageError, match="closed"):
        cluster.refresh_soon()
    with pytest.raises(UsageError, match="closed"):
        cluster.channel(1)
