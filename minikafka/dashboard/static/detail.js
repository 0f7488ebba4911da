// One partition: its replicas' log ends and the high watermark, as they chase each other.

import { act, canControl, isBusy } from "./control.js";
import { offsetsChart } from "./charts.js";
import { byId, count, h, keyed, rate, setClass, setText } from "./dom.js";
import { topics } from "./store.js";

const WINDOW_MS = 120_000;
const ROLE = { leader: "leader", insync: "in sync", behind: "not in sync", lost: "down" };

export function startDetail(store) {
  const choice = byId("detail-choice");
  const body = byId("detail-body");
  const state = h("p", { class: "state-line" });
  const rows = h("tbody");
  const summary = h("p", { class: "aside" });
  const burst = h("button", { type: "button", "data-action": "burst", hidden: true }, "Produce a burst");
  const place = h("div", { class: "chart", id: "detail-chart", role: "img", "aria-label": "Log end offsets of the replicas and the high watermark, over the last two minutes" });
  body.append(
    state,
    h("div", { class: "scroll" }, h("table", { class: "table" },
      h("caption", { class: "vh" }, "Replicas"),
      h("thead", {}, h("tr", {}, ...["Broker", "Role"].map((name) => h("th", { scope: "col" }, name)),
        h("th", { scope: "col", class: "number" }, "Log end"), h("th", { scope: "col", class: "number" }, "Behind"),
        h("th", { scope: "col", class: "wide-only" }, "Race to the log end, with the high watermark"))),
      rows)),
    summary, h("p", { class: "buttons" }, burst), place);
  const series = { key: null, points: [] };
  const chart = offsetsChart(place, () => marks(store));
  choice.addEventListener("change", () => store.choose(choice.value));
  burst.addEventListener("click", () => act(store, "burst", store.picture.partitions.get(store.chosen).topic));

  store.addEventListener("change", ({ detail }) => {
    if (!["picture", "samples", "chosen", "moment", "all"].some((each) => detail.has(each))) return;
    const picture = store.picture;
    if (!picture.partitions.has(store.chosen)) store.chosen = topics(picture)[0]?.[1][0].key ?? null;
    byId("detail").hidden = store.chosen === null;
    if (store.chosen === null) return;
    if (detail.has("picture") || detail.has("chosen")) options(store, choice);
    const partition = picture.partitions.get(store.chosen);
    const sample = picture.samples.get(store.chosen);
    setText(state, `${partition.key} ${picture.words(partition)}`);
    drawRows(picture, rows, partition, sample);
    setText(summary, sample
      ? `log start ${count(sample.start)}, high watermark ${count(sample.highWatermark)}${store.past ? "" : `, ${rate(sample.perSecond)} records/s`}`
      : "Its offsets are not known: no leader has told of them.");
    burst.hidden = !canControl(store) || store.past !== null;
    burst.disabled = isBusy("burst", partition.topic);
    setText(burst, `Produce a burst to ${partition.topic}`);
    if (series.key !== store.chosen || detail.has("all")) load(store, series, chart);
    else follow(store, series, chart);
  });
}

function options(store, choice) {
  const keys = topics(store.picture).flatMap(([, partitions]) => partitions.map((each) => each.key));
  keyed(choice, keys, (key) => key, (key) => h("option", { value: key }, key));
  if (choice.value !== store.chosen) choice.value = store.chosen;
}

function drawRows(picture, rows, partition, sample) {
  const ends = new Map(sample?.replicas.map(([id, end]) => [id, end]) ?? []);
  const known = [...ends.values()].filter((end) => end >= 0);
  const last = Math.max(...known, sample?.highWatermark ?? 0);
  const least = Math.min(...known, sample?.highWatermark ?? 0);
  // The last stretch of the log: twice what the hindmost lacks, and at least ten records.
  const span = Math.max((last - least) * 1.6, 10);
  const percent = (offset) => `${Math.max(0, Math.min(100, 100 - ((last - offset) / span) * 100))}%`;
  keyed(rows, partition.replicas, (id) => id, () =>
    h("tr", {}, h("th", { scope: "row" }), h("td", {}, h("span", { class: "role" }, h("span", { class: "mark", "aria-hidden": "true" }), h("span"))),
      h("td", { class: "number" }), h("td", { class: "number" }), h("td", { class: "wide-only" }, h("div", { class: "race", "aria-hidden": "true" }, h("i"), h("b")))),
  (row, id) => {
    const role = picture.role(partition, id);
    const end = ends.get(id) ?? -1;
    setText(row.cells[0], picture.name(id));
    setClass(row.cells[1].firstElementChild.firstElementChild, `mark ${role}`);
    setText(row.cells[1].firstElementChild.lastElementChild, ROLE[role] + (id === partition.replicas[0] && role !== "leader" ? ", preferred" : ""));
    setText(row.cells[2], count(end));
    setText(row.cells[3], end < 0 ? "?" : count(Math.max(last - end, 0)));
    const race = row.cells[4].firstElementChild;
    setClass(race, `race ${role}`);
    race.firstElementChild.style.setProperty("--to", end < 0 ? "0%" : percent(end));
    race.lastElementChild.style.setProperty("--mark", percent(sample?.highWatermark ?? 0));
    race.lastElementChild.hidden = !sample;
  });
}

async function load(store, series, chart) {
  const key = store.chosen;
  series.key = key;
  series.points = [];
  const { topic, partition } = store.picture.partitions.get(key);
  try {
    const answer = await fetch(`api/offsets?topic=${encodeURIComponent(topic)}&partition=${partition}`);
    if (series.key !== key || !answer.ok) return;
    const kept = (await answer.json()).map(([at, highWatermark, end, replicas]) => ({ at, highWatermark, end, replicas }));
    const newest = kept.at(-1)?.at ?? 0;
    series.points = [...kept, ...series.points.filter((each) => each.at > newest)];
  } catch {
    return; // the stream says that the dashboard does not answer
  }
  draw(store, series, chart);
}

function follow(store, series, chart) {
  const sample = store.live.samples.get(store.chosen);
  if (sample && (!series.points.length || series.points.at(-1).sample !== sample)) {
    series.points.push({ at: sample.at ?? store.now, highWatermark: sample.highWatermark, end: sample.end, replicas: sample.replicas, sample });
    if (series.points.length > 3000) series.points.splice(0, 1000);
  }
  draw(store, series, chart);
}

function draw(store, series, chart) {
  const middle = store.past?.at ?? store.now;
  const to = store.past ? Math.min(middle + WINDOW_MS / 4, store.now) : middle;
  let points = series.points.filter((each) => each.at <= to);
  const first = points.findLastIndex((each) => each.at < to - WINDOW_MS);
  points = points.slice(Math.max(first, 0));
  const last = points.at(-1);
  if (last && !store.past) points = [...points, { ...last, at: to }]; // it stands where it stood
  const ids = store.picture.partitions.get(store.chosen)?.replicas ?? [];
  chart.brokers = [...ids].sort((a, b) => a - b).map((id) => ({ id, name: store.picture.name(id) }));
  const ends = (id) => points.map(({ replicas }) => {
    const end = replicas.find(([each]) => each === id)?.[1] ?? -1;
    return end < 0 ? null : end;
  });
  const data = [points.map((each) => Math.max(each.at, to - WINDOW_MS) / 1000), ...chart.brokers.map(({ id }) => ends(id)), points.map((each) => each.highWatermark)];
  chart.draw(data, `${store.chosen}/${chart.brokers.map((each) => each.name)}`);
}

function marks(store) {
  const of = store.events.filter((each) => each.view.key === store.chosen && each.view.kind === "partition");
  const lines = of.map((each) => ({ at: each.at, colour: each.tone === "bad" ? "--lost" : each.tone === "good" ? "--insync" : "--soft" }));
  if (store.past) lines.push({ at: store.past.at, colour: "--behind", wide: true });
  return lines;
}
