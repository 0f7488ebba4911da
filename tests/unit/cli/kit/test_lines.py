"""Lines to records and back, output formats, times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka.cli.kit.lines import LineSplitter, OutputFormat, read_since, record_document
from minikafka.client.values import ConsumerRecord
from minikafka.errors import UsageError

RECORD = ConsumerRecord(
    "orders", 2, 41, 1_700_000_000_123, b"k", b"v\r", (("h", b"1"), ("i", None))
)


def split(*pieces: bytes) -> list[bytes]:
    splitter = LineSplitter()
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    return lines + splitter.finish()


@pytest.mark.parametrize(
    ("content", "records"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\n\n\nb", [b"a", b"", b"", b"b"]),
        (b"a\r\nb\r", [b"a\r", b"b\r"]),
        (b"\x00\xff\n", [b"\x00\xff"]),
    ],
)
def test_every_line_is_a_record_byte_for_byte(content: bytes, records: list[bytes]) -> None:
    assert split(content) == records


@given(st.lists(st.binary(max_size=20) | st.just(b"\n") | st.just(b"a\nb"), max_size=20))
def test_how_the_input_is_cut_into_pieces_makes_no_difference(pieces: list[bytes]) -> None:
    assert split(*pieces) == split(b"".join(pieces))


@given(st.binary(max_size=200))
def test_printing_the_records_gives_the_file_back_with_a_newline_at_the_end(content: bytes) -> None:
    printed = b"".join(line + b"\n" for line in split(content))
    whole = content if content.endswith(b"\n") or not content else content + b"\n"
    assert printed == whole


@pytest.mark.parametrize(
    ("template", "printed"),
    [
        ("%v", b"v\r\n"),
        ("%t %p %o %k %v", b"orders 2 41 k v\r\n"),
        ("%T|%h", b"1700000000123|h=1,i=\n"),
        (r"%o\t%v\n--", b"41\tv\r\n--\n"),
        (r"100%% \\", b"100% \\\n"),
        ("plain ü", "plain ü\n".encode()),
        ("", b"\n"),
    ],
)
def test_a_record_is_printed_as_the_format_says(template: str, printed: bytes) -> None:
    assert OutputFormat(template).render(RECORD) == printed


def test_no_key_and_no_value_print_as_nothing() -> None:
    record = RECORD._replace(key=None, value=None, headers=())
    assert OutputFormat("[%k][%v][%h]").render(record) == b"[][][]\n"


@pytest.mark.parametrize("template", ["%x", "50%", "\\q", "end\\"])
def test_an_unknown_letter_is_refused_with_the_known_ones(template: str) -> None:
    with pytest.raises(UsageError, match="means nothing: there are %t topic"):
        OutputFormat(template)


def test_the_document_of_a_record_has_text_where_it_is_text() -> None:
    assert record_document(RECORD._replace(value=b"\xff")) == {
        "topic": "orders",
        "partition": 2,
        "offset": 41,
        "timestamp_ms": 1_700_000_000_123,
        "key": "k",
        "value": {"base64": "/w=="},
        "headers": [["h", "1"], ["i", None]],
    }


NOW = datetime(2024, 5, 1, 12, 0, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("10m", NOW - timedelta(minutes=10)),
        ("30s", NOW - timedelta(seconds=30)),
        ("250ms", NOW - timedelta(milliseconds=250)),
        ("2h", NOW - timedelta(hours=2)),
        ("1d", NOW - timedelta(days=1)),
        ("2024-05-01T09:30:00Z", datetime(2024, 5, 1, 9, 30, tzinfo=UTC)),
        ("2024-05-01T09:30:00+05:00", datetime(2024, 5, 1, 4, 30, tzinfo=UTC)),
        ("2024-05-01 09:30", datetime(2024, 5, 1, 7, 30, tzinfo=UTC)),
        ("2024-05-01", datetime(2024, 4, 30, 22, 0, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_as_ago_or_as_iso_8601_and_is_local_without_a_zone(
    text: str, moment: datetime
) -> None:
    assert read_since(text, NOW) == int(moment.timestamp() * 1000)


@pytest.mark.parametrize("text", ["", "yesterday", "10x", "-5m", "2024-13-01"])
def test_what_is_no_time_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(UsageError, match="expected 30s, 10m, 2h or 1d"):
        read_since(text, NOW)
