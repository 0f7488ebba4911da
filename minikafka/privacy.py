"""Who may read what minikafka writes: its user, and its group, and nobody else.

Records, offsets and settings are the users' own. Folders become 0750 and files 0640, or what the
umask says where that is stricter. The umask is of the whole process: this is the one place that
says it, every process that writes to a data directory calls it first, and its children inherit it.
"""

from __future__ import annotations

import os

_OTHERS = 0o027  # the group may not write, others may nothing


def keep_from_others() -> None:
    """From here on. Never makes a umask less strict."""
    os.umask(os.umask(0o077) | _OTHERS)
