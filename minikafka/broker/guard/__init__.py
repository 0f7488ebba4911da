"""Who may do what: the broker's services as one caller may use them.

service   all that a BrokerService does
groups, transactions    the parts of it
administration          what goes to the controller
watching                a watcher hears of what its caller may describe
people                  nodes, jobs, replicas
asking    one caller's questions to the judge
audit     what is said of them

A door asks `service_for` once a connection, and serves the connection from what it gets. Work of a
broker's own has the raw service.
"""

from minikafka.broker.guard.people import jobs_for, nodes_for, replicas_for
from minikafka.broker.guard.service import GuardedService, service_for

__all__ = ["GuardedService", "jobs_for", "nodes_for", "replicas_for", "service_for"]
