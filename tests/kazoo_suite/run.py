#!/usr/bin/env python3
"""Runs kazoo's own test suite against the embedded server: `python tests/kazoo_suite/run.py`.

The suite comes with kazoo's source distribution, which pip downloads. It gets an environment of its
own, since it needs packages that minikafka does not; both are kept in the cache directory and used
again. The servers run on the interpreter that runs this script, from this checkout.

Exit status 0 if every selected test passed and there were enough of them, else 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]

KAZOO = "kazoo==2.11.0"
PACKAGES = (
    "pytest",
    "pytest-timeout",
    "pytest-rerunfailures",
    "pytest-xdist",
    "pyopenssl<26",
    "pyjks",
    "mock",
    "objgraph",
    "gevent",
    "eventlet",
    "pure-sasl",
)

# As many as pass on a single Apache ZooKeeper.
ENOUGH_PASSED = 480

# Tests that fail on every plain single server, Apache ZooKeeper included, and why.
NOT_FOR_A_SINGLE_PLAIN_SERVER = {
    "test_client.py::TestSSLClient::test_create": "needs TLS",
    "test_sasl.py::TestLegacySASLDigestAuthentication::test_connect_sasl_auth": "needs SASL",
    "test_sasl.py::TestSASLDigestAuthentication::test_connect_sasl_auth": "needs SASL",
    "test_client.py::TestReconfig::test_no_super_auth": "needs reconfig",
    "test_client.py::TestReconfig::test_add_remove_observer": "needs reconfig",
    "test_client.py::TestReconfig::test_bad_input": "needs reconfig",
    "test_connection.py::TestReadOnlyMode::test_read_only": "needs read-only mode and three hosts",
    "test_client.py::TestClient::test_update_host_list": "needs a second host",
    "test_eventlet_handler.py::TestEventletClient::test_update_host_list": "needs a second host",
    "test_gevent_handler.py::TestGeventClient::test_update_host_list": "needs a second host",
}

# Variables by which the suite would take another turn: longer sleeps, another server.
FOREIGN_VARIABLES = ("CI", "ZOOKEEPER_", "KAZOO_", "PYTEST_", "PYTHON", "COVERAGE")


def prepare_environment(cache: Path) -> Path:
    """The interpreter of an environment that has the suite's packages."""
    python = cache / "venv" / "bin" / "python"
    stamp = cache / "venv" / "packages"
    wanted = "\n".join((sys.version, *PACKAGES))
    if not (stamp.exists() and stamp.read_text() == wanted):
        print(f"making an environment in {cache / 'venv'}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(cache / "venv")], check=True)
        pip_install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip_install, *PACKAGES], check=True)
        stamp.write_text(wanted)
    return python


def prepare_suite(cache: Path, python: Path) -> Path:
    """The unpacked source distribution."""
    name = KAZOO.replace("==", "-")
    archive = cache / f"{name}.tar.gz"
    if not archive.exists():
        print(f"downloading the source of {KAZOO}", flush=True)
        download = [str(python), "-m", "pip", "download", "--quiet", "--dest", str(cache)]
        subprocess.run([*download, "--no-binary", ":all:", "--no-deps", KAZOO], check=True)
    sources = cache / name
    if not (sources / "kazoo" / "tests").is_dir():
        with tarfile.open(archive) as tar:
            tar.extractall(cache, filter="data")
    return sources


def run_suite(python: Path, sources: Path, shards: int, report: Path, extra: list[str]) -> int:
    """pytest's exit status."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_VARIABLES)
    }
    environment["PYTHONPATH"] = os.pathsep.join((str(sources), str(HERE)))
    environment["MINIKAFKA_SUITE_SERVER_PYTHON"] = sys.executable
    environment["MINIKAFKA_SUITE_SERVER_ROOT"] = str(CHECKOUT)
    command = [str(python), "-m", "pytest", "-p", "plugin", "-p", "no:cacheprovider"]
    command += ["-q", "-o", "addopts=", "-o", "log_cli=false", "-o", "timeout=120"]
    command += ["--tb=short", "--disable-warnings", f"--junitxml={report}"]
    command += ["-n", str(shards), "--dist", "loadscope"]
    # Once in some ten runs test_lock's TestSemaphore::test_handle_session_loss was seen to wait
    # for ever after the session was lost; whether client or server is to blame is not known yet.
    # A test that fails is run again, and named in the summary as a rerun.
    command += ["--reruns", "2", "-rR"]
    command += [f"--deselect=kazoo/tests/{test}" for test in NOT_FOR_A_SINGLE_PLAIN_SERVER]
    return subprocess.run(
        [*command, "kazoo/tests", *extra], cwd=sources, env=environment
    ).returncode


def count(report: Path) -> Counter[str]:
    """How many tests passed, failed and were skipped."""
    outcomes: Counter[str] = Counter()
    for case in ElementTree.parse(report).iter("testcase"):
        children = {child.tag for child in case}
        if children & {"failure", "error"}:
            outcomes["failed"] += 1
        elif "skipped" in children:
            outcomes["skipped"] += 1
        else:
            outcomes["passed"] += 1
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description="kazoo's test suite against the embedded server")
    parser.add_argument("--cache", type=Path, default=CHECKOUT / ".cache" / "kazoo-suite")
    parser.add_argument("--shards", type=int, default=3, help="test processes, each with a server")
    arguments, extra = parser.parse_known_args()
    cache: Path = arguments.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    report = cache / "report.xml"
    report.unlink(missing_ok=True)

    python = prepare_environment(cache)
    sources = prepare_suite(cache, python)
    began_s = time.monotonic()
    status = run_suite(python, sources, arguments.shards, report, extra)
    outcomes = count(report) if report.exists() else Counter[str]()

    print("\nnot run:")
    for test, why in NOT_FOR_A_SINGLE_PLAIN_SERVER.items():
        print(f"  {why:<37} {test}")
    passed, failed = outcomes["passed"], outcomes["failed"]
    print(
        f"\n{passed} passed, {failed} failed, {outcomes['skipped']} skipped "
        f"in {time.monotonic() - began_s:.0f} s; {ENOUGH_PASSED} have to pass"
    )
    if extra:
        return status  # a chosen few were run
    return 0 if status == 0 and passed >= ENOUGH_PASSED and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
