// Consumer groups with their lag, and brokers with their load.

import { byId, count, h, keyed, plural, setText } from "./dom.js";

export function startTables(store) {
  store.addEventListener("change", ({ detail }) => {
    if (detail.has("groups")) drawGroups(store);
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

function drawNodes(store) {
  byId("nodes-section").hidden = !store.nodes.length;
  if (!store.nodes.length) return;
  const columns = Object.keys(store.nodes[0].columns);
  const place = byId("nodes");
  place.replaceChildren(h("table", { class: "table" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Broker"), ...columns.map((name) => h("th", { scope: "col", class: "number" }, name)))),
    h("tbody", {}, ...store.nodes.map((node) => h("tr", {}, h("th", { scope: "row" }, node.name),
      ...columns.map((name) => h("td", { class: "number" }, node.columns[name])))))));
}
