"""`minikafka dashboard` and `up --dashboard`: what is refused before anything is started."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

from minikafka.cli.main import cli


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner(env={"MINIKAFKA_BOOTSTRAP": None}).invoke(cli, list(arguments))
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dashboard", "--control", "--host", "0.0.0.0"], "everybody who reaches that address"),
        (["dashboard", "--control", "--bootstrap", "127.0.0.1:1"], "leave --bootstrap"),
        (["up", "--control"], "--control is about --dashboard"),
        (["up", "--dashboard-port", "1"], "--dashboard-port is about --dashboard"),
        (["up", "--dashboard", "--detach"], "run `minikafka dashboard` beside it"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_be_right(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    status, output = run(*arguments, "--data-dir", str(tmp_path))
    assert status == 2, output
    assert words in output
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


def test_without_its_packages_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name)
    )
    for arguments in (["dashboard"], ["up", "--dashboard"]):
        status, output = run(*arguments, "--data-dir", str(tmp_path))
        assert status == 1
        assert "needs uvicorn" in output
        assert "pip install 'minikafka[dashboard]'" in output
    assert list(tmp_path.iterdir()) == []


def test_a_directory_without_a_cluster_has_no_dashboard(tmp_path: Path) -> None:
    status, output = run("dashboard", "--data-dir", str(tmp_path))
    assert status == 1
    assert "no cluster to talk to" in output
