// The map: brokers down, partitions across, a table for each stretch of a topic. Shape and colour
// say what each replica is.

import { byId, h, keyed, plural, roving, setClass, setText, stop } from "./dom.js";
import { topics } from "./store.js";

const SAID = { leader: "leader", insync: "in sync", behind: "not in sync", lost: "down, not in sync", none: "" };
let width = 600; // of the map

export function startMap(store) {
  const map = byId("map");
  map.addEventListener("click", (event) => {
    const key = event.target.closest("[data-key]")?.dataset.key;
    if (key) store.choose(key);
  });
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width === width) return;
    width = contentRect.width;
    store.touch("picture");
  }).observe(map);
  store.addEventListener("change", ({ detail }) => {
    if (detail.has("picture") || detail.has("chosen")) draw(store, map);
  });
}

function draw(store, map) {
  const picture = store.picture;
  const brokers = [...picture.brokers.values()].sort((a, b) => a.id - b.id);
  const all = topics(picture);
  if (!all.length) {
    map.keyed = undefined;
    map.replaceChildren(
      h("p", { class: "empty" }, "There are no topics yet. ", h("code", {}, "minikafka topics create orders --partitions 6"), " makes one."),
    );
    return;
  }
  if (!map.keyed) map.replaceChildren();
  // As many as fit, in tens where there is room for them; smaller cells where there are many.
  const isMany = picture.partitions.size > 60;
  map.classList.toggle("many", isMany);
  const fit = Math.floor((width - 70) / (isMany ? 24 : 28));
  const length = fit >= 10 ? Math.min(fit - (fit % 10), 50) : Math.max(fit, 5);
  keyed(map, all, ([topic]) => topic, ([topic]) => h("details", { open: !topic.startsWith("__") }, h("summary", {}, h("h3", {}, topic), h("span", { class: "aside" })), h("div", { class: "topic" })),
    (element, [topic, partitions]) => {
      setText(element.querySelector(".aside"), about(partitions));
      const stretches = [];
      for (let at = 0; at < partitions.length; at += length) stretches.push(partitions.slice(at, at + length));
      const shape = (stretch) => [stretch.map((p) => p.key), brokers.map((b) => b.id)].join();
      keyed(element.lastElementChild, stretches, shape, (stretch) => table(topic, stretch, brokers),
        (each, stretch) => update(store, picture, each, stretch, brokers));
    });
  store.freshCells.clear();
}

function about(partitions) {
  const leaderless = partitions.filter((each) => each.leader < 0).length;
  const under = partitions.filter((each) => each.replicas.some((id) => !each.isr.includes(id))).length;
  const trouble = [leaderless && `${leaderless} leaderless`, under && `${under} under-replicated`].filter(Boolean);
  return `${plural(partitions.length, "partition")}, ${trouble.join(", ") || "all in sync"}`;
}

function table(topic, stretch, brokers) {
  const cell = (key, id) => h("td", { "data-key": key }, h("span", { class: "mark none", "aria-hidden": "true" }), h("span", { class: "vh" }));
  const first = stretch[0].partition;
  const element = h("table", { class: "grid" },
    h("caption", { class: "vh" }, `${topic}, partitions ${first} to ${stretch.at(-1).partition}: the role of each broker`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span", { class: "vh" }, "Broker")),
      ...stretch.map((p) => h("th", { scope: "col" },
        h("button", { type: "button", "data-key": p.key, "aria-pressed": "false" }, String(p.partition)))))),
    h("tbody", {}, ...brokers.map((b) => h("tr", {}, h("th", { scope: "row" }, b.name), ...stretch.map((p) => cell(p.key, b.id))))),
    h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "epoch"), ...stretch.map((p) => h("td", { "data-key": p.key })))));
  roving(element, "thead button");
  stop(element, "thead button");
  return element;
}

/** Only what is not drawn yet: of a hundred partitions few change at once. */
function update(store, picture, element, stretch, brokers) {
  const statuses = brokers.map((each) => each.name + each.status).join();
  const isNew = element.statuses !== statuses;
  element.statuses = statuses;
  element.drawn ??= [];
  const isDrawn = (partition, index) =>
    !isNew && element.drawn[index]?.partition === partition && element.drawn[index].chosen === (store.chosen === partition.key);
  const open = stretch.map((partition, index) => [partition, index]).filter((each) => !isDrawn(...each));
  for (const [partition, index] of open) element.drawn[index] = { partition, chosen: store.chosen === partition.key };
  if (!open.length) return;
  const [head, body, foot] = [element.tHead.rows[0], element.tBodies[0], element.tFoot.rows[0]];
  for (const [partition, index] of open) {
    const column = head.cells[index + 1];
    setClass(column, partition.leader < 0 ? "leaderless" : "");
    const button = column.firstElementChild;
    const words = `${partition.key} ${picture.words(partition)}`;
    if (button.title !== words) {
      button.title = words;
      button.setAttribute("aria-label", words);
    }
    button.setAttribute("aria-pressed", String(store.chosen === partition.key));
    setText(foot.cells[index + 1], String(partition.epoch));
  }
  brokers.forEach((broker, row) => {
    const cells = body.rows[row].cells;
    setText(cells[0], broker.name);
    setClass(cells[0], broker.status);
    for (const [partition, index] of open) {
      const role = picture.role(partition, broker.id);
      const cell = cells[index + 1];
      const [mark, said] = cell.children;
      setClass(mark, `mark ${role}`);
      setText(said, SAID[role]);
      const isFresh = !store.past && store.freshCells.has(`${partition.key}/${broker.id}`);
      if (isFresh && cell.classList.contains("fresh")) {
        cell.classList.remove("fresh");
        void cell.offsetWidth; // begin the animation anew
      }
      cell.classList.toggle("chosen", store.chosen === partition.key);
      if (isFresh) {
        cell.classList.add("fresh");
        setTimeout(() => cell.classList.remove("fresh"), 2000);
      }
    }
  });
}
