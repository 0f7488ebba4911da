"""The client protocol: kazoo's own serializers are the other side."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kazoo.exceptions import BadVersionError, RolledBackError, RuntimeInconsistency
from kazoo.protocol import serialization as kazoo
from kazoo.protocol.states import ZnodeStat
from kazoo.security import ACL, Id

from minikafka.zookeeper.embedded import wire
from minikafka.zookeeper.embedded.jute import Malformed, Reader, pack_buffer, pack_int, pack_string
from minikafka.zookeeper.embedded.model import (
    Acl,
    AclResult,
    Check,
    ChildrenResult,
    CloseSession,
    Create,
    Created,
    DataResult,
    Delete,
    Done,
    ErrorCode,
    EventType,
    Exists,
    Failed,
    GetAcl,
    GetChildren,
    GetData,
    Multi,
    MultiResult,
    Request,
    Result,
    SetAcl,
    SetData,
    SetWatches,
    Stat,
    StatResult,
    Sync,
    SyncResult,
    Unsupported,
    WatchEvent,
)

STAT = Stat(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
KAZOO_ACL = [ACL(31, Id("world", "anyone")), ACL(1, Id("digest", "a:b"))]
OUR_ACL = (Acl(31, "world", "anyone"), Acl(1, "digest", "a:b"))

PAIRS = [
    (kazoo.Create("/ä", b"x", KAZOO_ACL, 3), Create("/ä", b"x", OUR_ACL, 3)),
    (kazoo.Create("/a", None, [], 0), Create("/a", None, (), 0)),
    (kazoo.Create2("/a", b"", KAZOO_ACL, 0), Create("/a", b"", OUR_ACL, 0, want_stat=True)),
    (kazoo.Delete("/a", 3), Delete("/a", 3)),
    (kazoo.Exists("/a", True), Exists("/a", True)),
    (kazoo.GetData("/a", None), GetData("/a", False)),
    (kazoo.SetData("/a", b"y", -1), SetData("/a", b"y", -1)),
    (kazoo.GetACL("/a"), GetAcl("/a")),
    (kazoo.SetACL("/a", KAZOO_ACL, 2), SetAcl("/a", OUR_ACL, 2)),
    (kazoo.GetChildren("/a", True), GetChildren("/a", True)),
    (kazoo.GetChildren2("/a", None), GetChildren("/a", False, want_stat=True)),
    (kazoo.Sync("/a"), Sync("/a")),
    (kazoo.CheckVersion("/a", 4), Check("/a", 4)),
    (
        kazoo.Transaction(
            [
                kazoo.CheckVersion("/a", 1),
                kazoo.Create("/b", b"", KAZOO_ACL, 0),
                kazoo.SetData("/c", b"z", 2),
                kazoo.Delete("/d", -1),
            ]
        ),
        Multi(
            (Check("/a", 1), Create("/b", b"", OUR_ACL, 0), SetData("/c", b"z", 2), Delete("/d"))
        ),
    ),
    (kazoo.Close(), CloseSession()),
    (kazoo.Reconfig("a", None, None, -1), Unsupported(16, ErrorCode.RECONFIG_DISABLED)),
    (kazoo.SASL(b""), Unsupported(102, ErrorCode.UNIMPLEMENTED)),
]


def frame_of(request: object) -> bytes:
    return struct.pack(">ii", 7, request.type) + bytes(request.serialize())  # type: ignore[attr-defined]


def body_of(message: bytes) -> tuple[kazoo.ReplyHeader, bytes]:
    assert int.from_bytes(message[:4], "big") == len(message) - 4
    header, offset = kazoo.ReplyHeader.deserialize(message[4:], 0)
    return header, message[4 + offset :]


@pytest.mark.parametrize(("theirs", "ours"), PAIRS, ids=lambda side: type(side).__name__)
def test_every_request_of_kazoo_is_understood(theirs: object, ours: Request) -> None:
    frame = frame_of(theirs)
    xid, opcode = wire.decode_header(frame)
    assert xid == 7
    assert wire.decode_request(opcode, frame) == ours


@pytest.mark.parametrize(("theirs", "_ours"), PAIRS[:-3], ids=lambda side: type(side).__name__)
def test_a_request_cut_anywhere_is_malformed(theirs: object, _ours: Request) -> None:
    frame = frame_of(theirs)
    _, opcode = wire.decode_header(frame)
    for end in range(8, len(frame)):
        with pytest.raises(Malformed):
            wire.decode_request(opcode, frame[:end])
    for end in range(8):
        with pytest.raises(Malformed):
            wire.decode_header(frame[:end])


@given(st.sampled_from((*range(-12, 24), 100, 101, 102, 107)), st.binary(max_size=60))
def test_no_bytes_do_worse_than_malformed(opcode: int, body: bytes) -> None:
    frame = struct.pack(">ii", 1, opcode) + body
    for decode in (
        lambda: wire.decode_request(opcode, frame),
        lambda: wire.decode_credentials(frame),
        lambda: wire.decode_connect(frame),
    ):
        with contextlib.suppress(Malformed):
            decode()


def test_set_watches_is_understood() -> None:
    def strings(*values: str) -> bytes:
        return pack_int(len(values)) + b"".join(map(pack_string, values))

    body = struct.pack(">q", 99) + strings("/a", "/b") + strings() + strings("/c")
    request = wire.decode_request(wire.OP_SET_WATCHES, struct.pack(">ii", -8, 101) + body)
    assert request == SetWatches(99, ("/a", "/b"), (), ("/c",))


def test_a_multi_holds_nothing_but_writes_and_checks() -> None:
    body = struct.pack(">iBi", wire.OP_GET_DATA, 0, -1) + pack_string("/a") + b"\x00"
    with pytest.raises(Malformed):
        wire.decode_request(wire.OP_MULTI, struct.pack(">ii", 1, 14) + body)


def test_text_that_is_not_utf8_is_malformed() -> None:
    with pytest.raises(Malformed):
        Reader(pack_buffer(b"\xff")).string()


@pytest.mark.parametrize("count", [-2, 1_000_000, 2**31 - 1])
def test_a_vector_longer_than_its_record_is_malformed(count: int) -> None:
    with pytest.raises(Malformed):
        Reader(pack_int(count) + b"1234").strings()


RESULTS = [
    (kazoo.GetData, GetData("/a"), DataResult(b"x", STAT), (b"x", ZnodeStat(*STAT))),
    (kazoo.GetData, GetData("/a"), DataResult(None, STAT), (None, ZnodeStat(*STAT))),
    (kazoo.Exists, Exists("/a"), StatResult(STAT), ZnodeStat(*STAT)),
    (kazoo.SetData, SetData("/a", b""), StatResult(STAT), ZnodeStat(*STAT)),
    (kazoo.Create, Create("/a"), Created("/ä", STAT), "/ä"),
    (
        kazoo.Create2,
        Create("/a", want_stat=True),
        Created("/a", STAT),
        ("/a", ZnodeStat(*STAT)),
    ),
    (kazoo.GetChildren, GetChildren("/a"), ChildrenResult(("b", "c"), STAT), ["b", "c"]),
    (
        kazoo.GetChildren2,
        GetChildren("/a", want_stat=True),
        ChildrenResult((), STAT),
        ([], ZnodeStat(*STAT)),
    ),
    (kazoo.GetACL, GetAcl("/a"), AclResult(OUR_ACL, STAT), (KAZOO_ACL, ZnodeStat(*STAT))),
    (kazoo.Sync, Sync("/a"), SyncResult("/a"), "/a"),
    (kazoo.Delete, Delete("/a"), Done(), True),
]


@pytest.mark.parametrize(("reader", "request_", "result", "read"), RESULTS)
def test_kazoo_reads_every_result(
    reader: type, request_: Request, result: Result, read: object
) -> None:
    header, body = body_of(wire.encode_reply(5, 77, request_, result))
    assert header == (5, 77, 0)
    assert reader.deserialize(body, 0) == read  # type: ignore[attr-defined]


def test_kazoo_reads_the_results_of_a_multi() -> None:
    multi = Multi((Create("/a"), SetData("/a", b""), Check("/a", 1), Delete("/a")))
    result = MultiResult((Created("/a", STAT), StatResult(STAT), Done(), Done()))
    header, body = body_of(wire.encode_reply(5, 77, multi, result))
    assert header.err == 0
    assert kazoo.Transaction.deserialize(body, 0) == ["/a", ZnodeStat(*STAT), True, True]


def test_kazoo_reads_the_errors_of_a_failed_multi() -> None:
    multi = Multi((Create("/a"), Check("/a", 1), Delete("/a")))
    codes = (ErrorCode.OK, ErrorCode.BAD_VERSION, ErrorCode.RUNTIME_INCONSISTENCY)
    result = MultiResult(tuple(Failed(code) for code in codes))
    header, body = body_of(wire.encode_reply(5, 77, multi, result))
    assert header.err == 0
    told = [type(error) for error in kazoo.Transaction.deserialize(body, 0)]
    assert told == [RolledBackError, BadVersionError, RuntimeInconsistency]


def test_an_error_is_a_header_and_nothing_else() -> None:
    header, body = body_of(wire.encode_reply(5, 77, Delete("/a"), Failed(ErrorCode.NO_NODE)))
    assert header == (5, 77, -101)
    assert body == b""


def test_kazoo_reads_a_watch_event() -> None:
    event = WatchEvent(1, EventType.NODE_CHILDREN_CHANGED, "/ä")
    header, body = body_of(wire.encode_event(event))
    assert header == (-1, -1, 0)
    assert kazoo.Watch.deserialize(body, 0)[0] == (4, 3, "/ä")


@pytest.mark.parametrize("read_only", [True, False])
def test_the_handshake_of_kazoo_is_understood_and_answered(read_only: bool) -> None:
    request = wire.decode_connect(
        bytes(kazoo.Connect(0, 5, 10_000, 77, b"p" * 16, read_only).serialize())
    )
    assert request == (0, 5, 10_000, 77, b"p" * 16, True)
    message = wire.encode_connected(4_000, 99, b"q" * 16, knows_read_only=True)
    response, end = kazoo.Connect.deserialize(message[4:], 0)
    assert end == len(message) - 4
    assert response == (0, 0, 4_000, 99, b"q" * 16, False)


def test_a_client_before_read_only_mode_gets_an_answer_without_it() -> None:
    request = bytes(kazoo.Connect(0, 5, 10_000, 77, b"p" * 16, False).serialize())[:-1]
    assert not wire.decode_connect(request).knows_read_only
    short = wire.encode_connected(4_000, 99, b"q" * 16, knows_read_only=False)
    assert len(short) == len(wire.encode_connected(4_000, 99, b"q" * 16, knows_read_only=True)) - 1


def test_credentials_are_understood() -> None:
    frame = frame_of(kazoo.Auth(0, "digest", "joe:pw"))
    assert wire.decode_credentials(frame) == ("digest", b"joe:pw")


# --- frames --------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=20), max_size=6), st.lists(st.integers(1, 9), max_size=60))
def test_frames_come_out_whole_however_the_bytes_arrive(
    frames: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(pack_buffer(frame) for frame in frames)
    buffer, seen = wire.FrameBuffer(max_frame_bytes=20), []
    for size in [*cuts, len(stream)]:
        buffer.feed(stream[:size])
        stream = stream[size:]
        while (frame := buffer.next_frame()) is not None:
            seen.append(frame)
    assert seen == frames


@pytest.mark.parametrize("length", [21, 2**31 - 1, -1, -(2**31)])
def test_a_frame_beyond_the_bound_is_malformed_before_it_is_read(length: int) -> None:
    buffer = wire.FrameBuffer(max_frame_bytes=20)
    buffer.feed(pack_int(length))
    with pytest.raises(Malformed):
        buffer.next_frame()


def test_the_largest_frame_passes() -> None:
    buffer = wire.FrameBuffer(max_frame_bytes=20)
    buffer.feed(pack_buffer(b"x" * 20))
    assert buffer.next_frame() == b"x" * 20
