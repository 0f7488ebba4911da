"""Who may read what minikafka writes: its user, and its group, and nobody else.

Records, offsets and settings are the users' own. Folders become 0750 and files 0640, or what the
umask says where that is stricter. The umask is of the whole process: this is the one place that
says it, every process that writes to a data directory calls it first, and its children inherit it.
"""

from __future__ import annotations

import os
from pathlib import Path

_OTHERS = 0o027  # the group may not write, others may nothing


def write_secret(path: Path, text: str) -> None:
    """A file that its owner alone may read, from the moment that it is there. What was there before
    stays until all is written."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)  # of one who was killed meanwhile
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def keep_from_others() -> None:
    """From here on. Never makes a umask less strict."""
    os.umask(os.umask(0o077) | _OTHERS)
