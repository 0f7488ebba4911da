"""The page before a real cluster: brokers that are killed, paused and started again."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from minikafka.dashboard.control import BURST_RECORDS
from tests.browser.conftest import WAIT_MS, Dashboard, NewPage
from tests.helpers.processes import ProcessCluster

pytestmark = pytest.mark.timeout(300)
NewDashboard = Callable[..., Dashboard]

expect.set_options(timeout=WAIT_MS)

# Takes note of when the page shows which state of a partition.
NOTE_STATES = """
() => {
  window.seen = [];
  const note = () => {
    const words = document.querySelector(".state-line").textContent;
    if (seen.at(-1)?.words !== words) seen.push({ words, at: Date.now() });
  };
  new MutationObserver(note).observe(document.querySelector("#detail-body"), {
    subtree: true, childList: true, characterData: true,
  });
  note();
}
"""


def expect_state(page: Page, words: str) -> None:
    expect(page.locator(".state-line")).to_have_text(f"orders-0 {words}")


def expect_whole(page: Page) -> None:
    """All five live and in sync, whatever happened before."""
    expect(page.locator(".state-line")).to_contain_text("ISR={A,B,C,D,E}")
    expect(page.locator("#facts")).to_contain_text(re.compile(r"Brokers\s*5"))


def leader_and_epoch(page: Page) -> tuple[str, int]:
    words = page.locator(".state-line").inner_text()
    found = re.fullmatch(r"orders-0 Leader=(\w) Epoch=(\d+) ISR=.*", words)
    assert found is not None, words
    return found[1], int(found[2])


def test_a_killed_broker_leaves_the_isr_and_the_epoch_moves_on_the_page(
    new_page: NewPage, dashboard: NewDashboard, cluster: ProcessCluster
) -> None:
    """The delay between the change of the znode and the page is measured and printed; only the
    order of things is asserted, since a loaded machine may take its time."""
    page = new_page(dashboard().link)
    expect_whole(page)
    leader, epoch = leader_and_epoch(page)
    victim = "E" if leader != "E" else "D"
    rest = ",".join(sorted({*"ABCDE"} - {victim}))
    page.evaluate(NOTE_STATES)
    client = cluster.zookeeper()
    changes: list[tuple[float, list[int]]] = []
    try:

        @client.DataWatch("/brokers/topics/orders/partitions/0/state")
        def note(data: bytes, stat: object) -> None:
            changes.append((time.time() * 1000, json.loads(data)["isr"]))

        cluster.kill(victim)
        expect_state(page, f"Leader={leader} Epoch={epoch + 1} ISR={{{rest}}}")
    finally:
        client.stop()
        client.close()
    expect(page.locator("#changes")).to_contain_text(f"broker {victim}'s process ended")
    expect(page.locator("#changes")).to_contain_text(f"{victim} died")
    seen = [each["words"].partition(" ")[2] for each in page.evaluate("seen")]
    assert seen == [
        f"Leader={leader} Epoch={epoch} ISR={{A,B,C,D,E}}",
        f"Leader={leader} Epoch={epoch + 1} ISR={{{rest}}}",
    ], "each state once, in order"
    shown_ms = page.evaluate("seen.at(-1).at")
    changed_ms = next(at_ms for at_ms, isr in changes if len(isr) == 4)
    print(f"on the page {shown_ms - changed_ms:.0f} ms after a watch of ZooKeeper told of it")

    cluster.restart(victim)
    expect_whole(page)
    assert leader_and_epoch(page) == (leader, epoch + 1), "an addition does not move the epoch"
    expect(page.locator("#changes")).to_contain_text(f"{victim} came back and caught up")


def test_the_buttons_kill_pause_resume_restart_and_produce(
    new_page: NewPage, dashboard: NewDashboard
) -> None:
    page = new_page(dashboard("--control").link)
    expect_whole(page)
    leader, _ = leader_and_epoch(page)
    first, second = [name for name in "ABCDE" if name != leader][:2]

    page.get_by_role("button", name=f"Pause broker {first}").click()
    card = page.locator(
        ".broker", has=page.locator(".name span", has_text=re.compile(f"^{first}$"))
    )
    expect(card.locator(".status")).to_contain_text("paused")
    expect(page.locator(".state-line")).not_to_contain_text(first)
    expect(page.locator("#changes")).to_contain_text(f"{first} is paused")
    page.get_by_role("button", name=f"Resume broker {first}").click()
    expect_whole(page)

    page.get_by_role("button", name=f"Kill broker {second}").click()
    expect(page.locator("#control-said")).to_contain_text("killed")
    expect(page.locator(".state-line")).not_to_contain_text(second)
    page.get_by_role("button", name="Produce a burst to orders").click()
    expect(page.locator("#control-said")).to_contain_text(
        f"{BURST_RECORDS} records to orders are acknowledged"
    )
    expect(page.locator("#detail-body .aside")).to_contain_text("high watermark 2,000")
    page.get_by_role("button", name=f"Restart broker {second}").click()
    expect_whole(page)
    page.get_by_role("button", name=f"Restart broker {first}").click()
    expect(page.locator("#control-said")).to_contain_text("serves at")
    expect_whole(page)
    expect(page.locator("#changes")).to_contain_text(f"{first} shut down")


def test_a_dashboard_that_was_killed_and_started_again_is_found_by_the_page(
    new_page: NewPage, dashboard: NewDashboard
) -> None:
    first = dashboard()
    page = new_page(first.link)
    expect_whole(page)
    first.kill()
    expect(page.locator("#notices")).to_contain_text("The dashboard does not answer")
    dashboard(port=first.port)
    expect(page.locator("#notices")).not_to_contain_text("The dashboard does not answer")
    expect_whole(page)


def test_the_tree_of_zookeeper_is_live(
    new_page: NewPage, dashboard: NewDashboard, cluster: ProcessCluster
) -> None:
    page = new_page(dashboard().link)
    expect(page.locator('.tree [data-path="/controller"]')).to_be_visible()
    client = cluster.zookeeper()
    try:
        client.create("/of-the-test", b"hello", ephemeral=True)
        line = page.locator('.tree [data-path="/of-the-test"]')
        expect(line).to_contain_text("hello")
        expect(line).to_contain_text("ephemeral")
        client.delete("/of-the-test")
        expect(line).to_have_count(0)
    finally:
        client.stop()
        client.close()


def test_groups_show_their_lag_and_brokers_their_load(
    new_page: NewPage, dashboard: NewDashboard, cluster: ProcessCluster
) -> None:
    cluster.minikafka("produce", "orders", __file__)
    cluster.minikafka("consume", "orders", "--group", "workers", "--max-messages", "10")
    page = new_page(dashboard().link)
    expect(page.locator("#groups")).to_contain_text("workers: Empty")
    expect(page.locator("#groups")).to_contain_text("orders-0")
    expect(page.locator("#nodes tbody tr")).to_have_count(5)
    expect(page.locator("#nodes")).to_contain_text("MB")


def test_a_page_that_loses_zookeeper_says_so_and_comes_back_by_itself(
    new_page: NewPage, dashboard: NewDashboard, cluster: ProcessCluster
) -> None:
    page = new_page(dashboard().link)
    expect_whole(page)
    [pid] = json.loads((cluster.path / "cluster.json").read_text())["zookeeper"]["pids"]
    notices = page.locator("#notices")
    os.kill(pid, signal.SIGSTOP)
    try:
        expect(notices).to_contain_text("ZooKeeper does not answer")
        expect(notices).not_to_contain_text("No broker answers")
    finally:
        os.kill(pid, signal.SIGCONT)
    expect(notices).not_to_contain_text("ZooKeeper does not answer")
    expect_whole(page)
    leader, _ = leader_and_epoch(page)
    victim = "B" if leader != "B" else "C"
    cluster.kill(victim)
    expect(page.locator(".state-line")).not_to_contain_text(victim)
    cluster.restart(victim)
    expect_whole(page)
