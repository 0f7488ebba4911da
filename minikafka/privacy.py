"""Who may read what minikafka writes: its user, and its group, and nobody else.

Records, offsets and settings are the users' own. Folders become 0750 and files 0640, or what the
umask says where that is stricter. The umask is of the whole process: this is the one place that
says it, every process that writes to a data directory calls it first, and its children inherit it.
"""

from __future__ import annotations

import os
from pathlib import Path
from secrets import token_hex

_OTHERS = 0o027  # the group may not write, others may nothing


def write_private(path: Path, text: str) -> None:
    """A file that its owner alone may read, from the moment that it is there, in a folder of that
    kind, put into its place whole."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def keep_from_others() -> None:
    """From here on. Never makes a umask less strict."""
    os.umask(os.umask(0o077) | _OTHERS)
