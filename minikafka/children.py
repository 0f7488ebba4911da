"""How minikafka starts its own modules as processes of their own: brokers, the embedded ZooKeeper,
guardians.

`python -m` looks into the current folder first. That is whatever folder a person happened to be in
when they ran `minikafka up`, and a `grpc.py` or a `minikafka/` that lies there is none of ours:
with -P Python leaves the folder out. PYTHONPATH counts as ever.
"""

from __future__ import annotations

import os
import signal
import sys

_PARENT = "MINIKAFKA_ENDS_WITH_PARENT"
_SIGNAL_WHEN_PARENT_ENDS = 1  # PR_SET_PDEATHSIG


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs this module with the Python that runs us."""
    return [sys.executable, "-P", "-m", module, *arguments]


def ends_with_us() -> dict[str, str]:
    """The environment of a child of the `minikafka` command that shall not outlive this process,
    however that ends. To be started by our first thread, since it ends with the thread."""
    return os.environ | {_PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """In the child: ask the system for SIGTERM when the parent ends, if the parent wants that.
    Only Linux can do it."""
    parent = os.environ.pop(_PARENT, "")
    if not parent or not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(_SIGNAL_WHEN_PARENT_ENDS, signal.SIGTERM)
    if str(os.getppid()) != parent:  # it has ended already
        os.kill(os.getpid(), signal.SIGTERM)
