// Consumer groups with their lag, transactions that are open, and brokers with their load.

import { bytes, byId, clock, count, h, keyed, lasting, plural, rate, setText } from "./dom.js";

const or = (show) => (value) => (value === null ? "–" : show(value));
const perSecond = or((value) => `${bytes(value)}/s`);

/* Column, and what stands in it. */
const NODE = [
  ["CPU", (node) => or((value) => `${Math.round(value)} %`)(node.cpu_percent)],
  ["Memory", (node) => bytes(node.memory_bytes)],
  ["On disk", (node) => bytes(node.size_bytes)],
  ["Records in", (node) => or((value) => `${rate(value)}/s`)(node.records_in)],
  ["In", (node) => perSecond(node.bytes_in)],
  ["Out", (node) => perSecond(node.bytes_out)],
  ["Replicated in", (node) => perSecond(node.replication_in)],
  ["Replicated out", (node) => perSecond(node.replication_out)],
  ["Produce p99", (node) => or((value) => `${value} ms`)(node.produce_p99_ms)],
  ["Up", (node) => lasting(node.uptime_ms)],
];

export function startTables(store) {
  store.addEventListener("change", ({ detail }) => {
    if (detail.has("groups")) drawGroups(store);
    if (detail.has("transactions")) drawTransactions(store);
    if (detail.has("nodes")) drawNodes(store);
  });
}

function drawGroups(store) {
  const place = byId("groups");
  if (!store.groups.length) {
    place.keyed = undefined;
    place.replaceChildren(h("p", { class: "empty" }, "There are no groups. ", h("code", {}, "minikafka consume TOPIC --group workers --follow"), " makes one."));
    return;
  }
  if (!place.keyed) place.replaceChildren();
  keyed(place, store.groups, (group) => group.group, () =>
    h("details", { open: true }, h("summary"), h("div", { class: "scroll" }, h("table", { class: "table" },
      h("thead", {}, h("tr", {}, ...["Partition", "Committed", "End", "Lag", "Read by"].map((name, index) =>
        h("th", { scope: "col", class: index > 0 && index < 4 ? "number" : null }, name)))),
      h("tbody")))),
  (element, group) => {
    setText(element.firstElementChild, `${group.group}: ${group.state}, ${plural(group.members.length, "member")}, lag ${count(group.lag)}`);
    keyed(element.querySelector("tbody"), group.partitions, (each) => `${each.topic}-${each.partition}`,
      () => h("tr", {}, h("td"), ...[1, 2, 3].map(() => h("td", { class: "number" })), h("td")),
      (row, each) => {
        const known = (offset) => (offset === null ? "–" : count(offset));
        const texts = [`${each.topic}-${each.partition}`, known(each.current_offset), known(each.log_end_offset), known(each.lag), each.client_id ?? "nobody"];
        texts.forEach((text, index) => setText(row.cells[index], text));
        row.cells[4].title = each.member_id ?? "";
      });
  });
}

/* Column, and what stands in it. */
const TRANSACTION = [
  ["State", (each) => each.state],
  ["Since", (each) => or((value) => clock(value, false))(each.started_ms)],
  ["Partitions", (each) => count(each.partitions)],
  ["Readers of committed records wait at", (each) =>
    each.holds_back.map((held) => `${held.topic}-${held.partition} from ${count(held.from_offset)}`).join(", ") || "–"],
];

function drawTransactions(store) {
  const { open, transactions } = store.transactions;
  byId("transactions-section").hidden = !transactions.length;
  if (!transactions.length) return;
  setText(byId("transactions-count"), open > transactions.length ? `${count(open)}, the oldest of them here` : "");
  const place = byId("transactions");
  if (!place.firstElementChild) {
    place.append(h("table", { class: "table" },
      h("caption", { class: "vh" }, "Open transactions"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Transactional id"),
        ...TRANSACTION.map(([name]) => h("th", { scope: "col", class: name === "Partitions" ? "number" : null }, name)))),
      h("tbody")));
  }
  keyed(place.querySelector("tbody"), transactions, (each) => each.producer_id,
    () => h("tr", {}, h("th", { scope: "row" }), ...TRANSACTION.map(([name]) => h("td", { class: name === "Partitions" ? "number" : null }))),
    (row, each) => {
      setText(row.cells[0], each.transactional_id ?? `unknown to coordinators (producer ${each.producer_id})`);
      TRANSACTION.forEach(([, value], index) => setText(row.cells[index + 1], value(each)));
    });
}

function drawNodes(store) {
  byId("nodes-section").hidden = !store.nodes.length;
  if (!store.nodes.length) return;
  const place = byId("nodes");
  if (!place.firstElementChild) {
    place.append(h("table", { class: "table" },
      h("caption", { class: "vh" }, "Load of the brokers"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Broker"), ...NODE.map(([name]) => h("th", { scope: "col", class: "number" }, name)))),
      h("tbody")));
  }
  keyed(place.querySelector("tbody"), store.nodes, (node) => node.id,
    () => h("tr", {}, h("th", { scope: "row" }), ...NODE.map(() => h("td", { class: "number" }))),
    (row, node) => {
      setText(row.cells[0], node.name);
      NODE.forEach(([, value], index) => setText(row.cells[index + 1], value(node)));
    });
}
