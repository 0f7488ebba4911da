"""librdkafka without Python between: the library that confluent-kafka ships, called by ctypes.

confluent-kafka makes a Python object of each record and calls back for each acknowledgement, about
four microseconds of CPU a record. With 100-byte records on two cores a benchmark would measure
that. Here a thousand records are handed over by one call, and acknowledgements are counted by the
batch. Only what the loads (load.py) need is declared.
"""

from __future__ import annotations

import ctypes
import random
import time
from collections.abc import Callable, Mapping
from ctypes import POINTER, c_char_p, c_int, c_int32, c_int64, c_size_t, c_ssize_t, c_void_p
from pathlib import Path

import confluent_kafka

from benchmarks.kafka.system import FailedError

_PRODUCER, _CONSUMER = 0, 1
_EVENT_DELIVERY, _EVENT_ERROR = 0x1, 0x8
_COPY, _QUEUE_FULL = 0x2, -184
_ALL_BROKERS_DOWN = -187
FROM_BEGINNING, FROM_END = -2, -1
_ERROR_TEXT_BYTES = 512
_NO_LEADER = (5, 6)  # LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER
_LEADER_TIMEOUT_S = 15.0
_LEADER_PAUSE_S = 0.05
DRAIN_TIMEOUT_S = 60.0
_TRANSACTION_TIMEOUT_MS = 60_000


class Message(ctypes.Structure):
    """rd_kafka_message_t."""

    _fields_ = [
        ("err", c_int),
        ("topic", c_void_p),
        ("partition", c_int32),
        ("payload", c_void_p),
        ("size", c_size_t),
        ("key", c_void_p),
        ("key_size", c_size_t),
        ("offset", c_int64),
        ("private", c_void_p),
    ]


def batch_of(
    pool: ctypes.Array[ctypes.c_char], size: int, count: int, seed: int
) -> ctypes.Array[Message]:
    """Records whose payloads lie in the pool, anywhere."""
    chance = random.Random(seed)
    messages = (Message * count)()
    start = ctypes.addressof(pool)
    for message in messages:
        message.payload = start + chance.randrange(len(pool) - size)
        message.size = size
    return messages


def _load() -> ctypes.CDLL:
    folder = Path(confluent_kafka.__file__).parent
    bundled = sorted(folder.parent.glob("confluent_kafka.libs/librdkafka*.so*"))
    if not bundled:
        raise FailedError(
            f"there is no librdkafka beside {folder}: install confluent-kafka's wheel"
        )
    library = ctypes.CDLL(str(bundled[0]))
    handle = c_void_p
    signatures = {
        "conf_new": (handle, []),
        "conf_set": (c_int, [handle, c_char_p, c_char_p, c_char_p, c_size_t]),
        "conf_set_events": (None, [handle, c_int]),
        "new": (handle, [c_int, handle, c_char_p, c_size_t]),
        "topic_new": (handle, [handle, c_char_p, handle]),
        "topic_destroy": (None, [handle]),
        "destroy": (None, [handle]),
        "outq_len": (c_int, [handle]),
        "err2str": (c_char_p, [c_int]),
        "produce_batch": (c_int, [handle, c_int32, c_int, POINTER(Message), c_int]),
        "queue_get_main": (handle, [handle]),
        "queue_new": (handle, [handle]),
        "queue_destroy": (None, [handle]),
        "queue_poll": (handle, [handle, c_int]),
        "event_type": (c_int, [handle]),
        "event_error": (c_int, [handle]),
        "event_error_string": (c_char_p, [handle]),
        "event_message_next": (POINTER(Message), [handle]),
        "event_message_count": (c_size_t, [handle]),
        "event_destroy": (None, [handle]),
        "consume_start_queue": (c_int, [handle, c_int32, c_int64, handle]),
        "consume_stop": (c_int, [handle, c_int32]),
        "consume_queue": (POINTER(Message), [handle, c_int]),
        "consume_batch_queue": (c_ssize_t, [handle, c_int, POINTER(POINTER(Message)), c_size_t]),
        "message_destroy": (None, [POINTER(Message)]),
        "init_transactions": (handle, [handle, c_int]),
        "begin_transaction": (handle, [handle]),
        "commit_transaction": (handle, [handle, c_int]),
        "abort_transaction": (handle, [handle, c_int]),
        "error_string": (c_char_p, [handle]),
        "error_destroy": (None, [handle]),
        "query_watermark_offsets": (
            c_int,
            [handle, c_char_p, c_int32, POINTER(c_int64), POINTER(c_int64), c_int],
        ),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return library


_library = _load()


class _Client:
    def __init__(self, kind: int, topic: str, settings: Mapping[str, str]) -> None:
        text = ctypes.create_string_buffer(_ERROR_TEXT_BYTES)
        configuration = _library.rd_kafka_conf_new()
        for name, value in settings.items():
            setting = (configuration, name.encode(), value.encode())
            if _library.rd_kafka_conf_set(*setting, text, _ERROR_TEXT_BYTES) != 0:
                raise FailedError(text.value.decode())
        _library.rd_kafka_conf_set_events(configuration, _EVENT_DELIVERY | _EVENT_ERROR)
        self._handle = _library.rd_kafka_new(kind, configuration, text, _ERROR_TEXT_BYTES)
        if not self._handle:
            raise FailedError(text.value.decode())
        self._name = topic.encode()
        self._topic = _library.rd_kafka_topic_new(self._handle, self._name, None)
        self._main = _library.rd_kafka_queue_get_main(self._handle)

    def end_offset(self, partition: int) -> int:
        """The high watermark, as the leader says now; a broker that is not leader yet, although all
        say that it is, is asked again."""
        low, high = c_int64(), c_int64()
        ends = (ctypes.byref(low), ctypes.byref(high))
        deadline = time.monotonic() + _LEADER_TIMEOUT_S
        while True:
            error = _library.rd_kafka_query_watermark_offsets(
                self._handle, self._name, partition, *ends, 10_000
            )
            if error not in _NO_LEADER or time.monotonic() > deadline:
                _check(error)
                return high.value
            time.sleep(_LEADER_PAUSE_S)

    def close(self) -> None:
        _library.rd_kafka_queue_destroy(self._main)
        _library.rd_kafka_topic_destroy(self._topic)
        _library.rd_kafka_destroy(self._handle)


class Producer(_Client):
    """Counts acknowledged records in `acknowledged`; raises FailedError if one fails."""

    def __init__(self, topic: str, settings: Mapping[str, str]) -> None:
        super().__init__(_PRODUCER, topic, settings)
        self.acknowledged = 0

    def send(self, messages: ctypes.Array[Message], partition: int, *, copy: bool = False) -> int:
        """Hand over as many as the queue takes, from the first on; returns how many. Without
        `copy` the payloads must stay as they are until acknowledged."""
        flags = _COPY if copy else 0
        size = len(messages)
        taken = int(_library.rd_kafka_produce_batch(self._topic, partition, flags, messages, size))
        if taken < size:
            errors = {message.err for message in messages if message.err} - {_QUEUE_FULL}
            _check(*errors)
        return taken

    def poll(self, timeout_ms: int = 0) -> None:
        """Count the acknowledgements that are there, waiting for the first."""
        while event := _library.rd_kafka_queue_poll(self._main, timeout_ms):
            timeout_ms = 0
            if _library.rd_kafka_event_type(event) == _EVENT_DELIVERY:
                count = int(_library.rd_kafka_event_message_count(event))
                # All records of one event share their fate.
                _check(_library.rd_kafka_event_message_next(event).contents.err)
                self.acknowledged += count
            _library.rd_kafka_event_destroy(event)

    def wait_for(self, sent: int) -> None:
        """Until so many records are acknowledged; FailedError if that takes too long."""
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        while self.acknowledged < sent:
            if time.monotonic() > deadline:
                raise FailedError(f"{self.acknowledged} of {sent} records were acknowledged")
            self.poll(20)

    @property
    def pending(self) -> int:
        return int(_library.rd_kafka_outq_len(self._handle))


class TransactionalProducer(Producer):
    """With `transactional.id` among its settings. Whoever ends a transaction waits for the
    acknowledgement of all records first (`poll`): an abort would take back what was not sent."""

    def init(self) -> None:
        self._ask(_library.rd_kafka_init_transactions, _TRANSACTION_TIMEOUT_MS)

    def begin(self) -> None:
        self._ask(_library.rd_kafka_begin_transaction)

    def commit(self) -> None:
        self._ask(_library.rd_kafka_commit_transaction, _TRANSACTION_TIMEOUT_MS)

    def abort(self) -> None:
        self._ask(_library.rd_kafka_abort_transaction, _TRANSACTION_TIMEOUT_MS)

    def _ask(self, function: Callable[..., int | None], *arguments: int) -> None:
        error = function(self._handle, *arguments)
        if error:
            text = _library.rd_kafka_error_string(error).decode()
            _library.rd_kafka_error_destroy(error)
            raise FailedError(text)


class Consumer(_Client):
    """Reads partitions 0..n-1 of a topic, all in one queue."""

    def __init__(self, topic: str, settings: Mapping[str, str], batch: int = 10_000) -> None:
        super().__init__(_CONSUMER, topic, settings)
        self._queue = _library.rd_kafka_queue_new(self._handle)
        self._batch = (POINTER(Message) * batch)()
        self._partitions: list[int] = []

    def start(self, partitions: int, offset: int) -> None:
        for partition in range(partitions):
            start = (self._topic, partition, offset, self._queue)
            if _library.rd_kafka_consume_start_queue(*start) != 0:
                raise FailedError(f"cannot read partition {partition}")
            self._partitions.append(partition)

    def stop(self) -> None:
        for partition in self._partitions:
            _library.rd_kafka_consume_stop(self._topic, partition)
        self._partitions = []

    def read(self, timeout_ms: int) -> int:
        """How many records came, until a batch is full or the time is over."""
        size = len(self._batch)
        count = int(
            _library.rd_kafka_consume_batch_queue(self._queue, timeout_ms, self._batch, size)
        )
        destroy = _library.rd_kafka_message_destroy
        for index in range(count):
            destroy(self._batch[index])
        if count > 0 and self._batch[0]:
            return count
        return 0

    def read_one(self, timeout_ms: int, size: int) -> bytes | None:
        """The first `size` bytes of the next record; None if there was none in that time."""
        message = _library.rd_kafka_consume_queue(self._queue, timeout_ms)
        if not message:
            return None
        try:
            _check(message.contents.err)
            return ctypes.string_at(message.contents.payload, size)
        finally:
            _library.rd_kafka_message_destroy(message)

    def close(self) -> None:
        self.stop()
        _library.rd_kafka_queue_destroy(self._queue)
        super().close()


def _check(*errors: int) -> None:
    for error in errors:
        if error:
            raise FailedError(_library.rd_kafka_err2str(error).decode())
