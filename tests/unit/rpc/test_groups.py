"""rpc/groups.py and rpc/mirror.py: consumer groups over gRPC, field by field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka import errors
from minikafka.api import groups as requests
from minikafka.api.transactions import TxnOffsetCommitRequest
from minikafka.errors import (
    CoordinatorNotAvailableError,
    MemberIdRequiredError,
    MinikafkaError,
    NetworkError,
    UnknownServerError,
)
from minikafka.model import BrokerInfo, TopicPartition
from minikafka.rpc.groups import METHODS
from minikafka.rpc.mirror import from_wire, to_wire
from minikafka.rpc.unary import host_of
from tests.helpers.listeners import plaintext_at
from tests.unit.rpc.conftest import Loopback

INT32 = st.integers(-(2**31), 2**31 - 1)
ERRORS = st.builds(
    lambda kind, text: kind(text),
    st.sampled_from(sorted(errors._ERRORS.values(), key=lambda kind: kind.code)),
    st.text(min_size=1, max_size=5),
)
KNOWN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=5),
    bytes: st.binary(max_size=5),
    int: INT32,
    bool: st.booleans(),
    MinikafkaError: ERRORS,
    TopicPartition: st.builds(TopicPartition, st.text(max_size=5), INT32),
    BrokerInfo: st.just(BrokerInfo(1, "A", "host", 9, plaintext_at("h", 10), "r", "s", True, 7)),
}


def strategy(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type hint as they stand in the requests."""
    if hint in KNOWN:
        return KNOWN[hint]
    if type(None) in get_args(hint):
        [inner] = [each for each in get_args(hint) if each is not type(None)]
        return st.none() | strategy(inner)
    if get_origin(hint) is Sequence:
        return st.lists(strategy(get_args(hint)[0]), max_size=2).map(tuple)
    if get_origin(hint) is tuple:
        return st.tuples(*map(strategy, get_args(hint)))
    assert is_dataclass(hint), hint
    hints = get_type_hints(hint)
    return st.builds(hint, **{field.name: strategy(hints[field.name]) for field in fields(hint)})


def plain(value: Any) -> Any:
    """Comparable: errors have no equality of their own."""
    if isinstance(value, MinikafkaError):
        return type(value), str(value)
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    if is_dataclass(value):
        return type(value), [plain(getattr(value, field.name)) for field in fields(value)]
    return value


@pytest.mark.parametrize("name", METHODS)
def test_requests_and_results_come_back_as_they_went(name: str) -> None:
    kinds = METHODS[name]

    @given(strategy(kinds.request), strategy(kinds.result))
    def check(request: Any, result: Any) -> None:
        message = kinds.request_message.FromString(
            to_wire(request, kinds.request_message).SerializeToString()
        )
        assert plain(from_wire(message, kinds.request)) == plain(request)
        message = kinds.response_message.FromString(
            to_wire(result, kinds.response_message).SerializeToString()
        )
        assert plain(from_wire(message, kinds.result)) == plain(result)

    check()


class FakeGroups:
    """Gives `answer`, or raises it; keeps the request."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.request = answer, None

    def __getattr__(self, name: str) -> Any:
        async def call(request: Any) -> Any:
            self.request = request
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return call


async def test_a_join_carries_its_host_and_its_error_is_in_the_result(loopback: Loopback) -> None:
    await loopback.start()
    groups = FakeGroups(requests.JoinGroupResult(MemberIdRequiredError("again"), "m-1"))
    loopback.service.groups = groups  # type: ignore[attr-defined]
    request = requests.JoinGroupRequest(
        "g", "", "consumer", (requests.GroupProtocol("range", b"x"),), 10, 20, client_id="c"
    )
    result = await loopback.channel().groups.join_group(request)
    assert (type(result.error), result.member_id) == (MemberIdRequiredError, "m-1")
    assert groups.request is not None
    assert groups.request.client_host == "/127.0.0.1"
    assert groups.request.protocols == request.protocols


async def test_every_method_reaches_the_service(loopback: Loopback) -> None:
    await loopback.start()
    stub = loopback.channel().groups
    r = requests
    empty: dict[str, tuple[Any, Any]] = {
        "find_coordinator": (r.FindCoordinatorRequest(["g"]), r.FindCoordinatorResult(())),
        "sync_group": (r.SyncGroupRequest("g", 1, "m"), r.SyncGroupResult(None, b"a")),
        "heartbeat": (r.HeartbeatRequest("g", 1, "m"), r.HeartbeatResult(None)),
        "leave_group": (r.LeaveGroupRequest("g", ()), r.LeaveGroupResult(None)),
        "commit_offsets": (r.OffsetCommitRequest("g", ()), r.OffsetCommitResult(())),
        "commit_offsets_in_transaction": (
            TxnOffsetCommitRequest("t", 1, 0, "g", (), adds=True),
            r.OffsetCommitResult(()),
        ),
        "fetch_offsets": (r.OffsetFetchRequest(()), r.OffsetFetchResult(())),
        "delete_offsets": (r.OffsetDeleteRequest("g", ()), r.OffsetDeleteResult(None)),
        "describe_groups": (r.DescribeGroupsRequest(()), r.DescribeGroupsResult(())),
        "list_groups": (r.ListGroupsRequest(), r.ListGroupsResult(None)),
        "delete_groups": (r.DeleteGroupsRequest(()), r.DeleteGroupsResult(())),
    }
    for name, (request, result) in empty.items():
        loopback.service.groups = FakeGroups(result)  # type: ignore[attr-defined]
        assert await getattr(stub, name)(request) == result


async def test_a_request_that_fails_as_a_whole_raises_or_has_its_error_in_the_result(
    loopback: Loopback,
) -> None:
    await loopback.start()
    loopback.service.groups = FakeGroups(RuntimeError("a bug"))  # type: ignore[attr-defined]
    stub = loopback.channel().groups
    with pytest.raises(UnknownServerError):
        await stub.commit_offsets(requests.OffsetCommitRequest("g", ()))
    beat = await stub.heartbeat(requests.HeartbeatRequest("g", 1, "m"))
    assert isinstance(beat.error, UnknownServerError)
    loopback.service.groups = FakeGroups(CoordinatorNotAvailableError())  # type: ignore[attr-defined]
    with pytest.raises(CoordinatorNotAvailableError):
        await stub.delete_groups(requests.DeleteGroupsRequest(("g",)))


async def test_a_broker_that_is_not_there_is_a_network_error(
    loopback: Loopback, free_port: int
) -> None:
    stub = loopback.channel(f"127.0.0.1:{free_port}").groups
    with pytest.raises(NetworkError):
        await stub.heartbeat(requests.HeartbeatRequest("g", 1, "m"))


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.7:4711", "/10.0.0.7"),
        ("ipv6:%5B::1%5D:4711", "/::1"),
        ("ipv6:[::1]:4711", "/::1"),
        ("unix:/run/x", "unix:/run/x"),
    ],
)
def test_the_host_of_a_peer_is_written_as_kafka_does(peer: str, host: str) -> None:
    assert host_of(peer) == host
