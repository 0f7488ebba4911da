"""What a failure does to one log: it is fenced, or the call counts for nothing and may be repeated.

Any exception counts, not only those of the disk: when a write was under way, nobody knows what of
it is in the file. Three kinds:

- *shortage*: the process has too few file descriptors or too little memory at this moment. Where
  nothing has been changed yet, that says nothing about the log: ResourceShortageError, try again;
- a failed read by a bug: UnknownServerError. The log is as it was, and its other replicas would
  meet the same bug, so nobody is fenced for it;
- all else: the log is *fenced*, it takes no more records until it is opened anew (KAFKA-10778).

State of a `Fence`: why the log was fenced, if it was; whether its file may hold other bytes than
were appended.
"""

from __future__ import annotations

import errno
import logging
from typing import NoReturn

from minikafka.errors import (
    KafkaStorageError,
    MinikafkaError,
    ResourceShortageError,
    UnknownServerError,
)
from minikafka.model import TopicPartition

_SHORTAGES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
_logger = logging.getLogger("minikafka.log")


class HalfDoneError(Exception):
    """Something failed half-way, and could not be undone either."""


def is_shortage(error: BaseException) -> bool:
    """Is it the process that lacks something, and not the disk that fails?"""
    if isinstance(error, OSError):
        return error.errno in _SHORTAGES
    return isinstance(error, MemoryError | ResourceShortageError)


def describe(error: BaseException) -> str:
    """`str(error)` for what systems and checks say; with its type where that is the news."""
    if isinstance(error, OSError | MinikafkaError | HalfDoneError) and str(error):
        return str(error)
    return repr(error)


class Fence:
    """See the module."""

    __slots__ = ("_directory", "_fenced", "_topic_partition", "intact", "reason")

    def __init__(
        self, topic_partition: TopicPartition, directory: str, fenced: dict[TopicPartition, str]
    ) -> None:
        """`fenced`: where it is noted if the log is."""
        self._topic_partition = topic_partition
        self._directory = directory
        self._fenced = fenced
        self.reason: str | None = None
        self.intact = True  # False: the file may hold other bytes than were appended

    def check(self) -> None:
        """KafkaStorageError if the log is fenced."""
        if self.reason is not None:
            raise KafkaStorageError(self.reason)

    def close(self, action: str, error: Exception) -> NoReturn:
        """Refuse everything that writes from now on, and say why. Raises KafkaStorageError."""
        message = (
            f"{action} of {self._topic_partition} in {self._directory} failed: {describe(error)}; "
            "this replica takes no records until the broker is restarted with a working disk"
        )
        if self.reason is None:
            self.reason = self._fenced[self._topic_partition] = message
            is_bug = not isinstance(error, OSError | MinikafkaError)
            _logger.error("%s", message, exc_info=error if is_bug else None)
        raise KafkaStorageError(message) from error

    def on_untouched(self, action: str, error: Exception) -> NoReturn:
        """A call failed before it changed anything: ResourceShortageError, or fenced."""
        if is_shortage(error):
            raise self._shortage(action, error) from error
        self.close(action, error)

    def on_read_failed(self, action: str, error: Exception) -> NoReturn:
        """A call failed that changes nothing. Only a disk that fails fences the log."""
        if is_shortage(error):
            raise self._shortage(action, error) from error
        if isinstance(error, OSError):
            self.close(action, error)
        if isinstance(error, MinikafkaError):
            raise error
        message = f"{action} of {self._topic_partition} failed: {describe(error)}"
        _logger.error("%s", message, exc_info=error)
        raise UnknownServerError(message) from error

    def _shortage(self, action: str, error: Exception) -> ResourceShortageError:
        return ResourceShortageError(
            f"{action} of {self._topic_partition} is not possible now: {describe(error)}; "
            "nothing was changed, it may be tried again"
        )
