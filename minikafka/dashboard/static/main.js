// Wires the parts together and listens to the server.

import { startBrokers } from "./brokers.js";
import { startChanges } from "./changes.js";
import { flowChart } from "./charts.js";
import { takeToken } from "./control.js";
import { startDetail } from "./detail.js";
import { byId, rate, setClass, setText } from "./dom.js";
import { startMap } from "./map.js";
import { Store } from "./store.js";
import { startTables } from "./tables.js";
import { startTimeline } from "./timeline.js";
import { startTree } from "./tree.js";

const SILENT_AFTER_MS = 12_000; // more than two heartbeats of the server

const store = new Store();
takeToken();
addEventListener("hashchange", () => {
  takeToken();
  store.touch("picture");
});
startBrokers(store);
startMap(store);
startDetail(store);
startChanges(store);
startTimeline(store);
startTree(store);
startTables(store);
startFlow();
listen();

function startFlow() {
  const chart = flowChart(byId("flow"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => store.touch("flow", "samples"));
  store.addEventListener("change", ({ detail }) => {
    if (!detail.has("flow")) return;
    const since = store.now - 300_000;
    const points = store.flow.filter(([at]) => at >= since);
    setText(byId("flow-now"), `${rate(store.flow.at(-1)?.[1] ?? 0)} a second, over five minutes`);
    chart.draw([points.map(([at]) => at / 1000), points.map(([, perSecond]) => perSecond)], "flow");
  });
}

/** The browser reconnects by itself after most failures; after the others, we do. */
function listen() {
  const source = new EventSource("api/events");
  let heardAt = Date.now();
  const on = (kind, take) =>
    source.addEventListener(kind, (event) => {
      heardAt = Date.now();
      connected(true);
      take(JSON.parse(event.data));
    });
  on("snapshot", (whole) => store.begin(whole));
  on("event", (event) => store.event(event));
  on("views", (views) => {
    for (const view of views) store.live.apply(view);
    store.touch("picture");
  });
  on("offsets", ({ samples }) => {
    store.live.take(samples);
    store.touch("samples");
  });
  on("flow", ({ at, rate: perSecond, samples }) => {
    store.flow.push([at, perSecond]);
    if (store.flow.length > 600) store.flow.shift();
    store.live.take(samples);
    store.touch("flow", "samples");
  });
  on("tree", (change) => store.treeChange(change));
  on("groups", (groups) => {
    store.groups = groups;
    store.touch("groups");
  });
  on("transactions", (transactions) => {
    store.transactions = transactions;
    store.touch("transactions");
  });
  on("nodes", (nodes) => {
    store.nodes = nodes;
    store.touch("nodes");
  });
  on("beat", ({ now }) => {
    store.offset = now - Date.now();
  });
  const again = () => {
    clearInterval(watch);
    source.close();
    connected(false);
    setTimeout(listen, 1000);
  };
  source.onerror = () => {
    connected(false);
    if (source.readyState === EventSource.CLOSED) again();
  };
  const watch = setInterval(() => {
    if (Date.now() - heardAt > SILENT_AFTER_MS) again();
  }, 2000);
}

function connected(isConnected) {
  if (store.connected === isConnected) return;
  store.connected = isConnected;
  const place = byId("connection");
  setClass(place, `connection ${isConnected ? "on" : "off"}`);
  setText(place, isConnected ? "live" : "not connected, trying again");
  store.touch("connection");
}
