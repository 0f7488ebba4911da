"""The consumer: positions, leadership changes, offsets that are not there, damage."""

import asyncio

import pytest

from minikafka.api.requests import EARLIEST_TIMESTAMP, ListOffsetsResult
from minikafka.client.consuming.consumer import AsyncConsumer
from minikafka.client.consuming.fetcher import Fetcher
from minikafka.errors import (
    CorruptMessageError,
    OffsetNotAvailableError,
    OffsetOutOfRangeError,
    UnknownServerError,
    UnknownTopicOrPartitionError,
    UsageError,
)
from minikafka.model import EndMarker, TopicPartition
from minikafka.records.build import BatchBuilder
from minikafka.records.compression import CODEC_NAMES, Codec
from minikafka.records.header import parse_header
from minikafka.records.markers import build_marker
from tests.unit.client.fake_cluster import FakeChannel, FakeCluster, pass_time

T0 = TopicPartition("t", 0)


def consumer_of(cluster, **options):
    options.setdefault("auto_offset_reset", "earliest")
    options.setdefault("uniform", lambda: 0.5)
    return AsyncConsumer(cluster.bootstrap, connect=cluster.connect, **options)


def write(cluster, count, per_batch=10, codec=Codec.NONE, topic="t", number=0):
    """Records `topic-number-offset`, with timestamps of 1000 ms times the offset."""
    partition = cluster.partition(topic, number)
    end = partition.log_end_offset + count
    while partition.log_end_offset < end:
        first = partition.log_end_offset
        builder = BatchBuilder()
        for offset in range(first, min(first + per_batch, end)):
            builder.append(None, b"%s-%d-%d" % (topic.encode(), number, offset), (), 1000 * offset)
        partition.append(builder.build(codec))


async def read(consumer, count):
    records = []
    while len(records) < count:
        records += await consumer.poll(10_000, count - len(records))
    return records


def offsets(records):
    return [record.offset for record in records]


@pytest.fixture
def cluster():
    cluster = FakeCluster()
    cluster.create("t")
    return cluster


async def test_everything_is_read_in_order_once(cluster):
    write(cluster, 1000)
    async with consumer_of(cluster, max_partition_fetch_bytes=2000) as consumer:
        consumer.assign([("t", 0)])
        records = await read(consumer, 1000)
        assert offsets(records) == list(range(1000))
        assert records[5] == ("t", 0, 5, 5000, None, b"t-0-5", ())
        assert await consumer.poll(100) == []
        assert await consumer.position(T0) == 1000
        assert consumer.high_watermark(T0) == 1000


@pytest.mark.parametrize("codec", CODEC_NAMES)
async def test_every_codec_is_read(cluster, codec):
    write(cluster, 30, codec=Codec[codec.upper()])
    async with consumer_of(cluster) as consumer:
        consumer.assign([T0])
        assert offsets(await read(consumer, 30)) == list(range(30))


async def test_a_position_within_a_batch_skips_what_lies_before_it(cluster):
    write(cluster, 100)
    async with consumer_of(cluster) as consumer:
        consumer.assign([T0])
        consumer.seek(T0, 57)
        assert offsets(await read(consumer, 43)) == list(range(57, 100))
        consumer.seek(T0, 3)
        assert offsets(await consumer.poll(1000, 2)) == [3, 4]
        assert await consumer.position(T0) == 5
        assert offsets(await consumer.poll(1000, 100))[0] == 5


async def test_new_records_end_a_long_poll(cluster):
    loop = asyncio.get_running_loop()
    async with consumer_of(cluster, fetch_max_wait_ms=20_000) as consumer:
        consumer.assign([T0])
        loop.call_later(3, write, cluster, 1)
        begin = loop.time()
        assert offsets(await consumer.poll(60_000)) == [0]
        assert loop.time() - begin < 3.1


async def test_beginning_end_and_auto_offset_reset(cluster):
    write(cluster, 50)
    async with consumer_of(cluster, auto_offset_reset="latest") as consumer:
        consumer.assign([T0])
        assert await consumer.position(T0) == 50
        consumer.seek_to_beginning()
        assert await consumer.position(T0) == 0
        consumer.seek_to_end(T0)
        assert await consumer.position(T0) == 50
        write(cluster, 1)
        assert offsets(await consumer.poll(1000)) == [50]
        assert await consumer.beginning_offsets([T0]) == {T0: 0}
        assert await consumer.end_offsets([("t", 0)]) == {T0: 51}


async def test_without_a_position_and_a_reset_it_is_an_error(cluster):
    async with consumer_of(cluster, auto_offset_reset="error") as consumer:
        consumer.assign([T0])
        with pytest.raises(OffsetOutOfRangeError, match=r"no position .* seek first"):
            await consumer.poll(1000)
        write(cluster, 1)
        consumer.seek(T0, 0)
        assert offsets(await consumer.poll(1000)) == [0]


@pytest.mark.parametrize("codec", [Codec.NONE, Codec.LZ4])
async def test_a_timestamp_is_found_to_the_record_also_in_compressed_batches(cluster, codec):
    write(cluster, 100, codec=codec)
    async with consumer_of(cluster) as consumer:
        consumer.assign([T0])
        assert await consumer.seek_to_timestamp(T0, 36_500) == 37
        assert offsets(await consumer.poll(1000, 1)) == [37]
        assert await consumer.seek_to_timestamp(T0, 40_000) == 40
        assert await consumer.seek_to_timestamp(T0, 10**9) == 100
        assert await consumer.offsets_for_times({T0: 10**9}) == {T0: None}


@pytest.mark.parametrize("hints", [True, False])
async def test_a_leader_that_changes_while_polling_goes_unnoticed(cluster, hints):
    cluster.hints = hints
    async with consumer_of(cluster, max_partition_fetch_bytes=500) as consumer:
        consumer.assign([T0])
        records = []
        for round_number in range(12):
            write(cluster, 20)
            cluster.move("t", 1 + round_number % 3)
            records += await read(consumer, 20)
        assert offsets(records) == list(range(240))


async def test_a_bump_of_the_epoch_alone_changes_nothing(cluster):
    async with consumer_of(cluster) as consumer:
        consumer.assign([T0])
        write(cluster, 10)
        assert offsets(await read(consumer, 10)) == list(range(10))
        cluster.move("t", 1)
        write(cluster, 10)
        assert offsets(await read(consumer, 10)) == list(range(10, 20))


async def test_a_killed_leader_is_replaced(cluster):
    async with consumer_of(cluster) as consumer:
        consumer.assign([T0])
        write(cluster, 10)
        await read(consumer, 10)
        cluster.kill(1)
        asyncio.get_running_loop().call_later(4, cluster.move, "t", 2)
        write(cluster, 10)
        assert offsets(await read(consumer, 10)) == list(range(10, 20))


async def test_a_paused_leader_is_left_as_soon_as_another_leads(cluster):
    loop = asyncio.get_running_loop()
    async with consumer_of(cluster) as consumer:
        consumer.assign([T0])
        write(cluster, 10)
        await read(consumer, 10)
        cluster.pause(1)
        write(cluster, 10)
        loop.call_later(6, cluster.move, "t", 2)
        begin = loop.time()
        assert offsets(await read(consumer, 10)) == list(range(10, 20))
        assert loop.time() - begin < 10
        cluster.resume(1)


@pytest.mark.parametrize(("reset", "expected"), [("earliest", 30), ("latest", 50)])
async def test_a_position_that_was_deleted_is_reset_by_the_policy(cluster, reset, expected):
    write(cluster, 50)
    async with consumer_of(cluster, auto_offset_reset=reset) as consumer:
        consumer.assign([T0])
        consumer.seek(T0, 5)
        partition = cluster.partition("t")
        partition.log_start_offset = 30
        del partition.batches[:3]
        write(cluster, 10)
        partition.wake()
        if reset == "earliest":
            assert offsets(await consumer.poll(1000, 1)) == [expected]
        else:
            assert await consumer.poll(100) == []
            assert await consumer.position(T0) == 60


async def test_a_position_that_is_not_there_is_an_error_where_that_is_asked_for(cluster):
    write(cluster, 50)
    async with consumer_of(cluster, auto_offset_reset="error") as consumer:
        consumer.assign([T0])
        consumer.seek(T0, 70)
        with pytest.raises(OffsetOutOfRangeError, match=r"offset 70 of t-0 is outside .* 0 to 50"):
            await consumer.poll(1000)
        with pytest.raises(OffsetOutOfRangeError):
            await consumer.poll(1000)
        consumer.seek(T0, 49)
        assert offsets(await consumer.poll(1000)) == [49]


@pytest.mark.parametrize("reset", ["error", "earliest", "latest"])
async def test_a_leader_that_was_cut_off_is_not_believed_about_the_end_of_the_log(cluster, reset):
    """The consumer is new, and the first that it asks is the one that knows nothing of its
    successor: it must not begin anew for that."""
    behind = FakeCluster()
    behind.create("t")
    write(behind, 50)
    write(cluster, 80)
    cluster.move("t", 2)

    def connect(address):
        return (behind if address == cluster.bootstrap else cluster).connect(address)

    consumer = AsyncConsumer(
        cluster.bootstrap, auto_offset_reset=reset, connect=connect, uniform=lambda: 0.5
    )
    async with consumer:
        consumer.assign([T0])
        consumer.seek(T0, 70)
        assert offsets(await read(consumer, 10)) == list(range(70, 80))


async def test_a_leader_that_dies_between_the_choice_and_the_fetch_is_looked_for_again(
    cluster, monkeypatch
):
    """The metadata change in the turn of the loop between the two."""
    write(cluster, 10)
    died = []
    wanted = Fetcher._wanted

    def die(fetcher, states):
        asked_for = wanted(fetcher, states)
        if not died:
            died.append(fetcher._cluster.brokers.pop(1))
        return asked_for

    async with consumer_of(cluster) as consumer:
        monkeypatch.setattr(Fetcher, "_wanted", die)
        consumer.assign([T0])
        consumer.seek(T0, 0)
        assert offsets(await read(consumer, 10)) == list(range(10))
    assert died


async def test_damage_is_told_after_the_records_before_it_and_can_be_skipped(cluster):
    write(cluster, 30)
    partition = cluster.partition("t")
    header, data = partition.batches[1]
    partition.batches[1] = (header, data[:-1] + b"?")
    async with consumer_of(cluster) as consumer:
        consumer.assign([T0])
        assert offsets(await read(consumer, 10)) == list(range(10))
        for _ in range(2):
            with pytest.raises(CorruptMessageError, match=r"t-0: .*base offset 10"):
                await consumer.poll(1000)
        assert await consumer.position(T0) == 10
        consumer.seek(T0, 20)
        assert offsets(await read(consumer, 10)) == list(range(20, 30))


async def test_crcs_can_go_unchecked(cluster):
    write(cluster, 10)
    partition = cluster.partition("t")
    header, data = partition.batches[0]
    partition.batches[0] = (header, data[:17] + b"\0\0\0\0" + data[21:])
    async with consumer_of(cluster, check_crcs=False) as consumer:
        consumer.assign([T0])
        assert offsets(await read(consumer, 10)) == list(range(10))


async def test_control_batches_take_offsets_but_are_not_seen(cluster):
    write(cluster, 5)
    partition = cluster.partition("t")
    builder = BatchBuilder()
    builder.append(b"\0\0\0\0", b"\0\0\0\0\0\0", (), 0)
    data = builder.build(control=True, transactional=True)
    stamped = (5).to_bytes(8, "big") + data[8:]
    partition.batches.append((parse_header(stamped), stamped))
    write(cluster, 5)
    async with consumer_of(cluster) as consumer:
        consumer.assign([T0])
        assert offsets(await read(consumer, 10)) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]


async def test_partitions_take_turns_and_stay_in_order(cluster):
    cluster.create("wide", 3)
    for number in range(3):
        write(cluster, 100, topic="wide", number=number)
    async with consumer_of(cluster) as consumer:
        partitions = await consumer.partitions_of("wide")
        assert len(partitions) == 3
        consumer.assign(partitions)
        assert consumer.assignment() == partitions
        records = []
        while len(records) < 300:
            records += await consumer.poll(1000, 10)
        for number in range(3):
            of_one = [record.offset for record in records if record.partition == number]
            assert of_one == list(range(100))


async def test_batches_are_given_whole_and_mix_with_records(cluster):
    write(cluster, 100)
    async with consumer_of(cluster) as consumer:
        consumer.assign([T0])
        consumer.seek(T0, 15)
        assert offsets(await consumer.poll(1000, 7)) == list(range(15, 22))
        batches = await consumer.poll_batches(1000)
        found = [record.offset for each in batches for record in each.records()]
        assert found == list(range(22, 100))
        assert sum(each.record_count for each in batches) == 78
        assert await consumer.position(T0) == 100
        assert await consumer.poll_batches(100) == []


async def test_iteration_gives_records_and_the_position_follows_what_was_given(cluster):
    write(cluster, 30)
    async with consumer_of(cluster) as consumer:
        consumer.assign([T0])
        seen = []
        async for record in consumer:
            seen.append(record.offset)
            if len(seen) == 5:
                break
        assert seen == list(range(5))
        assert await consumer.position(T0) == 5
        assert offsets(await consumer.poll(1000, 3)) == [5, 6, 7]
        consumer.seek(T0, 20)
        assert (await anext(consumer)).offset == 20


async def test_reassignment_keeps_positions_and_forgets_what_left(cluster):
    cluster.create("u")
    write(cluster, 20)
    write(cluster, 20, topic="u")
    async with consumer_of(cluster) as consumer:
        consumer.assign([T0])
        await consumer.poll(1000, 5)
        consumer.assign([T0, ("u", 0)])
        assert await consumer.position(T0) == 5
        consumer.assign([("u", 0)])
        assert {record.topic for record in await read(consumer, 20)} == {"u"}
        with pytest.raises(UsageError, match="t-0 is not assigned"):
            consumer.seek(T0, 0)


async def test_a_topic_that_appears_late_is_read(cluster):
    async with consumer_of(cluster) as consumer:
        consumer.assign([("late", 0)])
        assert await consumer.poll(1000) == []
        cluster.create("late")
        write(cluster, 3, topic="late")
        assert offsets(await read(consumer, 3)) == [0, 1, 2]


async def test_a_topic_that_never_appears_is_an_error_and_is_not_created(cluster):
    async with consumer_of(cluster, max_block_ms=5000) as consumer:
        consumer.assign([("nowhere", 0)])
        with pytest.raises(UnknownTopicOrPartitionError, match="'nowhere'"):
            await consumer.poll(60_000)
        with pytest.raises(UnknownTopicOrPartitionError, match="'nowhere'"):
            await consumer.partitions_of("nowhere")
    assert "nowhere" not in cluster.topics


async def test_a_partition_that_does_not_exist_is_an_error(cluster):
    async with consumer_of(cluster) as consumer:
        consumer.assign([("t", 7)])
        with pytest.raises(UnknownTopicOrPartitionError, match="no partition 7; it has 0 to 0"):
            await consumer.poll(60_000)
        with pytest.raises(UnknownTopicOrPartitionError, match="has no partition 7"):
            await consumer.end_offsets([("t", 7)])


async def test_an_unforeseen_failure_is_told_and_reading_goes_on(cluster):
    write(cluster, 5)

    def broken(self, wanted, request):
        raise ZeroDivisionError("a bug")

    async with consumer_of(cluster) as consumer:
        consumer.assign([T0])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FakeChannel, "fetch_one", broken)
            with pytest.raises(UnknownServerError, match="ZeroDivisionError: a bug"):
                await consumer.poll(10_000)
        assert offsets(await read(consumer, 5)) == list(range(5))


async def test_an_unreadable_answer_is_told(cluster):
    write(cluster, 5)
    partition = cluster.partition("t")
    header, data = partition.batches[0]
    partition.batches[0] = (header, data[:16] + b"\x07" + data[17:])
    async with consumer_of(cluster) as consumer:
        consumer.assign([T0])
        with pytest.raises(CorruptMessageError, match=r"t-0: .*magic 7"):
            await consumer.poll(10_000)


@pytest.mark.parametrize("reset", ["earliest", "latest"])
async def test_offsets_that_nobody_tells_are_an_error_in_time(cluster, reset):
    async with consumer_of(cluster, auto_offset_reset=reset, max_block_ms=3000) as consumer:
        consumer.assign([T0])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FakeChannel, "list_one", refuse_offsets)
            with pytest.raises(OffsetNotAvailableError):
                await consumer.position(T0)
        assert await consumer.position(T0) == 0


def refuse_offsets(self, wanted):
    return ListOffsetsResult(wanted.topic_partition, OffsetNotAvailableError("not yet"))


async def test_a_leader_that_lags_after_an_election_resets_nothing(cluster):
    write(cluster, 10)
    async with consumer_of(cluster, auto_offset_reset="error") as consumer:
        consumer.assign([T0])
        consumer.seek(T0, 10)
        partition = cluster.partition("t")
        newest = partition.batches.pop()
        asyncio.get_running_loop().call_later(2, partition.batches.append, newest)
        with pytest.MonkeyPatch.context() as patch:
            answer = ListOffsetsResult(T0, None, 10)
            start = ListOffsetsResult(T0, None, 0)
            patch.setattr(
                FakeChannel,
                "list_one",
                lambda self, wanted: start if wanted.timestamp_ms == EARLIEST_TIMESTAMP else answer,
            )
            assert await consumer.poll(5000) == []
        assert await consumer.position(T0) == 10


async def test_fetching_ahead_is_bounded(cluster):
    write(cluster, 2000)
    async with consumer_of(cluster, max_partition_fetch_bytes=1000) as consumer:
        consumer.assign([T0])
        await consumer.poll(1000, 1)
        await pass_time(5)
        fetched = cluster.calls.count("fetch")
        await pass_time(5)
        assert cluster.calls.count("fetch") == fetched <= 4


async def test_options_that_cannot_work_are_refused(cluster):
    with pytest.raises(UsageError, match="valid are earliest, latest, error"):
        consumer_of(cluster, auto_offset_reset="first")
    with pytest.raises(UsageError, match="max_partition_fetch_bytes is 0"):
        consumer_of(cluster, max_partition_fetch_bytes=0)
    with pytest.raises(UsageError, match="not started"):
        consumer_of(cluster).assign([T0])
    async with consumer_of(cluster) as consumer:
        consumer.assign([T0])
        with pytest.raises(UsageError, match="offsets begin at 0"):
            consumer.seek(T0, -1)
        with pytest.raises(UsageError, match="before 1970"):
            await consumer.seek_to_timestamp(T0, -5)


async def test_a_consumer_that_is_closed_while_it_fetches_leaves_no_task_behind(cluster):
    async with consumer_of(cluster) as consumer:
        consumer.assign([T0])
        assert await consumer.poll(100) == []
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        assert waiting  # a fetch is at the broker, which has nothing yet
    await pass_time(1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


# --- isolation -----------------------------------------------------------------------------------


def in_transaction(cluster, producer_id, sequence=0, count=1):
    """Records of a transaction: their values are the offset and the producer."""
    partition = cluster.partition("t", 0)
    builder = BatchBuilder()
    for offset in range(partition.log_end_offset, partition.log_end_offset + count):
        builder.append(None, b"%d of %d" % (offset, producer_id), (), 1000 * offset)
    partition.append(
        builder.build(
            producer_id=producer_id,
            producer_epoch=0,
            base_sequence=sequence,
            transactional=True,
        )
    )


def end(cluster, producer_id, *, commits):
    marker = build_marker(producer_id, 0, EndMarker(commits, 0), 0)
    cluster.partition("t", 0).append(marker)


@pytest.mark.parametrize("max_bytes", [1, 1_000_000])
async def test_committed_records_are_read_and_aborted_ones_passed_over(cluster, max_bytes):
    in_transaction(cluster, 1)  # 0, aborted
    write(cluster, 1)  # 1
    in_transaction(cluster, 2)  # 2, committed
    end(cluster, 1, commits=False)
    in_transaction(cluster, 1, 1)  # 4, aborted, too
    end(cluster, 2, commits=True)
    end(cluster, 1, commits=False)
    in_transaction(cluster, 1, 2, count=2)  # 7, committed
    end(cluster, 1, commits=True)
    options = {"isolation": "read_committed", "max_partition_fetch_bytes": max_bytes}
    async with consumer_of(cluster, **options) as consumer:
        consumer.assign([T0])
        assert offsets(await read(consumer, 4)) == [1, 2, 7, 8]
        assert await consumer.poll(100) == []
        assert await consumer.position(T0) == 10, "the marker at the end is passed, too"
        consumer.seek(T0, 4)
        assert offsets(await read(consumer, 2)) == [7, 8]
        consumer.seek(T0, 0)
        batches = []
        while not batches or batches[-1].next_offset < 10:
            batches += await consumer.poll_batches(10_000)
        assert sum(each.record_count for each in batches) == 4
    async with consumer_of(cluster) as consumer:
        consumer.assign([T0])
        assert offsets(await read(consumer, 6)) == [0, 1, 2, 4, 7, 8]


async def test_an_answer_without_a_record_moves_the_position_on(cluster):
    in_transaction(cluster, 1)
    end(cluster, 1, commits=False)
    async with consumer_of(cluster, isolation="read_committed") as consumer:
        consumer.assign([T0])
        while await consumer.position(T0) < 2:
            assert await consumer.poll(1000) == []
        write(cluster, 1)
        assert offsets(await read(consumer, 1)) == [2]


async def test_what_is_open_is_not_read_and_ends_what_is_there(cluster):
    write(cluster, 1)
    in_transaction(cluster, 1)
    write(cluster, 1)
    async with consumer_of(cluster, isolation="read_committed") as consumer:
        assert await consumer.end_offsets([T0]) == {T0: 1}
        consumer.assign([T0])
        assert offsets(await read(consumer, 1)) == [0]
        assert await consumer.poll(1000) == []
        assert consumer.high_watermark(T0) == 1
        end(cluster, 1, commits=True)
        assert offsets(await read(consumer, 2)) == [1, 2]
        consumer.seek_to_end()
        assert await consumer.position(T0) == 4
    async with consumer_of(cluster) as consumer:
        assert await consumer.end_offsets([T0]) == {T0: 4}


async def test_records_of_an_aborted_batch_that_begins_below_the_position_do_not_count(cluster):
    in_transaction(cluster, 1, count=3)
    end(cluster, 1, commits=False)
    write(cluster, 2)
    async with consumer_of(cluster, isolation="read_committed") as consumer:
        consumer.assign([T0])
        consumer.seek(T0, 2)
        [batches] = await consumer.poll_batches(10_000)
        assert (batches.record_count, offsets(batches.records())) == (2, [4, 5])


async def test_a_damaged_marker_is_damage(cluster):
    in_transaction(cluster, 1)
    end(cluster, 1, commits=False)
    partition = cluster.partition("t", 0)
    _, data = partition.batches[1]
    builder = BatchBuilder()
    builder.append(b"", b"")
    damaged = builder.build(producer_id=1, producer_epoch=0, transactional=True, control=True)
    damaged = data[:16].replace(data[8:12], damaged[8:12]) + damaged[16:]
    partition.batches[1] = (parse_header(damaged), damaged)
    async with consumer_of(cluster, isolation="read_committed") as consumer:
        consumer.assign([T0])
        with pytest.raises(CorruptMessageError, match="t-0: the control batch at offset 1"):
            await consumer.poll(10_000)


def test_there_are_two_isolation_levels(cluster):
    with pytest.raises(UsageError, match="valid are read_uncommitted and read_committed"):
        consumer_of(cluster, isolation="serializable")
