"""What a client of Kafka's protocol is told of our errors: codes it knows what to do with."""

from __future__ import annotations

from minikafka.errors import BrokerNotAvailableError, MinikafkaError, NotLeaderOrFollowerError


def partition_code(error: MinikafkaError) -> int:
    """The code for one partition of a produce, fetch or offset request.

    A broker that must not serve at the moment says so with BROKER_NOT_AVAILABLE, which Kafka's
    clients take as final; NOT_LEADER_OR_FOLLOWER makes them look for the leader and try again.
    """
    if isinstance(error, BrokerNotAvailableError):
        return NotLeaderOrFollowerError.code
    return error.code
