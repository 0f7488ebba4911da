"""Where the things of a cluster on this machine lie in its data directory.

    cluster.json            what runs (clusterfile.py)
    up.lock                 held, with its pid in it, by a foreground `minikafka up`
    zookeeper/              the data of a ZooKeeper that `up` started
    broker-1.properties     the configuration of broker 1, as `up` made it
    broker-1.log            what broker 1 said on standard error (appended to)
    broker-1.serving        what it said on standard output since its last start: the line
                            that it prints once it serves
    broker-1/               its data (log.dirs)

All paths are absolute: they are also what a process is recognised by (processes.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_TAIL_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Layout:
    data_dir: Path

    @classmethod
    def of(cls, data_dir: Path) -> Layout:
        return cls(data_dir.absolute())

    @property
    def lock(self) -> Path:
        return self.data_dir / "up.lock"

    @property
    def zookeeper(self) -> Path:
        return self.data_dir / "zookeeper"

    def properties(self, broker_id: int) -> Path:
        return self.data_dir / f"broker-{broker_id}.properties"

    def log(self, broker_id: int) -> Path:
        return self.data_dir / f"broker-{broker_id}.log"

    def serving(self, broker_id: int) -> Path:
        return self.data_dir / f"broker-{broker_id}.serving"

    def data(self, broker_id: int) -> Path:
        return self.data_dir / f"broker-{broker_id}"


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file; empty if it is not there."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def format_properties(pairs: dict[str, str]) -> str:
    """The text of a .properties file that `config.parse_properties` reads back as `pairs`."""
    return "".join(f"{_escape(name, True)}={_escape(value)}\n" for name, value in pairs.items())


def _escape(text: str, is_name: bool = False) -> str:
    escaped = text.replace("\\", "\\\\")
    for plain, code in (("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"), ("\f", "\\f")):
        escaped = escaped.replace(plain, code)
    if is_name:
        for special in "=: #!":
            escaped = escaped.replace(special, "\\" + special)
    elif escaped.startswith(" "):
        escaped = "\\" + escaped
    return escaped
