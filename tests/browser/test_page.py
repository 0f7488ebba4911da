"""The page itself, before a made-up cluster: what it shows, on what screens, with which keys."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import WAIT_MS, NewPage
from tests.browser.fake import FakeDashboard

pytestmark = pytest.mark.timeout(240)
NewFake = Callable[..., FakeDashboard]

expect.set_options(timeout=WAIT_MS)

# Axe is not needed for these: contrast is measured by WCAG's own formula.
CONTRAST = """
() => {
  const channel = (value) =>
    value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4;
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] > 0.99) return found;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const isText = (node) => node.nodeType === 3 && node.textContent.trim();
    const own = [...element.childNodes].some(isText);
    if (!own || !element.offsetParent || element.closest(".vh, :disabled, .skip")) continue;
    const style = getComputedStyle(element);
    const [a, b] = [luminance(parse(style.color)), luminance(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${element.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}
"""


def expect_roles(page: Page, partition: int, **roles: str) -> None:
    """Until the map shows each broker as leader, insync, behind, lost or none."""
    for broker, role in roles.items():
        row = page.locator(".grid tbody tr").filter(has=page.get_by_role("rowheader", name=broker))
        mark = row.locator(f'td[data-key="orders-{partition}"] .mark').first
        expect(mark).to_have_class(f"mark {role}")


def test_the_map_shows_who_leads_and_who_is_in_sync_by_shape_and_in_words(
    new_page: NewPage, fake: NewFake
) -> None:
    page = new_page(fake(brokers=4).url)
    expect(page.locator("#health")).to_have_text("healthy")
    expect_roles(page, 0, A="leader", B="insync", C="insync", D="none")
    button = page.get_by_role("button", name="orders-0 Leader=A Epoch=0 ISR={A,B,C}")
    expect(button).to_have_text("0")
    assert page.title() == "minikafka"


def test_a_death_is_shown_where_it_happens_with_its_reason(
    new_page: NewPage, fake: NewFake
) -> None:
    dashboard = fake(brokers=4)
    page = new_page(dashboard.url)
    dashboard.kill(1)
    expect(page.locator('[data-broker="1"] .status')).to_contain_text("dead")
    expect(page.locator("#facts")).to_contain_text("3 of 4")
    expect(page.locator("#changes")).to_contain_text("broker A left the cluster")
    expect(page.locator("#changes")).to_contain_text("orders-0 Leader=B Epoch=1 ISR={B,C}")
    expect(page.locator("#changes")).to_contain_text("A died")
    expect_roles(page, 0, A="lost", B="leader", C="insync", D="none")
    expect(page.locator("#announcer")).to_contain_text("broker A left the cluster")


def test_any_moment_since_the_start_can_be_looked_at(new_page: NewPage, fake: NewFake) -> None:
    dashboard = fake(brokers=4)
    page = new_page(dashboard.url)
    dashboard.kill(1)
    change = page.locator("#changes .change", has_text="Leader=B Epoch=1")
    expect(change).to_be_visible()
    dashboard.kill(2)
    expect(page.locator("#changes")).to_contain_text("Leader=C Epoch=2")
    expect_roles(page, 0, B="lost", C="leader")
    change.click()
    expect(page.locator("#notices")).to_contain_text("as it was at")
    expect_roles(page, 0, A="lost", B="leader", C="insync")
    page.get_by_role("button", name="The change before").click()
    page.get_by_role("button", name="The change before").click()
    expect(page.locator("#changes .shown")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("#notices")).not_to_contain_text("as it was at")
    expect_roles(page, 0, B="lost", C="leader")


def test_a_browser_that_comes_late_has_the_whole_history(new_page: NewPage, fake: NewFake) -> None:
    dashboard = fake(brokers=4)
    dashboard.kill(3)
    page = new_page(dashboard.url)
    expect(page.locator("#changes")).to_contain_text("broker C left the cluster")
    expect(page.locator("#changes")).to_contain_text("C died")


def test_a_page_whose_dashboard_went_away_says_so(new_page: NewPage, fake: NewFake) -> None:
    dashboard = fake()
    page = new_page(dashboard.url)
    dashboard.close()
    expect(page.locator("#notices")).to_contain_text("The dashboard does not answer")
    expect(page.locator("#connection")).to_contain_text("not connected")


def test_sources_that_are_not_heard_are_named(new_page: NewPage, fake: NewFake) -> None:
    dashboard = fake()
    page = new_page(dashboard.url)
    state = dashboard.state
    dashboard.call(lambda: state.on_source(state.history.began_ms, "zookeeper", True))
    dashboard.call(lambda: state.on_source(state.history.began_ms, "zookeeper", False, "x"))
    expect(page.get_by_role("alert")).to_contain_text("ZooKeeper does not answer")
    dashboard.call(lambda: state.on_source(state.history.began_ms, "zookeeper", True))
    expect(page.get_by_role("alert")).to_have_count(0)


def test_the_race_of_the_replicas_is_shown_for_the_partition_that_is_chosen(
    new_page: NewPage, fake: NewFake
) -> None:
    dashboard = fake(brokers=4)
    page = new_page(dashboard.url)
    dashboard.produce(1_234)
    page.get_by_role("button", name=re.compile("^orders-2 ")).click()
    expect(page.locator(".state-line")).to_have_text("orders-2 Leader=C Epoch=0 ISR={A,C,D}")
    expect(page.locator("#detail-body .table tbody tr")).to_have_count(3)
    expect(page.locator("#detail-body .table tbody tr").first).to_contain_text("1,234")
    expect(page.locator("#detail-chart canvas")).to_be_visible()


# --- buttons ---


def test_without_control_there_are_no_buttons_for_it(new_page: NewPage, fake: NewFake) -> None:
    page = new_page(fake().url)
    expect(page.locator(".broker")).to_have_count(3)
    assert page.locator("[data-action]:visible").count() == 0


def test_with_control_and_its_token_each_button_asks_for_what_it_says(
    new_page: NewPage, fake: NewFake
) -> None:
    dashboard = fake(control=True)
    page = new_page(dashboard.url)
    assert "token" not in page.url, "it does not stay in the address bar"
    page.get_by_role("button", name="Pause broker B").click()
    expect(page.locator("#control-said")).to_have_text("pause 2: done")
    page.get_by_role("button", name="Kill broker C").click()
    expect(page.locator("#control-said")).to_have_text("kill 3: done")
    page.get_by_role("button", name="Produce a burst to orders").click()
    expect(page.locator("#control-said")).to_have_text("burst orders: done")
    assert dashboard.acts == [("pause", "2"), ("kill", "3"), ("burst", "orders")]
    dashboard.kill(3)
    expect(page.get_by_role("button", name="Restart broker C")).to_be_visible()
    expect(page.get_by_role("button", name="Kill broker C")).to_have_count(0)


def test_with_control_and_without_its_token_there_are_no_buttons(
    new_page: NewPage, fake: NewFake
) -> None:
    page = new_page(fake(control=True).url.partition("#")[0])
    expect(page.locator(".broker")).to_have_count(3)
    assert page.locator("[data-action]:visible").count() == 0


# --- screens, keys, and people ---


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(360, 740), (820, 1180), (1600, 1000)])
def test_it_fits_every_screen_in_light_and_in_dark_with_enough_contrast(
    new_page: NewPage, fake: NewFake, scheme: str, width: int, height: int
) -> None:
    dashboard = fake(brokers=10, partitions=30, control=True)
    dashboard.produce(100)
    page = new_page(dashboard.url, color_scheme=scheme, viewport={"width": width, "height": height})
    dashboard.kill(4)
    expect(page.locator("#changes")).to_contain_text("D died")
    inner, outer = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert inner <= outer, "nothing is wider than the screen"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    darkness = sum(int(each) for each in re.findall(r"\d+", ground)[:3])
    assert (darkness < 200) is (scheme == "dark")
    assert page.evaluate(CONTRAST) == []


def test_everything_can_be_reached_and_done_with_the_keyboard(
    new_page: NewPage, fake: NewFake
) -> None:
    dashboard = fake(brokers=4)
    page = new_page(dashboard.url)
    dashboard.kill(1)
    expect(page.locator("#changes")).to_contain_text("A died")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        outlined = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outlined != "none", "focus is seen"
        if "live" in reached:
            break
    assert {"BUTTON", "SUMMARY", "detail-choice", "moment", "live"} <= reached
    # One tab stop for a row of partitions: the arrows move in it, Enter chooses.
    page.locator(".grid thead button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator(".state-line")).to_contain_text("orders-2 ")
    # The time line goes from change to change.
    page.locator("#moment").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#notices")).to_contain_text("as it was at")
    page.keyboard.press("End")
    expect(page.locator("#notices")).not_to_contain_text("as it was at")


def test_a_screen_reader_finds_landmarks_headings_names_and_live_regions(
    new_page: NewPage, fake: NewFake
) -> None:
    page = new_page(fake(control=True).url)
    for role in ("banner", "main", "contentinfo"):
        tag = {"banner": "header", "main": "main", "contentinfo": "footer"}[role]
        assert page.locator(tag).count() == 1
    assert page.locator("h1").count() == 1
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, select, input, table, section, canvas")]
          .filter((each) => each.offsetParent && !each.matches("[aria-hidden] , [role=img] *"))
          .filter((each) => !(each.textContent.trim() || each.getAttribute("aria-label") ||
            each.getAttribute("aria-labelledby") || each.labels?.length || each.caption))
          .map((each) => each.outerHTML.slice(0, 90))"""
    )
    assert nameless == []
    assert page.locator("[aria-live], [role=status]").count() >= 3
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, select")].filter((each) => {
          const box = each.getBoundingClientRect();
          return each.offsetParent && (box.width < 24 || box.height < 24);
        }).map((each) => each.outerHTML.slice(0, 90))"""
    )
    assert small == [], "every target is large enough for a finger"


def test_ten_brokers_and_a_hundred_partitions_in_a_storm_leave_the_page_responsive(
    new_page: NewPage, fake: NewFake
) -> None:
    dashboard = fake(brokers=10, partitions=100)
    page = new_page(dashboard.url)
    expect(page.locator(".grid thead button")).to_have_count(100)
    page.evaluate(
        """() => {
          window.longest = 0;
          let last = performance.now();
          const tick = () => {
            const now = performance.now();
            window.longest = Math.max(window.longest, now - last);
            last = now;
            requestAnimationFrame(tick);
          };
          tick();
        }"""
    )
    dashboard.storm(5)
    dashboard.kill(5)
    began = time.monotonic()
    expect(page.locator("#facts")).to_contain_text("9 of 10")
    page.get_by_role("button", name=re.compile("^orders-99 ")).click()
    expect(page.locator(".state-line")).to_contain_text("orders-99 ")
    took_ms = (time.monotonic() - began) * 1000
    print(f"longest frame {page.evaluate('longest'):.0f} ms; death and click {took_ms:.0f} ms")
    lost = page.locator(".mark.lost").count()
    assert lost - 1 == sum(5 in each.assignment.replicas for each in dashboard.states.values())


def test_nothing_is_asked_of_any_other_host(new_page: NewPage, fake: NewFake) -> None:
    dashboard = fake()
    page = new_page(dashboard.url)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_selector(".connection.on")
    own = dashboard.url.partition("#")[0]
    assert asked
    assert [url for url in asked if not url.startswith(own)] == []
