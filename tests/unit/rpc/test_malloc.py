"""What the C library keeps of freed memory, and when it gives it back."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from typing import Any

import pytest

from minikafka.rpc.malloc import (
    QUIET_BYTES,
    WORTH_BYTES,
    GiveBack,
    trim_malloc,
    tune_malloc,
)


class Libc:
    """A glibc that remembers what it was told, or another C library without its functions."""

    def __init__(self, glibc: bool, accepts: bool = True) -> None:
        self.told: dict[int, int] = {}
        self.trimmed: list[int] = []

        def malloc_trim(pad: int) -> int:
            self.trimmed.append(pad)
            return 1

        def mallopt(parameter: int, value: int) -> int:
            self.told[parameter] = value
            return int(accepts)

        if glibc:
            self.mallopt = mallopt
            self.malloc_trim = malloc_trim
            self.gnu_get_libc_version = lambda: b"2.41"


def libc_is(monkeypatch: pytest.MonkeyPatch, libc: Any) -> None:
    for name in (
        "MALLOC_MMAP_THRESHOLD_",
        "MALLOC_TRIM_THRESHOLD_",
        "MALLOC_TOP_PAD_",
        "MALLOC_ARENA_MAX",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: libc)


def test_large_buffers_stay_on_the_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = Libc(glibc=True)
    libc_is(monkeypatch, libc)
    assert tune_malloc()
    mmap_threshold, trim_threshold = libc.told[-3], libc.told[-1]
    assert mmap_threshold > 10 * 1024 * 1024  # replica.fetch.response.max.bytes
    assert trim_threshold > mmap_threshold


def test_what_the_environment_says_of_malloc_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = Libc(glibc=True)
    libc_is(monkeypatch, libc)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    assert tune_malloc()
    assert libc.told.keys() == {-2, -3, -8}


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    libc_is(monkeypatch, Libc(glibc=False))
    assert not tune_malloc()


def test_a_glibc_that_refuses_is_not_said_to_be_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    libc_is(monkeypatch, Libc(glibc=True, accepts=False))
    assert not tune_malloc()


def test_the_values_are_ones_that_this_machines_c_library_takes() -> None:
    code = "from minikafka.rpc.malloc import tune_malloc; print(tune_malloc())"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed == f"{hasattr(ctypes.CDLL(None), 'gnu_get_libc_version')}\n"


# --- giving back ---------------------------------------------------------------------------------


def test_free_pages_are_given_back_if_there_is_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = Libc(glibc=True)
    libc_is(monkeypatch, libc)
    assert trim_malloc()
    assert libc.trimmed == [0]
    libc_is(monkeypatch, Libc(glibc=False))
    assert not trim_malloc()


def looks(*moved_bytes: int) -> list[bool]:
    """What comes of looking again and again, with so many bytes moved by then."""
    readings = iter(moved_bytes)
    giving_back = GiveBack(lambda: next(readings), trim=lambda: None)
    return [giving_back.is_due() for _ in moved_bytes]


def test_memory_is_given_back_once_when_a_load_is_over() -> None:
    load = WORTH_BYTES
    assert looks(0, load, 2 * load, 2 * load, 2 * load) == [False, False, False, True, False]


def test_a_trickle_is_no_load() -> None:
    load, trickle = WORTH_BYTES, QUIET_BYTES - 1
    assert looks(load, load + trickle, load + 2 * trickle) == [False, True, False]


def test_what_moved_little_has_little_to_give_back() -> None:
    assert looks(WORTH_BYTES - 1, WORTH_BYTES - 1) == [False, False]


def test_each_load_counts_anew() -> None:
    load = WORTH_BYTES
    assert looks(load, load, 2 * load - 1, 2 * load - 1, 3 * load, 3 * load) == [
        False,
        True,
        False,
        False,
        False,
        True,
    ]
