"""How gRPC and malloc are set up."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from typing import Any

import pytest

from minikafka.rpc.tuning import Keepalive, channel_options, server_options, tune_malloc


class Libc:
    """A glibc that remembers what it was told, or another C library without its functions."""

    def __init__(self, glibc: bool, accepts: bool = True) -> None:
        self.told: dict[int, int] = {}

        def mallopt(parameter: int, value: int) -> int:
            self.told[parameter] = value
            return int(accepts)

        if glibc:
            self.mallopt = mallopt
            self.gnu_get_libc_version = lambda: b"2.41"


def libc_is(monkeypatch: pytest.MonkeyPatch, libc: Any) -> None:
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"):
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
    assert libc.told.keys() == {-2, -3}


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    libc_is(monkeypatch, Libc(glibc=False))
    assert not tune_malloc()


def test_a_glibc_that_refuses_is_not_said_to_be_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    libc_is(monkeypatch, Libc(glibc=True, accepts=False))
    assert not tune_malloc()


def test_the_values_are_ones_that_this_machines_c_library_takes() -> None:
    code = "from minikafka.rpc.tuning import tune_malloc; print(tune_malloc())"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed == f"{hasattr(ctypes.CDLL(None), 'gnu_get_libc_version')}\n"


@pytest.mark.parametrize(("given", "expected"), [(None, "NONE"), ("debug", "debug")])
def test_grpc_is_quiet_unless_the_environment_says_otherwise(
    given: str | None, expected: str
) -> None:
    environment = {key: text for key, text in os.environ.items() if key != "GRPC_VERBOSITY"}
    if given is not None:
        environment["GRPC_VERBOSITY"] = given
    code = (
        "import minikafka.rpc, os, sys; print(os.environ['GRPC_VERBOSITY'], 'grpc' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert printed == f"{expected} False\n"


def test_messages_are_not_limited_by_grpc_and_keepalive_is_configurable() -> None:
    keepalive = Keepalive(idle_ms=11, answer_ms=22)
    for options in (channel_options(33, keepalive), server_options(keepalive)):
        named = dict(options)
        assert len(named) == len(options)
        assert named["grpc.max_receive_message_length"] == -1
        assert named["grpc.max_send_message_length"] == -1
        assert named["grpc.keepalive_time_ms"] == 11
        assert named["grpc.keepalive_timeout_ms"] == 22
    assert dict(channel_options(33))["grpc.min_reconnect_backoff_ms"] == 33
    assert dict(server_options())["grpc.so_reuseport"] == 0
