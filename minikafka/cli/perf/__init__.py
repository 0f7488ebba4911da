"""minikafka perf."""
