"""A small disk of its own for a broker's data, that can be filled and freed again.

A tmpfs, mounted inside the room of isolation.py. Where mounting is not allowed the broker's data
lie in a plain folder, and the disk cannot be filled.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

_SIZE_MB = 512
_CHUNK = bytes(1 << 20)
BALLAST = "ballast"


class Disk:
    """`path` is the mount point. State: whether it is one, and the ballast that is in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.can_be_filled = False

    def prepare(self, mount: bool) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if mount:
            command = ("mount", "-t", "tmpfs", "-o", f"size={_SIZE_MB}m", "none", str(self.path))
            self.can_be_filled = subprocess.run(command, capture_output=True).returncode == 0

    def fill(self) -> None:
        """Until not one more byte finds room."""
        assert self.can_be_filled
        with (self.path / BALLAST).open("ab", buffering=0) as ballast:
            size = len(_CHUNK)
            while size:
                try:
                    if ballast.write(_CHUNK[:size]) == 0:
                        size //= 2
                except OSError:
                    size //= 2

    def free(self) -> None:
        (self.path / BALLAST).unlink(missing_ok=True)

    def close(self) -> None:
        if self.can_be_filled:
            subprocess.run(("umount", str(self.path)), capture_output=True)
            self.can_be_filled = False
