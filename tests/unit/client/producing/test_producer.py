"""The producer against a cluster that fails in all the ways that brokers do."""

import asyncio

import pytest

from minikafka.client.producing.producer import AsyncProducer
from minikafka.client.values import WouldBlockError
from minikafka.errors import (
    BrokerNotAvailableError,
    CorruptMessageError,
    InvalidProducerEpochError,
    InvalidRecordError,
    InvalidTopicError,
    MessageTooLargeError,
    NetworkError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    OutOfOrderSequenceNumberError,
    RequestTimedOutError,
    UnknownServerError,
    UnknownTopicOrPartitionError,
    UnsupportedCompressionTypeError,
    UsageError,
)
from minikafka.records.compression import CODEC_NAMES
from tests.unit.client.fake_cluster import FakeChannel, FakeCluster, Fault, pass_time


def producer_of(cluster, **options):
    options.setdefault("uniform", lambda: 0.5)
    return AsyncProducer(cluster.bootstrap, connect=cluster.connect, **options)


def first_batches(count, fault, partition=0):
    """A rule: this fault for the first `count` batches that arrive for a partition."""
    seen = []

    def rule(broker_id, topic_partition, header):
        if topic_partition.partition != partition or len(seen) >= count:
            return None
        seen.append(header)
        return fault

    return rule


def numbered(count):
    return [b"%06d" % number for number in range(count)]


@pytest.fixture
def cluster():
    cluster = FakeCluster()
    cluster.create("t")
    return cluster


async def test_a_record_comes_back_with_its_place(cluster):
    async with producer_of(cluster) as producer:
        delivery = await producer.send("t", b"v", key=b"k", timestamp_ms=5, headers=[("h", b"x")])
        assert not delivery.done()
        assert await delivery == ("t", 0, 0, 5)
        assert delivery.done()
        assert delivery.result().offset == 0
        second = await (await producer.send("t", None))
        assert second.offset == 1
    [first, second] = cluster.partition("t").records()
    assert (first.key, first.value, first.headers) == (b"k", b"v", (("h", b"x"),))
    assert second.value is None


async def test_records_of_one_turn_of_the_loop_make_one_batch(cluster):
    async with producer_of(cluster) as producer:
        deliveries = await producer.send_many("t", numbered(100))
        assert [(await each).offset for each in deliveries] == list(range(100))
    assert len(cluster.partition("t").batches) == 1


async def test_a_full_batch_is_followed_by_another_and_order_holds(cluster):
    async with producer_of(cluster, batch_size=200) as producer:
        deliveries = await producer.send_many("t", numbered(500))
        await producer.flush()
        assert [each.result().offset for each in deliveries] == list(range(500))
    assert cluster.partition("t").values() == numbered(500)
    assert max(header.size_bytes for header, _ in cluster.partition("t").batches) <= 261


async def test_linger_waits_for_more_records_and_flush_does_not(cluster):
    loop = asyncio.get_running_loop()
    async with producer_of(cluster, linger_ms=1000) as producer:
        begin = loop.time()
        await (await producer.send("t", b"a"))
        assert loop.time() - begin >= 1
        begin = loop.time()
        await producer.send("t", b"b")
        await producer.flush()
        assert loop.time() - begin < 0.5


async def test_under_load_batches_grow_while_one_is_in_flight(cluster):
    async with producer_of(cluster) as producer:
        await (await producer.send("t", b"x"))
        for value in numbered(200):
            await producer.send("t", value)
            await asyncio.sleep(0)
        await producer.flush()
    assert len(cluster.partition("t").batches) == 3
    assert cluster.partition("t").values()[1:] == numbered(200)


@pytest.mark.parametrize("codec", CODEC_NAMES)
async def test_every_codec_is_what_the_batch_says(cluster, codec):
    async with producer_of(cluster, compression=codec) as producer:
        await producer.send_many("t", [b"a" * 1000] * 10)
    [(header, data)] = cluster.partition("t").batches
    assert CODEC_NAMES[header.attributes & 7] == codec
    assert (len(data) < 2000) == (codec != "none")
    assert cluster.partition("t").values() == [b"a" * 1000] * 10


async def test_keys_keep_their_partition_and_a_partition_can_be_named(cluster):
    cluster.create("wide", 3)
    async with producer_of(cluster) as producer:
        same = [await (await producer.send("wide", b"v", key=b"k")) for _ in range(5)]
        named = await (await producer.send("wide", b"v", partition=2))
    assert len({each.partition for each in same}) == 1
    assert named.partition == 2


async def test_a_partition_that_does_not_exist_is_refused_at_once(cluster):
    async with producer_of(cluster) as producer:
        await producer.send("t", b"v")
        with pytest.raises(UsageError, match="topic 't' has no partition 3; it has 0 to 0"):
            await producer.send("t", b"v", partition=3)
        with pytest.raises(UsageError, match="no partition -1"):
            producer.send_nowait("t", b"v", partition=-1)


async def test_an_unknown_topic_is_waited_for_then_named(cluster):
    cluster.auto_create = False
    async with producer_of(cluster, max_block_ms=5000) as producer:
        with pytest.raises(UnknownTopicOrPartitionError, match="'nowhere' does not exist"):
            await producer.send("nowhere", b"v")


async def test_an_unknown_topic_is_created_where_that_is_allowed(cluster):
    async with producer_of(cluster) as producer:
        assert (await (await producer.send("new", b"v"))).offset == 0


async def test_a_bad_topic_name_is_refused_at_once(cluster):
    async with producer_of(cluster) as producer:
        with pytest.raises(InvalidTopicError, match="bad name"):
            await producer.send("a/b", b"v")


async def test_text_is_refused_with_advice_and_bytes_likes_are_taken(cluster):
    async with producer_of(cluster) as producer:
        await producer.send("t", memoryview(b"view"), key=bytearray(b"key"))
        with pytest.raises(InvalidRecordError, match="value must be bytes or None, not str"):
            await producer.send("t", "text")
        with pytest.raises(InvalidRecordError, match="key must be bytes or None, not int"):
            await producer.send("t", b"v", key=5)
    [record] = cluster.partition("t").records()
    assert (record.key, record.value) == (b"key", b"view")


async def test_a_record_above_the_request_size_is_refused_at_once(cluster):
    async with producer_of(cluster, max_request_size=1000) as producer:
        await producer.send("t", b"v")
        with pytest.raises(MessageTooLargeError, match="max_request_size"):
            await producer.send("t", b"v" * 1001)


async def test_a_batch_that_the_topic_finds_too_large_is_split(cluster):
    cluster.max_batch_bytes = 200
    async with producer_of(cluster) as producer:
        deliveries = await producer.send_many("t", numbered(40))
        offsets = [(await each).offset for each in deliveries]
        assert producer.buffered_bytes == 0
    assert offsets == list(range(40))
    assert cluster.partition("t").values() == numbered(40)


async def test_a_single_record_that_the_topic_finds_too_large_fails_and_the_next_goes_on(cluster):
    cluster.max_batch_bytes = 200
    async with producer_of(cluster) as producer:
        await (await producer.send("t", b"before"))
        large = await producer.send("t", b"v" * 300)
        small = await producer.send("t", b"after")
        with pytest.raises(MessageTooLargeError):
            await large
        assert (await small).offset == 1
        assert isinstance(large.exception(), MessageTooLargeError)
    assert cluster.partition("t").values() == [b"before", b"after"]


# --- failures ------------------------------------------------------------------------------------

RETRIED = [
    Fault(error=NotEnoughReplicasError()),
    Fault(append=True, error=NotEnoughReplicasAfterAppendError()),
    Fault(append=True, error=RequestTimedOutError()),
    Fault(append=True, error=NotLeaderOrFollowerError()),
    Fault(error=NotLeaderOrFollowerError()),
    Fault(append=True, disconnect=True),
    Fault(disconnect=True),
    Fault(error=CorruptMessageError()),
    Fault(append=True, hang=True),
]


@pytest.mark.parametrize("fault", RETRIED, ids=str)
async def test_a_failing_batch_among_pipelined_ones_is_repeated_in_order_without_duplicates(
    cluster, fault
):
    async with producer_of(cluster, batch_size=200, request_timeout_ms=1000) as producer:
        await (await producer.send("t", b"first"))
        cluster.faults.append(first_batches(1, fault))
        deliveries = await producer.send_many("t", numbered(100))
        assert [(await each).offset for each in deliveries] == list(range(1, 101))
    assert cluster.partition("t").values() == [b"first", *numbered(100)]


@pytest.mark.parametrize("fault", RETRIED, ids=str)
async def test_every_second_batch_fails_and_order_holds(cluster, fault):
    toggle = []

    def every_second(broker_id, topic_partition, header):
        toggle.append(header)
        return fault if len(toggle) % 2 else None

    cluster.faults.append(every_second)
    async with producer_of(cluster, batch_size=200, request_timeout_ms=1000) as producer:
        deliveries = await producer.send_many("t", numbered(60))
        assert [(await each).offset for each in deliveries] == list(range(60))
    assert cluster.partition("t").values() == numbered(60)


async def test_the_first_batch_of_a_producer_goes_alone_as_brokers_take_any_first_sequence(cluster):
    async with producer_of(cluster, batch_size=200) as producer:
        cluster.faults.append(first_batches(1, Fault(error=NotEnoughReplicasError())))
        await producer.send_many("t", numbered(50))
    assert cluster.partition("t").values() == numbered(50)
    sequences = [headers[0][1].base_sequence for _, headers in cluster.produced]
    assert sequences[:2] == [0, 0]


@pytest.mark.parametrize("hints", [True, False])
async def test_a_leader_that_moves_under_pipelined_batches_loses_repeats_and_reorders_nothing(
    cluster, hints
):
    cluster.hints = hints
    async with producer_of(cluster, batch_size=200) as producer:
        await (await producer.send("t", b"first"))
        deliveries = []
        for round_number in range(20):
            deliveries += await producer.send_many("t", numbered(30))
            await asyncio.sleep(0)
            cluster.move("t", 1 + (round_number + 1) % 3)
            await asyncio.sleep(0)
        offsets = [(await each).offset for each in deliveries]
    assert offsets == list(range(1, 601))
    assert cluster.partition("t").values() == [b"first", *(numbered(30) * 20)]


async def test_a_hint_spares_the_metadata_request(cluster):
    async with producer_of(cluster) as producer:
        await (await producer.send("t", b"a"))
        asked = cluster.calls.count("metadata")
        cluster.move("t", 2)
        assert (await (await producer.send("t", b"b"))).offset == 1
        assert cluster.calls.count("metadata") == asked


async def test_a_killed_leader_is_replaced_and_nothing_is_lost(cluster):
    async with producer_of(cluster, batch_size=200) as producer:
        await (await producer.send("t", b"first"))
        deliveries = await producer.send_many("t", numbered(30))
        await asyncio.sleep(0)
        cluster.kill(1)
        asyncio.get_running_loop().call_later(5, cluster.move, "t", 2)
        assert [(await each).offset for each in deliveries] == list(range(1, 31))
    assert cluster.partition("t").values() == [b"first", *numbered(30)]


async def test_a_paused_leader_is_left_as_soon_as_another_leads(cluster):
    loop = asyncio.get_running_loop()
    async with producer_of(cluster) as producer:
        await (await producer.send("t", b"first"))
        cluster.pause(1)
        begin = loop.time()
        delivery = await producer.send("t", b"second")
        loop.call_later(6, cluster.move, "t", 2)
        assert (await delivery).offset == 1
        assert loop.time() - begin < 10
        cluster.resume(1)
        await asyncio.sleep(0)
    assert cluster.partition("t").values() == [b"first", b"second"]


async def test_a_leader_out_of_touch_with_zookeeper_is_left_as_soon_as_another_leads(
    cluster,
):
    """It knows no better than that it leads itself, so it gives no hint."""

    def out_of_touch(broker_id, topic_partition, header):
        return Fault(error=BrokerNotAvailableError()) if broker_id == 1 else None

    loop = asyncio.get_running_loop()
    async with producer_of(cluster) as producer:
        await (await producer.send("t", b"first"))
        cluster.faults.append(out_of_touch)
        delivery = await producer.send("t", b"second")
        loop.call_later(2, cluster.move, "t", 2)
        begin = loop.time()
        assert (await delivery).offset == 1
        assert loop.time() - begin < 5


async def test_a_partition_without_a_leader_is_waited_for(cluster):
    cluster.move("t", -1)
    async with producer_of(cluster) as producer:
        delivery = await producer.send("t", b"v")
        asyncio.get_running_loop().call_later(3, cluster.move, "t", 3)
        assert (await delivery).offset == 0


async def test_one_stuck_partition_does_not_stop_another(cluster):
    cluster.create("wide", 2, leader=1)
    cluster.faults.append(first_batches(10**9, Fault(error=NotEnoughReplicasError()), partition=0))
    async with producer_of(cluster, delivery_timeout_ms=3000) as producer:
        stuck = await producer.send("wide", b"stuck", partition=0)
        for number in range(20):
            assert (await (await producer.send("wide", b"v", partition=1))).offset == number
        with pytest.raises(NotEnoughReplicasError):
            await stuck


# --- giving up -----------------------------------------------------------------------------------


async def test_a_delivery_timeout_tells_the_error_that_kept_the_record(cluster):
    cluster.faults.append(first_batches(10**9, Fault(error=NotEnoughReplicasError("2 of 3"))))
    loop = asyncio.get_running_loop()
    async with producer_of(cluster, delivery_timeout_ms=10_000) as producer:
        begin = loop.time()
        delivery = await producer.send("t", b"v")
        with pytest.raises(NotEnoughReplicasError, match=r"t-0 .* within 10000 ms: 2 of 3"):
            await delivery
        assert 10 <= loop.time() - begin < 11
        assert producer.buffered_bytes == 0


async def test_a_timeout_after_a_possible_write_does_not_promise_that_nothing_was_written(cluster):
    cluster.faults.append(first_batches(1, Fault(append=True, error=RequestTimedOutError())))
    cluster.faults.append(first_batches(10**9, Fault(error=NotEnoughReplicasError())))
    async with producer_of(cluster, delivery_timeout_ms=2000) as producer:
        with pytest.raises(RequestTimedOutError, match="may have been written"):
            await (await producer.send("t", b"v"))


@pytest.mark.parametrize(
    "error", [RequestTimedOutError(), NotEnoughReplicasAfterAppendError(), NetworkError()], ids=str
)
async def test_other_errors_that_last_are_the_ones_told(cluster, error):
    cluster.faults.append(first_batches(10**9, Fault(append=True, error=error)))
    async with producer_of(cluster, delivery_timeout_ms=2000) as producer:
        with pytest.raises(type(error), match="within 2000 ms"):
            await (await producer.send("t", b"v"))


async def test_after_an_expiry_the_epoch_is_raised_and_later_records_are_written_once(cluster):
    async with producer_of(cluster, delivery_timeout_ms=2000, request_timeout_ms=500) as producer:
        await (await producer.send("t", b"first"))
        cluster.faults.append(lambda *_: Fault(hang=True))
        lost = await producer.send("t", b"lost")
        with pytest.raises(RequestTimedOutError):
            await lost
        cluster.faults.clear()
        assert (await (await producer.send("t", b"later"))).offset == 1
        assert (await (await producer.send("t", b"latest"))).offset == 2
    headers = [header for header, _ in cluster.partition("t").batches]
    assert [(each.producer_epoch, each.base_sequence) for each in headers] == [
        (0, 0),
        (1, 0),
        (1, 1),
    ]
    assert cluster.partition("t").values() == [b"first", b"later", b"latest"]


async def test_batches_of_unknown_fate_behind_an_expired_one_fail_rather_than_risk_a_duplicate(
    cluster,
):
    async with producer_of(
        cluster, batch_size=60, delivery_timeout_ms=2000, request_timeout_ms=500
    ) as producer:
        await (await producer.send("t", b"first"))
        # Everything is written, but no answer comes back.
        cluster.faults.append(lambda *_: Fault(append=True, hang=True))
        unknown = await producer.send_many("t", numbered(5))
        for each in unknown:
            with pytest.raises(RequestTimedOutError):
                await each
        cluster.faults.clear()
        # The last one was never sent: it waited for more records.
        assert (await (await producer.send("t", b"later"))).offset == 5
    values = cluster.partition("t").values()
    assert values == [b"first", *numbered(4), b"later"]


async def test_batches_behind_an_expired_one_that_were_refused_are_written_under_a_new_epoch(
    cluster,
):
    async with producer_of(
        cluster, batch_size=60, delivery_timeout_ms=2000, request_timeout_ms=5000
    ) as producer:
        await (await producer.send("t", b"first"))
        cluster.faults.append(first_batches(1, Fault(hang=True)))
        expired = await producer.send("t", b"expired")
        await pass_time(1.5)
        behind = await producer.send_many("t", numbered(3))
        with pytest.raises(RequestTimedOutError):
            await expired
        assert [(await each).offset for each in behind] == [1, 2, 3]
    assert cluster.partition("t").values() == [b"first", *numbered(3)]
    assert [header.producer_epoch for header, _ in cluster.partition("t").batches][1:] == [1, 1, 1]


async def test_a_fenced_producer_epoch_leads_to_a_new_producer_id(cluster):
    async with producer_of(cluster) as producer:
        await (await producer.send("t", b"a"))
        cluster.faults.append(first_batches(1, Fault(error=InvalidProducerEpochError())))
        assert (await (await producer.send("t", b"b"))).offset == 1
    ids = [header.producer_id for header, _ in cluster.partition("t").batches]
    assert ids == [101, 102]


async def test_a_log_that_lost_records_fails_the_batch_and_later_ones_go_on(cluster):
    async with producer_of(cluster) as producer:
        await (await producer.send("t", b"a"))
        cluster.faults.append(first_batches(1, Fault(error=OutOfOrderSequenceNumberError())))
        with pytest.raises(OutOfOrderSequenceNumberError):
            await (await producer.send("t", b"b"))
        assert (await (await producer.send("t", b"c"))).offset == 1


async def test_a_topic_that_was_made_again_is_written_to(cluster):
    async with producer_of(cluster, batch_size=100) as producer:
        await (await producer.send("t", b"old"))
        cluster.delete("t")
        cluster.create("t", leader=2)
        deliveries = await producer.send_many("t", numbered(20))
        assert [(await each).offset for each in deliveries] == list(range(20))


# --- without idempotence -------------------------------------------------------------------------


async def test_an_unforeseen_failure_fails_the_record_and_no_more(cluster):
    def broken(broker_id, topic_partition, header):
        raise ZeroDivisionError("a bug")

    async with producer_of(cluster) as producer:
        await (await producer.send("t", b"a"))
        cluster.faults.append(broken)
        with pytest.raises(UnknownServerError, match="ZeroDivisionError: a bug"):
            await (await producer.send("t", b"b"))
        cluster.faults.clear()
        assert (await (await producer.send("t", b"c"))).offset == 1


async def test_an_answer_that_leaves_a_partition_out_is_asked_for_again(cluster):
    async with producer_of(cluster) as producer:
        await (await producer.send("t", b"a"))
        answers = []

        def leave_out(self, future, outcome, answer=FakeChannel.answer):
            answers.append(outcome)
            answer(self, future, [] if len(answers) == 1 else outcome)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FakeChannel, "answer", leave_out)
            assert (await (await producer.send("t", b"b"))).offset == 1
    assert cluster.partition("t").values() == [b"a", b"b"]


async def test_what_is_interrupted_does_not_wait_out_an_outage(cluster):
    loop = asyncio.get_running_loop()
    deliveries = []

    async def write():
        async with producer_of(cluster) as producer:
            await producer.partition_count("t")
            cluster.pause(1)
            deliveries.append(await producer.send("t", b"v"))
            raise KeyboardInterrupt

    begin = loop.time()
    with pytest.raises(KeyboardInterrupt):
        await write()
    assert loop.time() - begin < 2
    assert isinstance(deliveries[0].exception(), RequestTimedOutError)


async def test_a_producer_that_finds_nobody_closes_its_channels(cluster):
    cluster.kill(1)
    with pytest.raises(NetworkError, match="no broker answers at fake:9001"):
        async with producer_of(cluster):
            raise AssertionError("it started")
    assert all(channel.closed for channel in cluster.channels)


async def test_without_idempotence_batches_carry_no_producer(cluster):
    async with producer_of(cluster, acks=1) as producer:
        await (await producer.send("t", b"v"))
    [(header, _)] = cluster.partition("t").batches
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (-1, -1, -1)


async def test_without_idempotence_one_in_flight_keeps_the_order_through_failures(cluster):
    async with producer_of(cluster, idempotence=False, max_in_flight=1, batch_size=100) as producer:
        cluster.faults.append(first_batches(3, Fault(error=NotEnoughReplicasError())))
        await producer.send_many("t", numbered(50))
    assert cluster.partition("t").values() == numbered(50)
    assert max(len(headers) for _, headers in cluster.produced) == 1


async def test_acks_0_gives_no_offset(cluster):
    async with producer_of(cluster, acks=0) as producer:
        assert (await (await producer.send("t", b"v"))).offset == -1
    assert cluster.partition("t").values() == [b"v"]


# --- memory, life --------------------------------------------------------------------------------


async def test_a_full_buffer_makes_send_wait_and_send_nowait_refuse(cluster):
    async with producer_of(cluster, buffer_memory=5000) as producer:
        await producer.partition_count("t")
        cluster.pause(1)
        await producer.send("t", b"x" * 3000)
        with pytest.raises(WouldBlockError, match="buffer memory of 5000 bytes is full"):
            producer.send_nowait("t", b"y" * 3000)
        waiting = asyncio.ensure_future(producer.send("t", b"y" * 3000))
        second = asyncio.ensure_future(producer.send("t", b"z"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        cluster.resume(1)
        assert (await (await waiting)).offset == 1
        await (await second)
        assert producer.buffered_bytes == 0


async def test_a_buffer_that_stays_full_is_an_error_after_max_block(cluster):
    async with producer_of(cluster, buffer_memory=5000, max_block_ms=2000) as producer:
        await producer.partition_count("t")
        cluster.pause(1)
        await producer.send("t", b"x" * 3000)
        with pytest.raises(WouldBlockError, match="no buffer memory became free within 2000 ms"):
            await producer.send("t", b"y" * 3000)
        cluster.resume(1)


async def test_many_senders_get_through_a_small_buffer(cluster):
    async with producer_of(cluster, buffer_memory=2000) as producer:

        async def write(number):
            return await (await producer.send("t", b"%d" % number * 300))

        await asyncio.gather(*(write(number) for number in range(100)))
    assert len(cluster.partition("t").values()) == 100


async def test_close_sends_what_is_left_and_then_refuses(cluster):
    producer = producer_of(cluster, linger_ms=10_000)
    await producer.start()
    delivery = await producer.send("t", b"v")
    await producer.close()
    assert delivery.result().offset == 0
    with pytest.raises(UsageError, match="closed"):
        await producer.send("t", b"w")
    await producer.close()
    assert all(channel.closed for channel in cluster.channels)


async def test_close_with_a_time_limit_fails_what_is_left(cluster):
    producer = producer_of(cluster)
    await producer.start()
    cluster.pause(1)
    delivery = await producer.send("t", b"v")
    await producer.close(timeout_ms=100)
    with pytest.raises(RequestTimedOutError, match="closed before t-0 acknowledged"):
        delivery.result()


async def test_a_delivery_can_be_waited_for_by_callback_and_by_cancelled_waiters(cluster):
    async with producer_of(cluster) as producer:
        heard = []
        delivery = await producer.send("t", b"v")
        with pytest.raises(asyncio.InvalidStateError):
            delivery.result()
        delivery.add_done_callback(lambda each: heard.append(each.result().offset))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.ensure_future(_wait(delivery)), 0)
        assert (await delivery).offset == 0
        delivery.add_done_callback(lambda each: heard.append("at once"))
    assert heard == [0, "at once"]


async def _wait(delivery):
    return await delivery


async def test_an_unstarted_producer_says_so(cluster):
    producer = producer_of(cluster)
    with pytest.raises(UsageError, match="not started"):
        await producer.send("t", b"v")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"acks": "some"}, "acks is 'some'; it must be all, 1 or 0"),
        ({"acks": 1, "idempotence": True}, "idempotence needs acks=all"),
        ({"linger_ms": -1}, "linger_ms is -1"),
        ({"batch_size": 0}, "batch_size is 0; it must be above 0"),
    ],
)
async def test_options_that_cannot_work_are_refused(cluster, options, message):
    with pytest.raises(UsageError, match=message):
        producer_of(cluster, **options)


async def test_an_unknown_codec_is_refused(cluster):
    with pytest.raises(UnsupportedCompressionTypeError, match="valid are none, gzip"):
        producer_of(cluster, compression="rar")


async def test_no_producer_id_for_long_fails_with_the_reason(cluster):
    async with producer_of(cluster, delivery_timeout_ms=2000) as producer:
        await producer.partition_count("t")
        for number in (1, 2, 3):
            cluster.kill(number)
        with pytest.raises(NetworkError, match="no broker answers"):
            await (await producer.send("t", b"v"))
