"""How minikafka starts its own modules as processes of their own: brokers, the embedded ZooKeeper,
guardians.

`python -m` looks into the current folder first. That is whatever folder a person happened to be in
when they ran `minikafka up`, and a `grpc.py` or a `minikafka/` that lies there is none of ours:
with -P Python leaves the folder out. PYTHONPATH counts as ever.
"""

from __future__ import annotations

import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs this module with the Python that runs us."""
    return [sys.executable, "-P", "-m", module, *arguments]
