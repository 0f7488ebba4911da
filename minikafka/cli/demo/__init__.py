"""minikafka demo."""
