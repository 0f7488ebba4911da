"""minikafka produce and consume."""
