// The list of changes with their reasons, and what a screen reader hears of them.

import { byId, clock, h, keyed, plural, roving, setText, stop } from "./dom.js";

const PAGE = 150;
const TOGETHER_MS = 2000;
const GROUPED_FROM = 4;

export function startChanges(store) {
  const list = byId("changes");
  let shown = PAGE;
  list.addEventListener("click", (event) => {
    const number = event.target.closest("[data-number]")?.dataset.number;
    if (number) store.look({ number: Number(number) });
  });
  roving(list, ".change");
  byId("changes-older").addEventListener("click", () => {
    shown += PAGE;
    store.touch("events");
  });
  store.addEventListener("change", ({ detail }) => {
    if (detail.has("events")) draw(store, list, shown);
    if (detail.has("events") || detail.has("moment")) markShown(store, list);
    if (detail.has("events") && !detail.has("all")) announce(store);
    if (detail.has("all")) announced = store.events.at(-1)?.number ?? 0;
  });
}

/** Newest first; partitions that changed at once for the same reason stand together. */
function bundles(events) {
  const found = [];
  for (const event of events) {
    const last = found.at(-1);
    const fits = last && event.view.kind === "partition" && last[0].view.kind === "partition" &&
      last[0].reason === event.reason && last[0].tone === event.tone && Math.abs(last[0].at - event.at) < TOGETHER_MS;
    if (fits) last.push(event);
    else found.push([event]);
  }
  return found.flatMap((bundle) => (bundle.length < GROUPED_FROM ? bundle.map((each) => [each]) : [bundle]));
}

function draw(store, list, shown) {
  const newest = store.events.slice(-shown).reverse();
  const keyOf = (bundle) => `${bundle.at(-1).number}/${bundle[0].reason}/${bundle.length > 1}`;
  keyed(list, bundles(newest), keyOf,
    (bundle) => (bundle.length > 1 ? many(bundle) : one(bundle[0])),
    (element, bundle) => {
      if (bundle.length === 1) return;
      setText(element.querySelector("summary .what"), `${plural(bundle.length, "partition")} changed`);
      keyed(element.querySelector("ol"), bundle, (each) => each.number, one);
    });
  stop(list, ".change");
  byId("changes-older").hidden = store.events.length <= shown;
  const kept = `${plural(store.events.length, "change")} since ${clock(store.began, false)}`;
  setText(byId("changes-kept"), store.dropped ? `the last ${kept}` : kept);
  byId("changes-kept").title = `The last ${store.limit} changes are kept.`;
}

function one(event) {
  return h("li", { class: event.tone, "data-event": String(event.number) },
    h("button", { type: "button", class: "change", "data-number": String(event.number), title: "Show the cluster as of this change" },
      h("time", { datetime: new Date(event.at).toISOString() }, clock(event.at)),
      h("span", { class: "what" }, event.text),
      event.reason ? h("span", { class: event.reason.startsWith("unknown") ? "why unknown" : "why" }, event.reason) : null));
}

function many(bundle) {
  const [newest] = bundle;
  return h("li", { class: newest.tone },
    h("details", {},
      h("summary", {}, h("time", {}, clock(bundle.at(-1).at)), " ", h("span", { class: "what" }), " ",
        h("span", { class: "why" }, newest.reason)),
      h("ol")));
}

function markShown(store, list) {
  const number = store.past?.number;
  for (const old of list.querySelectorAll(".shown")) old.classList.remove("shown");
  if (!number) return;
  const element = list.querySelector(`[data-event="${number}"]`);
  if (!element) return;
  element.classList.add("shown");
  const within = element.closest("details");
  if (within) within.open = true;
  const top = element.offsetTop - list.offsetTop;
  if (top < list.scrollTop || top > list.scrollTop + list.clientHeight - 60) list.scrollTop = top - 60;
}

let announced = 0;
let waiting = null;

/** What happened, in a few words, at most every three seconds. */
function announce(store) {
  if (waiting) return;
  waiting = setTimeout(() => {
    waiting = null;
    const news = store.events.filter((each) => each.number > announced);
    announced = store.events.at(-1)?.number ?? 0;
    if (!news.length) return;
    const partitions = news.filter((each) => each.view.kind === "partition");
    const others = news.filter((each) => each.view.kind !== "partition").map((each) => each.text);
    const words = partitions.length > 3 ? [`${partitions.length} partitions changed`] : partitions.map((each) => `${each.text}, ${each.reason}`);
    byId("announcer").textContent = [...others.slice(-4), ...words].join(". ");
  }, 1000);
}
