"""Lines of bytes and the records that they stand for. Pure.

A record is what stands before a newline (0x0A), byte for byte: a carriage return belongs to it, an
empty line is an empty record. What follows the last newline is a record too unless it is empty, so
that a file comes back from `consume` as it was, with a newline at the end if it had none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from minikafka.errors import UsageError
from minikafka.escaping import escaped_lines
from minikafka.watching.text import text_or_base64

if TYPE_CHECKING:
    from minikafka.client.values import ConsumerRecord

VALUES = "%v"

# What is done with bytes of a record before they are printed.
Clean = Callable[[bytes], bytes]


def as_they_are(data: bytes) -> bytes:
    return data


def for_a_terminal(data: bytes) -> bytes:
    """Text with its newlines and tabs, but nothing else that a terminal would obey; bytes that are
    no UTF-8 as \\x9b."""
    text = data.decode(errors="backslashreplace")
    return b"\t".join(escaped_lines(part).encode() for part in text.split("\t"))


class LineSplitter:
    """Cuts a stream that arrives in pieces. State: the beginning of a line that is not over."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that this piece ends, without their newlines."""
        *lines, rest = piece.split(b"\n")
        if lines and self._begun:
            lines[0] = b"".join([*self._begun, lines[0]])
            self._begun = []
        if rest:
            self._begun.append(rest)
        return lines

    def finish(self) -> list[bytes]:
        """What stood after the last newline."""
        rest, self._begun = b"".join(self._begun), []
        return [rest] if rest else []


class OutputFormat:
    """How `consume --output` prints a record: text with %-letters, newline at the end.

    %t topic, %p partition, %o offset, %k key, %v value, %T timestamp (milliseconds since 1970), %h
    headers as name=value,... and %% a per cent sign; \\n, \\t, \\r, \\0 and \\\\ as in C. No key or
    no value print as nothing.
    """

    _TOKEN = re.compile(r"%(.?)|\\(.?)", re.DOTALL)
    _ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\"}
    _LETTERS = "tpokvTh"

    def __init__(self, template: str) -> None:
        """Raises UsageError for a letter or an escape that does not exist."""
        self.values_only = template == VALUES
        self._parts: list[bytes | str] = []
        begin = 0
        for token in self._TOKEN.finditer(template):
            self._add(template[begin : token.start()].encode())
            begin = token.end()
            letter, escape = token.groups()
            if letter == "%":
                self._add(b"%")
            elif letter is not None and letter in self._LETTERS and letter:
                self._parts.append(letter)
            elif escape is not None and escape in self._ESCAPES:
                self._add(self._ESCAPES[escape])
            else:
                raise UsageError(
                    f"--output: {token[0]!r} means nothing: there are %t topic, %p partition, "
                    "%o offset, %k key, %v value, %T timestamp, %h headers, %% and \\n \\t \\r \\0"
                )
        self._add(template[begin:].encode())

    def _add(self, literal: bytes) -> None:
        if literal:
            self._parts.append(literal)

    def render(self, record: ConsumerRecord, clean: Clean = as_they_are) -> bytes:
        """`clean` is for what others wrote, not for the text of the template."""
        pieces = [
            part if isinstance(part, bytes) else clean(_field(part, record)) for part in self._parts
        ]
        return b"".join(pieces) + b"\n"


def _field(letter: str, record: ConsumerRecord) -> bytes:
    match letter:
        case "t":
            return record.topic.encode()
        case "p":
            return b"%d" % record.partition
        case "o":
            return b"%d" % record.offset
        case "k":
            return record.key or b""
        case "v":
            return record.value or b""
        case "T":
            return b"%d" % record.timestamp_ms
        case _:
            return b",".join(
                name.encode() + b"=" + (value or b"") for name, value in record.headers
            )


def record_document(record: ConsumerRecord) -> dict[str, Any]:
    """The JSON document of a record. Bytes that are no UTF-8 come as {"base64": "..."}."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": text_or_base64(record.key),
        "value": text_or_base64(record.value),
        "headers": [[name, text_or_base64(value)] for name, value in record.headers],
    }


_AGO = re.compile(r"([0-9]{1,9})\s*(ms|s|m|min|h|d)", re.IGNORECASE)
_UNIT_S = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def read_since(text: str, now: datetime, option: str = "--since") -> int:
    """`10m` (ago) or an ISO 8601 time, as milliseconds since 1970. `now` has a time zone; a time
    without one is local, as `now`'s zone says. Raises UsageError."""
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        return _epoch_ms(now - timedelta(seconds=int(ago[1]) * _UNIT_S[ago[2].lower()]))
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"{option} {text!r} is no time: expected 30s, 10m, 2h or 1d (ago), or an ISO 8601 time "
            "such as 2024-05-01T12:30:00 (local) or 2024-05-01T12:30:00Z"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=now.tzinfo)
    return _epoch_ms(moment)


def _epoch_ms(moment: datetime) -> int:
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))
