"""How a write that is fenced by the controller epoch can end: for the core and the stores."""

from __future__ import annotations

from enum import Enum


class WriteOutcome(Enum):
    """How a fenced write of the controller ended (an ambiguous loss is resolved by reading)."""

    WRITTEN = "written"
    CONFLICT = "conflict"  # the node has another version, is there already, or is not there
    DEPOSED = "deposed"  # /controller_epoch has moved on: this controller is no longer it
