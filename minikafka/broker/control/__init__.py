"""The controller's life: election, one term, what is told to brokers, requests to it."""
