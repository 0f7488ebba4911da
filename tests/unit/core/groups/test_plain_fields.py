import pytest

from minikafka.core.groups.plain_fields import (
    INT16,
    INT32,
    INT64,
    FieldReader,
    blob,
    optional_string,
    string,
)
from minikafka.errors import MessageTooLargeError


def test_fields_are_read_as_they_were_written():
    data = INT16.pack(-2) + INT32.pack(-3) + INT64.pack(2**40) + string("é") + blob(b"\xff")
    reader = FieldReader(data + optional_string(None) + optional_string("") + INT32.pack(-1))
    assert (reader.int16(), reader.int32(), reader.int64()) == (-2, -3, 2**40)
    assert (reader.string(), reader.blob()) == ("é", b"\xff")
    assert (reader.optional_string(), reader.optional_string()) == (None, "")
    assert not reader.at_end
    assert reader.blob() == b""
    assert reader.at_end


@pytest.mark.parametrize("data", [b"", b"\0\2a", INT16.pack(-1)])
def test_a_string_that_is_not_all_there_is_none(data: bytes):
    with pytest.raises(Exception, match=r"a length of|requires a buffer") as caught:
        FieldReader(data).string()
    assert type(caught.value).__name__ in ("error", "ValueError")


def test_a_text_that_is_longer_than_its_length_can_say_is_refused():
    assert len(string("x" * (2**15 - 1))) == 2**15 + 1
    with pytest.raises(MessageTooLargeError, match="a text of 32768 bytes"):
        string("x" * 2**15)
