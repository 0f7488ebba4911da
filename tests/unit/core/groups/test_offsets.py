"""core/groups/offsets.py by itself: what is committed, on its way, and forgotten. What a group
makes of it is in test_group.py."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from minikafka.api.groups import OffsetCommitPartition
from minikafka.core.groups.effects import Append, GroupRecord, Now, OffsetRecord, Reply
from minikafka.core.groups.offsets import ForgetWrite, GroupOffsets, OffsetsWrite
from minikafka.core.groups.outgoing import Outgoing
from minikafka.errors import (
    GroupSubscribedToTopicError,
    IllegalGenerationError,
    NotCoordinatorError,
    OffsetMetadataTooLargeError,
)
from minikafka.model import TopicPartition
from tests.helpers.amounts import amount

NOW = Now(0, 100)
A, B = TopicPartition("a", 0), TopicPartition("b", 0)


def partition(of: TopicPartition, offset: int, metadata: str = "") -> OffsetCommitPartition:
    return OffsetCommitPartition(of, offset, -1, metadata)


def test_of_a_commit_that_fails_in_part_the_rest_is_written_and_all_is_answered_at_once() -> None:
    outgoing = Outgoing()
    offsets = GroupOffsets("g", outgoing)
    offsets.commit([partition(A, 1), partition(B, 2, "too long")], 3, "token", NOW)
    [append] = outgoing.take()
    assert isinstance(append, Append)
    assert isinstance(append.write, OffsetsWrite)
    assert [record.group_id for record in append.records] == ["g"]
    assert (offsets.pending, offsets.committed) == (Counter([A]), {})
    offsets.on_committed(append.write, NotCoordinatorError("moved"), -1)
    [reply] = outgoing.take()
    assert isinstance(reply, Reply)
    assert [type(each.error) for each in reply.result.partitions] == [
        NotCoordinatorError,
        OffsetMetadataTooLargeError,
    ]
    assert not offsets


def test_a_commit_that_is_refused_writes_nothing() -> None:
    outgoing = Outgoing()
    offsets = GroupOffsets("g", outgoing)
    error = IllegalGenerationError("an old one")
    offsets.refuse_commit([partition(A, 1), partition(B, 2)], error, "token")
    [reply] = outgoing.take()
    assert [each.error for each in reply.result.partitions] == [error, error]
    assert not offsets


def test_what_is_read_is_kept_and_what_is_deleted_goes_once_that_is_stored() -> None:
    outgoing = Outgoing()
    offsets = GroupOffsets("g", outgoing)
    offsets.commit([partition(A, 1), partition(B, 2)], 0, None, NOW)
    [append] = outgoing.take()
    offsets.on_committed(append.write, None, 0)
    outgoing.take()
    offsets.delete([A, B], lambda topic: topic == "a", "token")
    [append] = outgoing.take()
    assert append.records == (OffsetRecord("g", B, None),)
    assert isinstance(append.write, ForgetWrite)
    assert offsets.committed.keys() == {A, B}
    offsets.on_forgotten(append.write, None, 2)
    [reply] = outgoing.take()
    kept, gone = reply.result.partitions
    assert (type(kept.error), gone.error) == (GroupSubscribedToTopicError, None)
    assert offsets.committed.keys() == {A}


def test_with_all_offsets_go_those_that_are_on_their_way_and_the_end_is_the_last_record() -> None:
    outgoing = Outgoing()
    offsets = GroupOffsets("g", outgoing)
    end = GroupRecord("g", None)
    offsets.forget_all(end, "nothing there")
    offsets.commit([partition(B, 1)], 0, None, NOW)
    offsets.forget_all(end, "one on its way")
    nothing, _, one = outgoing.take()
    assert nothing == Append((end,), "nothing there")
    assert one == Append((OffsetRecord("g", B, None), end), "one on its way")


@settings(max_examples=amount(100), deadline=None)
@given(st.integers(0, 2**32))
def test_offsets_are_what_the_log_says_in_whatever_order_writes_are_asked_for(seed: int) -> None:
    """The twin keeps what a coordinator would find that reads the log from the beginning."""
    dice, outgoing = Random(seed), Outgoing()
    offsets = GroupOffsets("g", outgoing)
    unwritten: list[Append] = []
    end = 0
    log: dict[TopicPartition, int] = {}
    partitions = [TopicPartition(topic, 0) for topic in "abc"]
    for number in range(60):
        chosen = [each for each in partitions if dice.random() < 0.5]
        event = dice.choice(["commit", "commit", "delete", "forget", "written", "written", "fail"])
        if event == "commit":
            offsets.commit([partition(each, number) for each in chosen], 0, None, NOW)
        elif event == "delete":
            offsets.delete(chosen, lambda _: False, None)
        elif event == "forget":
            offsets.forget(chosen)
        elif unwritten:
            append = unwritten.pop(0)
            error = NotCoordinatorError("moved") if event == "fail" else None
            for record in append.records if error is None else ():
                assert isinstance(record, OffsetRecord)
                if record.value is None:
                    log.pop(record.topic_partition, None)
                else:
                    log[record.topic_partition] = record.value.offset
            if isinstance(append.write, OffsetsWrite):
                offsets.on_committed(append.write, error, end)
            else:
                assert isinstance(append.write, ForgetWrite)
                offsets.on_forgotten(append.write, error, end)
            end += len(append.records)
        unwritten += [each for each in outgoing.take() if isinstance(each, Append)]
        assert {each: value.offset for each, value in offsets.committed.items()} == log
        waiting = [each.write for each in unwritten if isinstance(each.write, OffsetsWrite)]
        assert offsets.pending == Counter(each for write in waiting for each in write.offsets)
