"""A real Chromium (Debian's), and dashboards for it to look at: of a fake or of a real cluster.

Without Chromium these tests skip and say what to install; with MINIKAFKA_REQUIRE_BROWSER=1 they
fail instead. They never use more than this host's loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Playwright, sync_playwright

from tests.browser.fake import FakeDashboard
from tests.helpers.processes import ProcessCluster

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 40_000

NewPage = Callable[..., Page]


def find_chromium() -> str:
    """Its path; skips, or fails if it is required."""
    found = os.environ.get("MINIKAFKA_CHROMIUM") or shutil.which("chromium")
    if found is None:
        missing = "these tests need Chromium: apt-get install chromium"
        if os.environ.get("MINIKAFKA_REQUIRE_BROWSER") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.fixture
def playwright() -> Iterator[Playwright]:
    """Anew for each test: while it lives this thread has a running event loop, and no coroutine of
    another test could run."""
    find_chromium()
    with sync_playwright() as running:
        yield running


@pytest.fixture
def new_page(playwright: Playwright, tmp_path: Path) -> Iterator[NewPage]:
    """Opens pages, each in a browser of its own; nothing may fail on one unnoticed."""
    problems: list[str] = []
    with contextlib.ExitStack() as stack:

        def new(url: str, **options: Any) -> Page:
            context: BrowserContext = playwright.chromium.launch_persistent_context(
                tmp_path / f"profile-{len(os.listdir(tmp_path))}",
                executable_path=find_chromium(),
                args=_ARGUMENTS,
                headless=True,
                **{"viewport": {"width": 1280, "height": 900}, **options},
            )
            stack.callback(context.close)
            context.set_default_timeout(WAIT_MS)
            page = context.pages[0]
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", lambda said: note(said.type, said.text))
            page.goto(url)
            page.wait_for_selector(".connection.on")
            return page

        def note(kind: str, text: str) -> None:
            # That the server was down is said by the browser itself.
            if kind == "error" and "net::ERR" not in text:
                problems.append(text)

        yield new
    assert problems == []


@pytest.fixture
def fake() -> Iterator[Callable[..., FakeDashboard]]:
    """Makes dashboards of made-up clusters, served in a thread."""
    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> FakeDashboard:
            dashboard = FakeDashboard(**options)
            stack.callback(dashboard.close)
            return dashboard

        yield start


class Dashboard:
    """`minikafka dashboard` of a cluster, as a process."""

    def __init__(self, cluster: ProcessCluster, *options: str, port: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "minikafka", "dashboard", "--port", str(port), *options],
            env={**os.environ, "MINIKAFKA_DATA_DIR": str(cluster.path), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        if not first.startswith("dashboard at "):
            rest = self._process.communicate(timeout=30)[0]
            raise AssertionError(f"the dashboard did not start: {first}{rest}")
        self.link = first.split()[-1]
        # What it says later must not fill the pipe.
        threading.Thread(target=self._process.stdout.read, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.link.split("/")[2].rpartition(":")[2])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(30)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    """Five brokers with a topic `orders`, one partition on all of them."""
    find_chromium()
    running = ProcessCluster(tmp_path_factory.mktemp("cluster"))
    try:
        running.up(5, "embedded")
        running.minikafka("topics", "create", "orders", "--replicas", "1,2,3,4,5")
        yield running
    finally:
        running.down()


@pytest.fixture
def dashboard(cluster: ProcessCluster) -> Iterator[Callable[..., Dashboard]]:
    """Starts `minikafka dashboard` with options."""
    with contextlib.ExitStack() as stack:

        def start(*options: str, port: int = 0) -> Dashboard:
            made = Dashboard(cluster, *options, port=port)
            stack.callback(made.close)
            return made

        yield start
