"""A broker process that keeps the lives of its replicas, and writes them down when it ends:

python -m tests.helpers.recorded_broker FILE broker --set broker.id=1 ...
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from minikafka.cli.main import main
from tests.helpers.lives import Life, recorded


def read_lives(file: Path) -> list[Life]:
    """What such a process has written."""
    return pickle.loads(file.read_bytes())  # type: ignore[no-any-return]


if __name__ == "__main__":
    file = Path(sys.argv.pop(1))
    with recorded() as lives:
        try:
            main()
        finally:
            file.write_bytes(pickle.dumps([life for _, life in lives]))
