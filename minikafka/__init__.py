"""minikafka: a Kafka-style replicated log in Python with ZooKeeper-managed in-sync replicas."""

__version__ = "0.1.0"
