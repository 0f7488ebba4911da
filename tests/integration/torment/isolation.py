"""A room of one's own: the process moves into fresh network, mount and process namespaces.

What is made in there (interfaces, routes, mounts, processes) is invisible outside, and the kernel
removes it with the last process of the room: also after SIGKILL nothing is left behind. The first
process of the room is its init: when it ends, the kernel ends all others.

Needs Linux, and root or user namespaces that anybody may make; `enter` says so by returning False,
and then nothing has changed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

_NEW_MOUNTS = 0x00020000
_NEW_USERS = 0x10000000
_NEW_PROCESSES = 0x20000000
_NEW_NETWORK = 0x40000000
_RECURSIVE_PRIVATE = 0x4000 | 0x40000
_SIGNAL_WHEN_PARENT_ENDS = 1


def enter() -> bool:
    """Go on inside of a new room, as its first process; True there. The process that called waits
    outside and ends as the one inside does. Call it before there are threads.

    False: this machine does not let us.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _NEW_MOUNTS | _NEW_PROCESSES | _NEW_NETWORK
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(flags) != 0:
        if libc.unshare(flags | _NEW_USERS) != 0:
            return False
        _become_root_inside(user, group)
    child = os.fork()
    if child:
        os._exit(_wait_outside(child))
    os.setsid()  # a terminal's Ctrl-C goes to the process outside, which passes it on once
    signal.signal(signal.SIGINT, signal.default_int_handler)
    libc.prctl(_SIGNAL_WHEN_PARENT_ENDS, signal.SIGKILL)
    libc.mount(b"none", b"/", None, _RECURSIVE_PRIVATE, None)
    if libc.mount(b"proc", b"/proc", b"proc", 0, None) != 0:
        raise OSError(ctypes.get_errno(), "cannot mount /proc of the new namespace")
    return True


def _become_root_inside(user: int, group: int) -> None:
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def _wait_outside(child: int) -> int:
    """Until the process inside ends; its exit status. It decides what comes of a signal."""

    def pass_on(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    _, status = os.waitpid(child, 0)
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
