"""A cluster of real processes for a few seconds: in a temporary directory, on ports of its own.

Used by `demo` and `lab`. It is ended, and the directory removed, however the `with` is left; if
this process is killed, the guardian ends it.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from minikafka.local.cluster import LocalCluster, plan_cluster
from minikafka.local.clusterfile import ClusterFile
from minikafka.local.freeports import free_ports
from minikafka.local.guardian import Guardian
from minikafka.local.starting import running_cluster

_ZOOKEEPER_PORTS = 7  # an ensemble takes as many in a row


@contextlib.contextmanager
def throwaway_cluster(
    prefix: str,
    brokers: int,
    zookeeper: str,
    settings: Mapping[str, str],
    tell: Callable[[str], None],
    *,
    gently: bool = True,
) -> Iterator[tuple[LocalCluster, ClusterFile]]:
    """Enter it inside `Interrupts`, so that a signal breaks off and cleans up. `gently`: brokers
    end by a controlled shutdown, else by SIGKILL. Raises what starting.start_all raises."""
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        with Guardian(directory):
            local = LocalCluster(directory)
            # No default ports: their clients must not meet this cluster, nor one of them another.
            ports = free_ports(0, 0, directory)
            zookeeper_port, *_ = islice(ports, _ZOOKEEPER_PORTS)
            plan = plan_cluster(directory, None, brokers, zookeeper, next(ports), None, None)
            with (
                local.owning(),
                running_cluster(
                    local, plan, settings, tell, zookeeper_port, gently=gently
                ) as cluster,
            ):
                yield local, cluster
    finally:
        shutil.rmtree(directory, ignore_errors=True)
