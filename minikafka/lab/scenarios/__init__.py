"""The scenarios, by subject; `minikafka.lab.catalogue` has them in the order of the lecture."""
