// What the page knows: the cluster as it is now, as it was at the moment that is looked at, and
// every change between. The server tells; nothing is decided here.

export class Picture {
  constructor(views = []) {
    this.brokers = new Map();
    this.partitions = new Map();
    this.controller = { id: -1, epoch: -1 };
    this.sources = new Map();
    this.samples = new Map();
    for (const view of views) this.apply(view);
  }

  apply(view) {
    if (view.kind === "broker") this.brokers.set(view.id, view);
    else if (view.kind === "partition") this.partitions.set(view.key, view);
    else if (view.kind === "controller") this.controller = view;
    else if (view.kind === "source") this.sources.set(view.key, view);
    else if (view.kind === "topic-gone") {
      for (const [key, each] of this.partitions) {
        if (each.topic !== view.topic) continue;
        this.partitions.delete(key);
        this.samples.delete(key);
      }
    }
  }

  take(samples) {
    for (const [key, [start, highWatermark, end, replicas, perSecond]] of Object.entries(samples)) {
      this.samples.set(key, { start, highWatermark, end, replicas, perSecond });
    }
  }

  name(id) {
    return this.brokers.get(id)?.name ?? (id > 0 && id <= 26 ? String.fromCharCode(64 + id) : String(id));
  }

  /** The state in the words of the slide. */
  words(partition) {
    const isr = [...partition.isr].sort((a, b) => a - b).map((id) => this.name(id));
    const leader = partition.leader < 0 ? "none" : this.name(partition.leader);
    return `Leader=${leader} Epoch=${partition.epoch} ISR={${isr.join(",")}}`;
  }

  /** "leader", "insync", "behind", "lost" (its broker is down), or "none": no replica of it. */
  role(partition, id) {
    if (!partition.replicas.includes(id)) return "none";
    if (partition.leader === id) return "leader";
    if (partition.isr.includes(id) && partition.leader >= 0) return "insync";
    const status = this.brokers.get(id)?.status;
    return status === "dead" ? "lost" : partition.isr.includes(id) ? "insync" : "behind";
  }
}

/** Topics with their partitions, Kafka's own last. */
export function topics(picture) {
  const found = new Map();
  for (const each of picture.partitions.values()) {
    if (!found.has(each.topic)) found.set(each.topic, []);
    found.get(each.topic).push(each);
  }
  for (const partitions of found.values()) partitions.sort((a, b) => a.partition - b.partition);
  const internal = (name) => name.startsWith("__");
  return [...found].sort(
    ([a], [b]) => internal(a) - internal(b) || (a < b ? -1 : 1),
  );
}

/** Fires "change" with the set of what has changed, at most once a frame. */
export class Store extends EventTarget {
  live = new Picture();
  past = null; // {picture, at, number}
  events = [];
  flow = [];
  tree = new Map();
  groups = [];
  transactions = { open: 0, transactions: [] };
  nodes = [];
  began = 0;
  limit = 0;
  dropped = 0;
  control = false;
  offset = 0; // of the server's clock from this one's
  chosen = null; // key of a partition
  freshCells = new Set(); // "key/broker" that just changed
  freshNodes = new Set(); // paths
  #changed = new Set();

  get picture() {
    return this.past?.picture ?? this.live;
  }

  get now() {
    return Date.now() + this.offset;
  }

  touch(...what) {
    if (!this.#changed.size) requestAnimationFrame(() => this.#tell());
    for (const each of what) this.#changed.add(each);
  }

  #tell() {
    const changed = this.#changed;
    this.#changed = new Set();
    this.dispatchEvent(new CustomEvent("change", { detail: changed }));
  }

  begin(whole) {
    this.live = new Picture(whole.views);
    this.live.take(whole.samples);
    this.events = whole.events;
    this.flow = whole.flow;
    this.tree = new Map(Object.entries(whole.tree));
    Object.assign(this, {
      groups: whole.groups, transactions: whole.transactions, nodes: whole.nodes,
      began: whole.began, limit: whole.limit, dropped: whole.dropped, control: whole.control, offset: whole.now - Date.now(),
    });
    this.touch("picture", "events", "samples", "flow", "tree", "groups", "transactions", "nodes", "all");
  }

  event(event) {
    const last = this.events.at(-1);
    if (last && event.number <= last.number) { // a better reason for an old one
      const index = this.events.findIndex((each) => each.number === event.number);
      if (index >= 0) this.events[index] = event;
    } else {
      this.#mark(event.view);
      this.live.apply(event.view);
      this.events.push(event);
      while (this.events.length > this.limit) {
        this.began = this.events.shift().at;
        this.dropped += 1;
      }
    }
    this.touch("picture", "events");
  }

  #mark(view) {
    if (view.kind !== "partition") return;
    const before = this.live.partitions.get(view.key);
    const after = new Picture([...this.live.brokers.values(), view]);
    for (const id of view.replicas) {
      if (!before || this.live.role(before, id) !== after.role(view, id)) {
        this.freshCells.add(`${view.key}/${id}`);
      }
    }
  }

  treeChange({ changed, gone }) {
    for (const [path, node] of Object.entries(changed)) {
      this.tree.set(path, node);
      this.freshNodes.add(path);
    }
    for (const path of gone) this.tree.delete(path);
    this.touch("tree");
  }

  choose(key) {
    this.chosen = key;
    this.touch("chosen");
  }

  /** Look at the moment right after an event, or at a time; null: live. */
  async look(wanted) {
    this.wanted = wanted;
    if (wanted === null) {
      this.past = null;
      this.touch("picture", "samples", "moment", "chosen");
      return;
    }
    if (this.looking) return; // the newest wish is looked up when the one under way is done
    this.looking = true;
    try {
      while (this.wanted && this.wanted !== this.past?.wanted) {
        const asked = this.wanted;
        const query = asked.number ? `event=${asked.number}` : `at=${Math.round(asked.at)}`;
        const answer = await fetch(`api/state?${query}`);
        if (!answer.ok) throw new Error((await answer.json()).error);
        const found = await answer.json();
        if (this.wanted === null) return;
        const picture = new Picture(found.views);
        picture.take(found.samples);
        this.past = { picture, at: found.at, number: asked.number ?? null, wanted: asked };
        this.touch("picture", "samples", "moment");
      }
    } catch (error) {
      this.wanted = this.past?.wanted ?? null;
      this.trouble = String(error.message ?? error);
      this.touch("moment");
    } finally {
      this.looking = false;
    }
  }
}
