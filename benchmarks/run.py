"""Measures a cluster on this machine: throughput, latency, reading back (`make bench`).

    python benchmarks/run.py [--brokers 3] [--zookeeper embedded]

Starts a cluster in a temporary data directory, makes a topic with as many replicas as brokers (at
most three), runs `minikafka perf` with its defaults, and ends the cluster again, also on failure.
Exit status 0, or that of the first command that failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TOPIC = "benchmark"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Measure a cluster on this machine.")
    parser.add_argument("--brokers", type=int, default=3)
    parser.add_argument("--zookeeper", default="embedded")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="minikafka-bench-") as data_dir:
        try:
            return _measure(options.brokers, options.zookeeper, data_dir)
        finally:
            _minikafka(data_dir, "down")


def _measure(brokers: int, zookeeper: str, data_dir: str) -> int:
    replicas = min(brokers, 3)
    commands = [
        ["up", "--detach", f"--brokers={brokers}", f"--zookeeper={zookeeper}"],
        [
            *("topics", "create", TOPIC, "--partitions=1", f"--replication-factor={replicas}"),
            f"--config=min.insync.replicas={(replicas + 1) // 2}",
        ],
        ["perf", "produce", TOPIC],
        ["perf", "latency", TOPIC],
        ["perf", "consume", TOPIC],
    ]
    for command in commands:
        status = _minikafka(data_dir, *command)
        if status != 0:
            return status
    return 0


def _minikafka(data_dir: str, *arguments: str) -> int:
    """One command of the command line that is installed beside this interpreter."""
    print(f"$ minikafka {' '.join(arguments)}", flush=True)
    executable = Path(sys.executable).with_name("minikafka")
    environment = os.environ | {"MINIKAFKA_DATA_DIR": data_dir}
    environment.pop("MINIKAFKA_BOOTSTRAP", None)
    return subprocess.run([executable, *arguments], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
