// The buttons of --control. The link that the command printed has a token, without which there are
// none; it is kept for this tab.

import { byId, h, setClass, setText } from "./dom.js";

const KEPT = "minikafka-token";
const OFFERED = { live: ["kill", "pause", "restart"], paused: ["resume", "kill"], starting: ["kill"], dead: ["restart"] };
const LABEL = { kill: "Kill", pause: "Pause", resume: "Resume", restart: "Restart" };
const busy = new Set();

export function takeToken() {
  const found = /^#token=([\w-]+)$/.exec(location.hash);
  if (!found) return;
  sessionStorage.setItem(KEPT, found[1]);
  history.replaceState(null, "", location.pathname);
}

export const token = () => sessionStorage.getItem(KEPT);
export const canControl = (store) => store.control && token() !== null;

/** The buttons that fit a broker; none without --control, and none in the past. */
export function buttons(store, place, broker) {
  const offered = canControl(store) && !store.past ? OFFERED[broker.status] : [];
  const shape = `${offered.join()}/${broker.name}`;
  if (place.dataset.shape !== shape) {
    const had = place.contains(document.activeElement);
    place.dataset.shape = shape;
    place.replaceChildren(...offered.map((action) =>
      h("button", { type: "button", "data-action": action, "aria-label": `${LABEL[action]} broker ${broker.name}`,
        onclick: () => act(store, action, String(broker.id)) }, LABEL[action])));
    if (had) place.querySelector("button")?.focus();
  }
  for (const button of place.children) button.disabled = busy.has(`${button.dataset.action}/${broker.id}`);
  place.hidden = !offered.length;
}

export async function act(store, action, target) {
  const key = `${action}/${target}`;
  if (busy.has(key)) return;
  busy.add(key);
  store.touch("picture", "chosen");
  say("…", "");
  try {
    const answer = await fetch(`api/control/${action}`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-minikafka-token": token() ?? "" },
      body: JSON.stringify({ target }),
    });
    const body = await answer.json();
    if (answer.ok) say(body.said, "");
    else say(body.error, "bad");
  } catch (error) {
    say(`The dashboard does not answer (${error.message}).`, "bad");
  } finally {
    busy.delete(key);
    store.touch("picture", "chosen");
  }
}

export const isBusy = (action, target) => busy.has(`${action}/${target}`);

function say(text, tone) {
  const said = byId("control-said");
  said.hidden = false;
  setClass(said, `said ${tone}`);
  setText(said, text);
}
