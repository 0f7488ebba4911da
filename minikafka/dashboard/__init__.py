"""A web page on which the state of a cluster is looked at: `minikafka dashboard`."""
