"""minikafka top."""
