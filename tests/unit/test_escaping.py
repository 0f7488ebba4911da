"""What others have put into names and values moves no cursor and forges no line."""

from __future__ import annotations

import json
import sys
import unicodedata

import click
import pytest
from click.testing import CliRunner

from minikafka.cli.kit import output
from minikafka.cli.kit.lazy import RootGroup
from minikafka.cli.kit.lines import OutputFormat, as_they_are, for_a_terminal
from minikafka.cli.kit.screen import PlainScreen
from minikafka.cli.looking.zk import printable
from minikafka.client.values import ConsumerRecord
from minikafka.errors import MinikafkaError, UsageError
from minikafka.escaping import escaped, escaped_json, escaped_lines
from minikafka.local import telling

NASTY = "a\x1b[2Jb\r\nc\td\x07\x9b31m\u202egnp\udc80"
SHOWN = r"a\x1b[2Jb\r\nc\td\x07\x9b31m\u202egnp\udc80"


def test_a_name_is_one_line_without_anything_that_a_terminal_obeys() -> None:
    assert escaped(NASTY) == SHOWN
    assert escaped("Zürich 東京 🙂 a\\n") == "Zürich 東京 🙂 a\\n"


def test_no_control_character_is_left_whatever_its_number() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    kept = [each for each in escaped(every) if unicodedata.category(each) in ("Cc", "Cs")]
    assert kept == []
    marks = {"\u200e", "\u200f", *map(chr, range(0x2028, 0x202F)), *map(chr, range(0x2066, 0x206A))}
    assert not marks & set(escaped(every))


def test_a_message_keeps_its_lines() -> None:
    assert escaped_lines("one\n\x1b[1mtwo\r\n") == "one\n\\x1b[1mtwo\\r\n"


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_document_stays_the_same_document(indent: int | None) -> None:
    document = {NASTY: [NASTY, 1, None]}
    text = escaped_json(json.dumps(document, ensure_ascii=False, indent=indent))
    assert json.loads(text) == document
    assert escaped_lines(text) == text
    text.encode()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    return capsys


def test_all_that_commands_print_goes_that_way(said: pytest.CaptureFixture[str]) -> None:
    output.print_table(("group", "lag"), [(NASTY, 1), ("b", 22)], title=f"of {NASTY}")
    output.say(f"group {NASTY} deleted")
    output.print_json({"group": NASTY})
    output.print_json_line({"group": NASTY})
    PlainScreen().event(NASTY)
    telling.tell(f"remark {NASTY}")
    out, err = said.readouterr()
    for text in (out, err):
        assert escaped_lines(text) == text
        assert "\\x1b" in text or "\\u001b" in text
    table = out.splitlines()[:4]
    assert table == [
        f"of {SHOWN}",
        f"{'GROUP'.ljust(len(SHOWN))}  LAG",
        f"{SHOWN}    1",
        f"{'b'.ljust(len(SHOWN))}   22",
    ]


@pytest.mark.parametrize("kind", [MinikafkaError, UsageError])
def test_an_error_quotes_what_a_broker_said_without_obeying_it(kind: type[MinikafkaError]) -> None:
    @click.group(cls=RootGroup, lazy={})
    def cli() -> None: ...

    @cli.command("fails")
    def fails() -> None:
        raise kind(f"the broker says {NASTY}")

    RootGroup.get_command, original = (lambda *_: fails), RootGroup.get_command  # type: ignore[method-assign,assignment]
    try:
        result = CliRunner().invoke(cli, ["fails"])
    finally:
        RootGroup.get_command = original  # type: ignore[method-assign]
    assert result.exit_code == (2 if kind is UsageError else 1)
    assert "\\x1b[2J" in result.output
    assert "\x1b" not in result.output


def test_data_of_a_znode_are_shown_as_text_or_in_the_notation_of_python() -> None:
    assert printable(b"a\x1b\n") == r"a\x1b\n"
    assert printable(b'{\n "a": 1\n}', escaped_lines) == '{\n "a": 1\n}'
    assert printable(b"\xff\x1b") == r"b'\xff\x1b'"


RECORD = ConsumerRecord("t", 0, 7, 1, b"k\x1b", b"v\x1b[2J\xff\n\t\xc2\x9b", (("h", b"\x07"),))


def test_a_record_goes_into_a_pipe_as_it_is_and_to_a_terminal_escaped() -> None:
    form = OutputFormat("\x1b[1m%k\\t%v %h")
    assert form.render(RECORD) == b"\x1b[1mk\x1b\tv\x1b[2J\xff\n\t\xc2\x9b h=\x07\n"
    assert form.render(RECORD, as_they_are) == form.render(RECORD)
    assert form.render(RECORD, for_a_terminal) == (
        b"\x1b[1mk\\x1b\tv\\x1b[2J\\xff\n\t\\x9b h=\\x07\n"
    )
