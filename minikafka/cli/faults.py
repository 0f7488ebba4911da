"""What can be done to the brokers of a cluster on this machine: kill, pause, resume, restart."""

from __future__ import annotations

import signal

from minikafka.cli.cluster import LocalCluster
from minikafka.cli.clusterfile import BrokerEntry

_KILL_WAIT_S = 5.0


class Faults:
    """Brokers by id. Blocking."""

    def __init__(self, local: LocalCluster) -> None:
        self._local = local

    def broker(self, broker_id: int) -> BrokerEntry:
        return self._local.require().broker(str(broker_id))

    def kill(self, broker_id: int) -> None:
        """SIGKILL; returns when the process is gone."""
        broker = self.broker(broker_id)
        self._local.send(broker, signal.SIGKILL)
        self._local.wait_ended(broker, _KILL_WAIT_S)

    def pause(self, broker_id: int) -> None:
        self._local.send(self.broker(broker_id), signal.SIGSTOP)

    def resume(self, broker_id: int) -> None:
        self._local.send(self.broker(broker_id), signal.SIGCONT)

    def restart(self, broker_id: int) -> None:
        """Start the process of a dead one; returns when it serves. Raises ProcessTrouble."""
        broker = self._local.with_free_ports(self.broker(broker_id))
        self._local.wait_serving([self._local.start_broker(broker)])
