"""Codecs: round trips, the formats that Java clients need, hostile input."""

from __future__ import annotations

import contextlib
import gzip
import subprocess
import sys

import cramjam
import lz4.frame
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from minikafka.errors import CorruptMessageError, UnsupportedCompressionTypeError
from minikafka.records.compression import Codec, codec_named, compress, decompress

REAL = [codec for codec in Codec if codec is not Codec.NONE]
SAMPLE = b"the same again, " * 10_000


@given(st.sampled_from(Codec), st.binary(max_size=5000), st.integers(1, 30))
@settings(deadline=None)
def test_what_is_compressed_is_decompressed(codec: Codec, data: bytes, times: int) -> None:
    assert decompress(codec, compress(codec, data * times)) == data * times


@pytest.mark.parametrize("codec", REAL)
def test_every_codec_makes_repetitive_data_smaller(codec: Codec) -> None:
    assert len(compress(codec, SAMPLE)) < len(SAMPLE) / 5


def test_names_and_numbers_are_kafkas() -> None:
    names = ["none", "gzip", "snappy", "lz4", "zstd"]
    assert [codec_named(name) for name in names] == [0, 1, 2, 3, 4]


def test_an_unknown_name_is_told_the_valid_ones() -> None:
    with pytest.raises(
        UnsupportedCompressionTypeError, match="'brotli'; valid are none, gzip, snappy, lz4, zstd"
    ):
        codec_named("brotli")


@pytest.mark.parametrize("number", [-1, 5, 7])
def test_an_unknown_number_is_told_the_valid_ones(number: int) -> None:
    with pytest.raises(UnsupportedCompressionTypeError, match=r"0 \(none\), 1 \(gzip\)"):
        compress(number, b"")
    with pytest.raises(UnsupportedCompressionTypeError, match=r"4 \(zstd\)"):
        decompress(number, b"")


def test_snappy_is_framed_as_xerial_does_in_blocks_of_32_kib() -> None:
    data = compress(Codec.SNAPPY, SAMPLE)
    assert data[:16] == b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"
    length = int.from_bytes(data[16:20])
    assert bytes(cramjam.snappy.decompress_raw(data[20 : 20 + length])) == SAMPLE[: 32 * 1024]


def test_raw_snappy_is_read_as_well() -> None:
    assert decompress(Codec.SNAPPY, bytes(cramjam.snappy.compress_raw(SAMPLE))) == SAMPLE


def test_lz4_blocks_are_independent_since_java_refuses_linked_ones() -> None:
    info = lz4.frame.get_frame_info(compress(Codec.LZ4, SAMPLE))
    assert not info["block_linked"]
    assert info["block_size"] == 64 * 1024


def test_what_other_writers_make_of_their_formats_is_read() -> None:
    members = gzip.compress(b"one ") + gzip.compress(b"two")
    assert decompress(Codec.GZIP, members) == b"one two"
    linked = lz4.frame.compress(SAMPLE, block_linked=True, store_size=True)
    assert decompress(Codec.LZ4, linked) == SAMPLE
    streaming = zstandard.ZstdCompressor().compressobj()
    assert decompress(Codec.ZSTD, streaming.compress(SAMPLE) + streaming.flush()) == SAMPLE


@pytest.mark.parametrize("codec", REAL)
def test_nothing_grows_beyond_the_limit(codec: Codec) -> None:
    data = compress(codec, SAMPLE)
    assert decompress(codec, data, len(SAMPLE)) == SAMPLE
    with pytest.raises(CorruptMessageError, match="grows beyond"):
        decompress(codec, data, len(SAMPLE) - 1)


def test_claims_about_the_size_reserve_no_memory() -> None:
    claim = b"\xff\xff\xff\x7f"  # raw snappy: 256 MiB in a byte
    with pytest.raises(CorruptMessageError, match="claims to hold"):
        decompress(Codec.SNAPPY, claim + b"\x00")
    framed = compress(Codec.SNAPPY, b"")[:16] + (2**31).to_bytes(4) + b"abc"
    with pytest.raises(CorruptMessageError, match="3 are there"):
        decompress(Codec.SNAPPY, framed)


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD])
@pytest.mark.parametrize("size", [1, 5, 30, 200])
def test_data_that_ends_early_is_corrupt(codec: Codec, size: int) -> None:
    data = compress(codec, bytes(range(256)) * 40)
    with pytest.raises(CorruptMessageError):
        decompress(codec, data[:size])


@given(st.sampled_from(REAL), st.binary(max_size=300))
def test_garbage_is_corrupt_or_decompresses_and_nothing_else(codec: Codec, data: bytes) -> None:
    with contextlib.suppress(CorruptMessageError):
        assert len(decompress(codec, data, 1 << 20)) <= 1 << 20


def test_codec_libraries_are_imported_only_when_used() -> None:
    code = (
        "import sys, minikafka.records.build, minikafka.records.read\n"
        "print([m for m in ('lz4', 'zstandard', 'cramjam') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
