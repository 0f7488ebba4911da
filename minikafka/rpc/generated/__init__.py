"""Generated from protos/minikafka/v1 by `make proto`: do not edit."""
