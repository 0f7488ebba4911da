// The strip at the foot: every change since the start, and the moment that is shown.

import { byId, clock, colour, setText } from "./dom.js";

export function startTimeline(store) {
  const slider = byId("moment");
  const live = byId("live");
  const canvas = byId("ticks");
  slider.addEventListener("input", () => {
    const at = Number(slider.value);
    store.look(at >= Number(slider.max) ? null : { at });
  });
  slider.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (step) {
      event.preventDefault();
      move(store, step);
    } else if (event.key === "End" || event.key === "Home") {
      event.preventDefault();
      if (event.key === "End") store.look(null);
      else store.look({ at: store.began });
    }
  });
  byId("previous").addEventListener("click", () => move(store, -1));
  byId("next").addEventListener("click", () => move(store, 1));
  live.addEventListener("click", () => store.look(null));
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && store.past) store.look(null);
  });
  store.addEventListener("change", ({ detail }) => {
    if (["events", "moment", "flow", "all"].some((each) => detail.has(each))) draw(store, slider, live, canvas);
  });
  new ResizeObserver(([{ contentRect }]) => {
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(contentRect.width * scale);
    canvas.height = Math.round(contentRect.height * scale);
    store.touch("moment");
  }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => store.touch("moment"));
}

/** To the change before or after the moment that is shown. */
function move(store, step) {
  const { events, past } = store;
  let index;
  if (!past) index = step < 0 ? events.length - 2 : events.length;
  else if (past.number) index = events.findIndex((each) => each.number === past.number) + step;
  else if (step > 0) index = events.findIndex((each) => each.at > past.at);
  else index = events.findLastIndex((each) => each.at <= past.at);
  if (step > 0 && (index < 0 || index >= events.length)) store.look(null);
  else if (index < 0) store.look({ at: store.began });
  else store.look({ number: events[index].number });
}

function draw(store, slider, live, canvas) {
  const from = store.began;
  const to = Math.max(store.now, from + 1000);
  slider.min = String(from);
  slider.max = String(Math.round(to));
  const at = store.past?.at ?? Math.round(to);
  slider.value = String(at);
  const event = store.past?.number ? store.events.find((each) => each.number === store.past.number) : null;
  slider.setAttribute("aria-valuetext", store.past ? `${clock(at)}${event ? `, ${event.text}` : ""}` : "live");
  setText(byId("moment-text"), store.past ? clock(at) : clock(to, false));
  live.setAttribute("aria-pressed", String(!store.past));
  document.body.classList.toggle("is-past", store.past !== null);
  paint(store, canvas, from, to);
}

function paint(store, canvas, from, to) {
  const scale = devicePixelRatio || 1;
  const { width, height } = canvas;
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = colour("--line");
  pen.fillRect(0, height / 2 - scale, width, 2 * scale);
  // Good, neutral and bad changes differ in place and height as well as in colour.
  const look = { note: ["--soft", 0.35, 0.3], good: ["--insync", 0.5, 0.42], bad: ["--lost", 0.08, 0.42] };
  for (const tone of ["note", "good", "bad"]) {
    const [name, top, share] = look[tone];
    pen.fillStyle = colour(name);
    let last = -1;
    for (const event of store.events) {
      if (event.tone !== tone) continue;
      const x = Math.round(5 * scale + ((event.at - from) / (to - from)) * (width - 10 * scale));
      if (x === last) continue;
      last = x;
      pen.fillRect(x - scale, height * top, 2 * scale, height * share);
    }
  }
}
