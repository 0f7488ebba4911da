"""The folder in which a person happens to be is none of the command's business."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikafka.children import module_command
from tests.helpers.processes import ProcessCluster

pytestmark = pytest.mark.slow

COMMAND = Path(sys.executable).with_name("minikafka")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With modules that are named as ours and our libraries' are, and tell if they are imported."""
    made = tmp_path / "folder"
    for package in ("minikafka", "minikafka/cli", "google"):
        (made / package).mkdir(parents=True)
    for name in ("minikafka/__init__", "minikafka/__main__", "minikafka/cli/__init__"):
        _lay(made / f"{name}.py")
    for name in ("grpc", "kazoo", "kio", "click", "uvloop", "logging", "google/protobuf"):
        _lay(made / f"{name}.py")
    return made


def _lay(path: Path) -> None:
    path.write_text(f"open({str(path) + '.imported'!r}, 'w').close()\nraise ImportError(__file__)")


def imported(folder: Path) -> list[str]:
    return [each.name for each in folder.rglob("*.imported")]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ProcessCluster]:
    made = ProcessCluster(tmp_path / "data")
    made.path.mkdir()
    yield made
    made.down()


def test_the_folder_would_be_looked_into(folder: Path) -> None:
    """What the other tests rely on."""
    done = subprocess.run(
        [sys.executable, "-m", "minikafka", "--version"], cwd=folder, capture_output=True
    )
    assert done.returncode != 0
    assert imported(folder) == ["__init__.py.imported"]


def test_no_module_that_lies_in_the_current_folder_is_run(
    folder: Path, cluster: ProcessCluster
) -> None:
    environment = {**os.environ, "MINIKAFKA_DATA_DIR": str(cluster.path)}
    for arguments in (("up", "--detach", "--brokers", "1"), ("restart", "A"), ("down",)):
        done = subprocess.run(
            [COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert (done.returncode, imported(folder)) == (0, []), done.stderr


def test_a_guardian_guards_in_any_folder(folder: Path, cluster: ProcessCluster) -> None:
    """Its module is imported, with all that it needs; then it is told that all is well."""
    program = (
        "import sys; from pathlib import Path; from minikafka.local.guardian import Guardian\n"
        "with Guardian(Path(sys.argv[1])) as guardian: process = guardian._process\n"
        "sys.exit(process.returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, cluster.path], cwd=folder, capture_output=True
    )
    assert (done.returncode, done.stderr, imported(folder)) == (0, b"", [])


def test_every_module_that_runs_as_a_process_is_started_in_this_way() -> None:
    command = module_command("minikafka", "broker")
    assert command == [sys.executable, "-P", "-m", "minikafka", "broker"]
    package = Path(__file__).parents[3] / "minikafka"
    by_hand = [str(each) for each in package.rglob("*.py") if '"-m"' in each.read_text()]
    assert by_hand == [str(package / "children.py")]
