// The brokers, the line of facts at the top, and what cannot be heard.

import { byId, bytes, clock, h, keyed, plural, rate, setClass, setText } from "./dom.js";
import { buttons } from "./control.js";

const STATUS = { live: "● live", paused: "❚❚ paused", starting: "… starting", dead: "✕ dead" };

export function startBrokers(store) {
  store.addEventListener("change", ({ detail }) => {
    if (!["picture", "flow", "moment", "connection", "nodes"].some((each) => detail.has(each))) return;
    drawBrokers(store);
    drawFacts(store);
    drawNotices(store);
  });
}

function drawBrokers(store) {
  const picture = store.picture;
  const led = new Map();
  const held = new Map();
  for (const partition of picture.partitions.values()) {
    led.set(partition.leader, (led.get(partition.leader) ?? 0) + 1);
    for (const id of partition.replicas) held.set(id, (held.get(id) ?? 0) + 1);
  }
  const all = [...picture.brokers.values()].sort((a, b) => a.id - b.id);
  keyed(byId("brokers"), all, (broker) => broker.id, (broker) => card(store, broker), (element, broker) => {
    setClass(element, `broker ${broker.status}`);
    const [name, status, load, usage, address] = element.children;
    setText(name.firstElementChild, broker.name);
    const isController = picture.controller.id === broker.id;
    name.lastElementChild.hidden = !isController;
    if (isController) setText(name.lastElementChild, "controller");
    setClass(status, `status ${broker.status}`);
    const unnoticed = broker.registered && broker.status !== "live" ? ", still registered" : "";
    setText(status, STATUS[broker.status] + unnoticed);
    const node = store.past ? null : store.nodes.find((each) => each.id === broker.id);
    setText(load, `leads ${led.get(broker.id) ?? 0} of ${plural(held.get(broker.id) ?? 0, "replica")}`);
    setText(usage, node ? `${node.cpu_percent === null ? "" : `CPU ${Math.round(node.cpu_percent)} %, `}${bytes(node.memory_bytes)}` : "");
    setText(address, broker.kafka ?? broker.grpc);
    address.title = [`id ${broker.id}`, broker.kafka && `Kafka ${broker.kafka}`, broker.grpc && `gRPC ${broker.grpc}`].filter(Boolean).join(", ");
    buttons(store, element.querySelector(".buttons"), broker);
  });
}

function card(store, broker) {
  return h("li", { class: "broker", "data-broker": String(broker.id) },
    h("p", { class: "name" }, h("span"), h("span", { class: "crown", hidden: true })),
    h("p", { class: "status" }), ...[1, 2, 3].map(() => h("p", { class: "small" })),
    h("div", { class: "buttons" }));
}

export function counts(picture) {
  const partitions = [...picture.partitions.values()];
  const brokers = [...picture.brokers.values()];
  return {
    brokers: brokers.length,
    live: brokers.filter((each) => each.status === "live").length,
    partitions: partitions.length,
    topics: new Set(partitions.map((each) => each.topic)).size,
    leaderless: partitions.filter((each) => each.leader < 0).length,
    under: partitions.filter((each) => each.replicas.some((id) => !each.isr.includes(id))).length,
  };
}

function drawFacts(store) {
  const picture = store.picture;
  const n = counts(picture);
  const controller = picture.controller.id < 0 ? "none" : `${picture.name(picture.controller.id)}, epoch ${picture.controller.epoch}`;
  const perSecond = store.past
    ? null
    : store.flow.length ? store.flow.at(-1)[1] : 0;
  const facts = [
    ["Brokers", n.live === n.brokers ? String(n.live) : `${n.live} of ${n.brokers}`, n.live < n.brokers ? "bad" : ""],
    ["Controller", controller, picture.controller.id < 0 ? "bad" : ""],
    ["Topics", String(n.topics), ""],
    ["Partitions", String(n.partitions), ""],
    ["Under-replicated", String(n.under), n.under ? "warn" : ""],
    ["Leaderless", String(n.leaderless), n.leaderless ? "bad" : ""],
    ...(perSecond === null ? [] : [["Records/s", rate(perSecond), ""]]),
  ];
  keyed(byId("facts"), facts, ([name]) => name, ([name]) => h("div", {}, h("dt", {}, name), h("dd")),
    (element, [, value, tone]) => {
      setText(element.lastElementChild, value);
      setClass(element.lastElementChild, tone);
    });
  const trouble = [
    picture.controller.id < 0 && n.brokers ? "no controller" : "",
    n.leaderless ? `${n.leaderless} leaderless` : "",
    n.live < n.brokers ? `${plural(n.brokers - n.live, "broker")} down` : "",
    n.under ? `${n.under} under-replicated` : "",
  ].filter(Boolean);
  const health = byId("health");
  const known = n.brokers > 0;
  setText(health, !known ? "nothing heard yet" : trouble.length ? trouble.slice(0, 2).join(", ") : "healthy");
  const isBad = n.leaderless || picture.controller.id < 0;
  setClass(health, `pill ${!known ? "" : !trouble.length ? "good" : isBad ? "bad" : "warn"}`);
}

function drawNotices(store) {
  const notices = [];
  if (store.past) {
    notices.push(["past", "past", "", `The cluster as it was at ${clock(store.past.at)}.`]);
  }
  if (store.trouble) notices.push(["trouble", "bad", "", store.trouble]);
  const heard = (name) => store.picture.sources.get(name)?.heard ?? true;
  if (!store.connected) {
    notices.push(["page", "bad", "The dashboard does not answer.", "What is shown may be out of date; trying again."]);
  }
  if (!heard("brokers")) {
    notices.push(["brokers", "bad", "No broker answers.",
      heard("zookeeper") ? "States are read from ZooKeeper; offsets and groups are out of date. Trying again." : "Trying again."]);
  }
  if (!heard("zookeeper")) {
    notices.push(["zookeeper", "bad", "ZooKeeper does not answer.",
      "Leaders and ISR stay as they are; what brokers tell is shown. Trying again."]);
  }
  keyed(byId("notices"), notices, ([key]) => key, ([, tone, title]) =>
    h("p", { class: `notice ${tone}`, role: tone === "bad" ? "alert" : null }, title ? h("strong", {}, title) : "", h("span")),
    (element, [, , , text]) => setText(element.lastElementChild, text));
}
