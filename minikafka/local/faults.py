"""What can be done to the brokers of a cluster on this machine: kill, pause, resume, restart."""

from __future__ import annotations

import signal

from minikafka.local.cluster import LocalCluster
from minikafka.local.clusterfile import BrokerEntry


class Faults:
    """Brokers by id. Blocking."""

    def __init__(self, local: LocalCluster) -> None:
        self._local = local

    def broker(self, broker_id: int) -> BrokerEntry:
        return self._local.require().broker(str(broker_id))

    def kill(self, broker_id: int) -> None:
        """SIGKILL; returns when the process is gone. Raises ProcessTrouble if it does not go."""
        self._local.kill_broker(self.broker(broker_id))

    def pause(self, broker_id: int) -> None:
        self._local.send(self.broker(broker_id), signal.SIGSTOP)

    def resume(self, broker_id: int) -> None:
        self._local.send(self.broker(broker_id), signal.SIGCONT)

    def restart(self, broker_id: int) -> None:
        """Start the process of a dead one; returns when it serves. Raises ProcessTrouble."""
        broker = self._local.with_free_ports(self.broker(broker_id))
        self._local.wait_serving([self._local.start_broker(broker)])
