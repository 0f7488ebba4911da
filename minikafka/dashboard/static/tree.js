// ZooKeeper's tree, as it is now.

import { byId, h, keyed, plural, setText } from "./dom.js";

const SHOWN = 160;
const OPEN_DEPTH = 2;

export function startTree(store) {
  store.addEventListener("change", ({ detail }) => {
    if (!detail.has("tree")) return;
    draw(store);
  });
}

function draw(store) {
  const place = byId("tree");
  setText(byId("tree-count"), store.tree.size ? `${plural(store.tree.size, "node")}, live` : "");
  if (!store.tree.has("/")) {
    place.keyed = undefined;
    place.replaceChildren(h("p", { class: "empty" }, "Nothing of ZooKeeper is known here (--zookeeper tells where it is)."));
    return;
  }
  const children = new Map();
  for (const path of store.tree.keys()) {
    if (path === "/") continue;
    const parent = path.slice(0, path.lastIndexOf("/")) || "/";
    if (!children.has(parent)) children.set(parent, []);
    children.get(parent).push(path);
  }
  for (const list of children.values()) list.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  if (place.firstElementChild?.tagName !== "UL") place.replaceChildren(h("ul"));
  fill(store, place.firstElementChild, children.get("/") ?? [], children, 1);
  store.freshNodes.clear();
}

function fill(store, list, paths, children, depth) {
  keyed(list, paths, (path) => `${path}${children.has(path) ? "/" : ""}`, (path) => item(path, children.has(path), depth),
    (element, path) => {
      const line = element.querySelector(".znode");
      const node = store.tree.get(path);
      const data = node.data.length > SHOWN ? `${node.data.slice(0, SHOWN)}…` : node.data;
      const [, text, version, ephemeral] = line.children;
      setText(text, data ? ` ${data} ` : " ");
      text.title = node.data;
      setText(version, `v${node.version}`);
      ephemeral.hidden = !node.ephemeral;
      if (store.freshNodes.has(path)) {
        line.classList.add("fresh");
        setTimeout(() => line.classList.remove("fresh"), 1500);
      }
      if (children.has(path)) fill(store, element.querySelector("ul"), children.get(path), children, depth + 1);
    });
}

function item(path, hasChildren, depth) {
  const line = [h("span", {}, path.slice(path.lastIndexOf("/") + 1)), h("span", { class: "data" }), h("span", { class: "version" }),
    h("span", { class: "ephemeral", hidden: true }, " ephemeral")];
  if (!hasChildren) return h("li", {}, h("div", { class: "znode leaf", "data-path": path }, ...line));
  return h("li", {}, h("details", { open: depth <= OPEN_DEPTH }, h("summary", { class: "znode", "data-path": path }, ...line), h("ul")));
}
