"""`python -m minikafka`: the same as the `minikafka` command."""

from minikafka.cli.main import main

if __name__ == "__main__":
    main()
