// Small helpers to build and update the page. Text only ever becomes text nodes.

/** An element: h("p", {class: "x", onclick: f}, "text", otherElement). */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "list" && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Set text or class only where it differs, so that nothing is laid out or announced in vain. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
export function setClass(element, name) {
  if (element.className !== name) element.className = name;
}

/** Make the children of `parent` those of `items`, reusing the element of each key. */
export function keyed(parent, items, keyOf, create, update) {
  const old = parent.keyed ?? new Map();
  const now = new Map();
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const element = old.get(key) ?? create(item);
    old.delete(key);
    now.set(key, element);
    update?.(element, item);
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
  for (const element of old.values()) element.remove();
  parent.keyed = now;
}

/** One tab stop for many: the arrow keys move among what `selector` finds in `container`. */
export function roving(container, selector) {
  container.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const edge = { Home: 0, End: -1 }[event.key];
    if (step === undefined && edge === undefined) return;
    const all = [...container.querySelectorAll(selector)].filter((each) => each.offsetParent);
    const from = all.indexOf(event.target.closest(selector));
    if (from < 0) return;
    const to = edge === undefined ? all[from + step] : all.at(edge);
    if (!to) return;
    event.preventDefault();
    stop(container, selector, to);
    to.focus();
  });
  container.addEventListener("focusin", (event) => {
    const found = event.target.closest(selector);
    if (found) stop(container, selector, found);
  });
}

/** Let `chosen`, or the first, be the tab stop. */
export function stop(container, selector, chosen) {
  const all = container.querySelectorAll(selector);
  const one = chosen ?? [...all].find((each) => each.tabIndex === 0) ?? all[0];
  for (const each of all) each.tabIndex = each === one ? 0 : -1;
}

const pad = (number, digits = 2) => String(number).padStart(digits, "0");

export function clock(ms, withMillis = true) {
  const t = new Date(ms);
  const text = `${pad(t.getHours())}:${pad(t.getMinutes())}:${pad(t.getSeconds())}`;
  return withMillis ? `${text}.${pad(t.getMilliseconds(), 3)}` : text;
}

const whole = new Intl.NumberFormat("en");
export const count = (number) => (number < 0 ? "?" : whole.format(number));
export const plural = (number, noun) => `${whole.format(number)} ${noun}${number === 1 ? "" : "s"}`;

export function rate(perSecond) {
  return perSecond >= 10 ? whole.format(Math.round(perSecond)) : String(Math.round(perSecond * 10) / 10);
}

export function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = number;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit && size < 100 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

export function lasting(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  return s < 172800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`;
}

const colours = new Map();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => colours.clear());

/** A colour of the style sheet. Kept: to ask for it makes the browser lay out the page first. */
export function colour(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return colours.get(name);
}
