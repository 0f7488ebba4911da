"""The blocking clients, from ordinary threads (in real time: a background thread runs the loop)."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from minikafka import client
from minikafka.client import Admin, Consumer, Producer
from minikafka.client.blocking import loop_thread
from minikafka.client.values import GroupMembership
from minikafka.errors import (
    InvalidRecordError,
    NetworkError,
    TopicAlreadyExistsError,
    UsageError,
)
from minikafka.model import TopicPartition
from tests.unit.client.fake_cluster import FakeCluster
from tests.unit.client.fake_transactions import committed


@pytest.fixture
def cluster():
    cluster = FakeCluster()
    cluster.create("t")
    return cluster


def test_records_are_written_and_read(cluster):
    with Producer(cluster.bootstrap, connect=cluster.connect) as producer:
        futures = [producer.send("t", b"%d" % number) for number in range(1000)]
        assert [each.result(10).offset for each in futures] == list(range(1000))
    with Consumer(
        cluster.bootstrap, connect=cluster.connect, auto_offset_reset="earliest"
    ) as consumer:
        consumer.assign(consumer.partitions_of("t"))
        records = []
        while len(records) < 500:
            records += consumer.poll(1000, 100)
        for record in consumer:
            records.append(record)
            if len(records) == 600:
                break
        assert consumer.position(("t", 0)) == 600
        assert [record.value for record in records] == [b"%d" % number for number in range(600)]
        consumer.seek(("t", 0), 999)
        assert [each.record_count for each in consumer.poll_batches(1000)] == [1]
        assert consumer.end_offsets([("t", 0)]) == consumer.end_offsets(consumer.assignment())
        consumer.seek_to_beginning()
        assert consumer.position(("t", 0)) == 0


def test_flush_waits_for_every_record_sent_before(cluster):
    with Producer(cluster.bootstrap, connect=cluster.connect, linger_ms=60_000) as producer:
        futures = [producer.send("t", b"v") for _ in range(100)]
        producer.flush(10_000)
        assert all(each.done() for each in futures)


def test_transactions_are_committed_and_aborted(cluster):
    with Producer(
        cluster.bootstrap, connect=cluster.connect, transactional_id="orders"
    ) as producer:
        early = producer.send("t", b"early")
        producer.init_transactions()
        producer.begin()
        with pytest.raises(UsageError, match="init_transactions"):
            early.result(10)
        receipts = [producer.send("t", b"%d" % number) for number in range(100)]
        producer.commit()
        assert [each.done() for each in receipts] == [True] * 100
        producer.begin()
        dropped = [producer.send("t", b"dropped") for _ in range(100)]
        producer.abort()
        assert all(each.done() for each in dropped)
        with producer.transaction():
            producer.send("t", b"last")
    values = [b"%d" % number for number in range(100)]
    assert committed(cluster.partition("t")) == [*values, b"last"]


def _with_a_record_that_is_none(producer, value):
    with producer.transaction():
        producer.send("t", b"good")
        producer.send("t", value)


def test_a_transaction_with_a_record_that_is_refused_is_not_committed(cluster):
    with Producer(
        cluster.bootstrap, connect=cluster.connect, transactional_id="orders"
    ) as producer:
        producer.init_transactions()
        with pytest.raises(InvalidRecordError, match="must be bytes"):
            _with_a_record_that_is_none(producer, "text")
        with producer.transaction():
            producer.send("t", b"next")
    assert committed(cluster.partition("t")) == [b"next"]


def _that_fails(producer):
    with producer.transaction():
        producer.send("t", b"dropped")
        producer.flush()
        raise ZeroDivisionError


def test_a_block_that_fails_is_aborted(cluster):
    with Producer(
        cluster.bootstrap, connect=cluster.connect, transactional_id="orders"
    ) as producer:
        producer.init_transactions()
        with pytest.raises(ZeroDivisionError):
            _that_fails(producer)
        with producer.transaction():
            producer.send("t", b"next")
    assert committed(cluster.partition("t")) == [b"next"]


class _InGroup:
    def membership(self):
        return GroupMembership("readers", 1, "m-1", None, False)


def test_offsets_go_with_a_transaction(cluster):
    with Producer(
        cluster.bootstrap, connect=cluster.connect, transactional_id="orders"
    ) as producer:
        producer.init_transactions()
        with producer.transaction():
            producer.send_offsets({TopicPartition("t", 0): 7}, _InGroup())
    assert cluster.coordination.offsets == {("readers", TopicPartition("t", 0)): 7}


def test_errors_come_by_the_future(cluster):
    with Producer(cluster.bootstrap, connect=cluster.connect) as producer:
        with pytest.raises(InvalidRecordError, match="must be bytes"):
            producer.send("t", "text").result(10)
        with pytest.raises(UsageError, match="no partition 5"):
            producer.send("t", b"v", partition=5).result(10)
        assert producer.send("t", b"v").result(10).offset == 0


def test_each_thread_keeps_its_order(cluster):
    with Producer(cluster.bootstrap, connect=cluster.connect, batch_size=500) as producer:

        def write(thread):
            for number in range(300):
                producer.send("t", b"%d:%04d" % (thread, number))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))
    values = cluster.partition("t").values()
    assert len(values) == 1200
    for thread in range(4):
        own = [value for value in values if value.startswith(b"%d:" % thread)]
        assert own == sorted(own)


def test_close_sends_what_is_left_and_ends_the_thread(cluster):
    before = loop_thread._users
    producer = Producer(cluster.bootstrap, connect=cluster.connect, linger_ms=60_000)
    future = producer.send("t", b"v")
    producer.close()
    assert future.result(0).offset == 0
    producer.close()
    with pytest.raises(UsageError, match="closed"):
        producer.send("t", b"v")
    assert loop_thread._users == before
    assert "minikafka-client" not in {thread.name for thread in threading.enumerate()}


def test_a_blocking_call_from_the_clients_own_thread_is_refused(cluster):
    told: Future = Future()
    with Producer(cluster.bootstrap, connect=cluster.connect) as producer:

        def flush_within(_):
            try:
                producer.flush()
            except UsageError as error:
                told.set_result(str(error))

        producer.send("t", b"v").add_done_callback(flush_within)
        assert "wait for itself" in told.result(10)


def test_no_cluster_is_an_error_and_leaves_nothing_behind(cluster):
    for make in (Producer, Consumer, Admin):
        with pytest.raises(NetworkError, match="no broker answers at nobody:1"):
            make("nobody:1", connect=cluster.connect)
    assert "minikafka-client" not in {thread.name for thread in threading.enumerate()}


def test_administration(cluster):
    with Admin(cluster.bootstrap, connect=cluster.connect) as admin:
        admin.create_topic("new", 2)
        with pytest.raises(TopicAlreadyExistsError):
            admin.create_topic("new", 2)
        assert {topic.name for topic in admin.metadata().topics} == {"t", "new"}
        statuses = admin.describe_partitions([client.TopicPartition("new", 1)])
        assert statuses[0].log_end_offset == 0
        watch = admin.watch()
        assert len(next(watch).partitions) == 3
        watch.close()
        admin.delete_topic("new")
        assert admin.cluster_id() == "fake-cluster"


def test_the_package_names_what_it_exports_and_nothing_else():
    assert all(getattr(client, name) is not None for name in client.__all__)
    assert set(client.__all__) <= set(dir(client))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = client.Nothing
