"""Where the cluster is: --bootstrap, else MINIKAFKA_BOOTSTRAP, else cluster.json of the data
directory (the order of docs/cli.md; click reads the variables)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minikafka.config.properties import address_hint, read_address
from minikafka.errors import MinikafkaError, UsageError
from minikafka.local import clusterfile
from minikafka.local.cluster import LocalCluster


class NoCluster(MinikafkaError):
    """Nothing says where a cluster is, or nobody answers there."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Addresses HOST:PORT to begin with, and who named them. `names`: broker ids to names, as far
    as they are known without asking; empty unless the source is cluster.json."""

    addresses: tuple[str, ...]
    source: str
    names: dict[int, str]

    @property
    def text(self) -> str:
        return ",".join(self.addresses)


def find_cluster(bootstrap: str | None, data_dir: Path) -> Bootstrap:
    """Raises UsageError for a malformed address, NoCluster if there is nothing to go by."""
    if bootstrap:
        addresses = read_addresses(bootstrap)
        return Bootstrap(addresses, "--bootstrap or MINIKAFKA_BOOTSTRAP", {})
    cluster = clusterfile.load(data_dir)
    path = clusterfile.path_of(data_dir)
    if cluster is None:
        raise NoCluster(
            f"no cluster to talk to: neither --bootstrap nor MINIKAFKA_BOOTSTRAP is given, and "
            f"there is no {path}; `minikafka up` starts a cluster on this machine"
        )
    running = LocalCluster(data_dir).running(cluster)
    if not running:
        raise NoCluster(
            f"the cluster of {path} does not run: `minikafka up{data_dir_hint(data_dir)}` starts it"
        )
    # Only those that run: a dead one's port may by now be a broker of another cluster.
    return Bootstrap(
        tuple(broker.grpc for broker in running),
        str(path),
        {broker.id: broker.name for broker in cluster.brokers},
    )


def read_addresses(text: str) -> tuple[str, ...]:
    """`HOST:PORT,…`. Raises UsageError."""
    addresses = tuple(part.strip() for part in text.split(","))
    for address in addresses:
        if read_address(address) is None:
            raise UsageError(
                f"--bootstrap: {address!r} is no address: expected HOST:PORT[,HOST:PORT...], "
                f"such as 127.0.0.1:19092{address_hint(address)}"
            )
    return addresses


def nobody_answers(bootstrap: Bootstrap, reason: str = "") -> NoCluster:
    """The error when no broker can be reached: what was tried, and what to do."""
    because = f" ({reason})" if reason else ""
    return NoCluster(
        f"no broker answers at {', '.join(bootstrap.addresses)}{because}; the addresses are from "
        f"{bootstrap.source}. Is the cluster running? `minikafka up` starts one on this machine"
    )


DEFAULT_DATA_DIR = ".minikafka"


def data_dir_hint(data_dir: Path) -> str:
    """What a command line needs besides the command to mean this directory."""
    return "" if str(data_dir) == DEFAULT_DATA_DIR else f" --data-dir {data_dir}"
