"""The lecture on ZooKeeper as scenarios that run on real processes: `minikafka lab`."""
