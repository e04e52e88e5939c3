// One websocket a page, /ws/updates/, with what changes anywhere that this user may see:
//
//   {"kind": "device" | "run" | "project", "id": 3, "state": "IDLE", "label": "Idle", "colour": "green",
//    "since": seconds since the epoch, "reason": "", "rounds": {"round_index": 2, "total_rounds": 10}, ...}
//   {"kind": "toast", "level": "success", "text": "Run eye_rain finished", "url": "/runs/7/"}
//
// Elements follow by name: data-live="device:3:state" is a badge (inc/badge.html), "device:3:since" holds a time,
// "run:7:rounds" the rounds done, a <progress data-live="run:7:rounds"> the same; any other part ("device:3:name") has its
// text set to the value of that name. Every message is also a DOM event "roundtable:update" on document, with the message
// as detail; "roundtable:reconnected" says that messages may have been missed.
import { timeElement } from "./times.js";
import { showToast } from "./toast.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15000;
const BANNER_AFTER_MS = 1500; // a reconnection that takes less is not worth a word

function setBadge(badge, { label, colour, reason }) {
  for (const name of [...badge.classList]) if (/^state-(?!dot|label)/.test(name)) badge.classList.remove(name);
  badge.classList.add(`state-${colour}`);
  badge.querySelector(".state-label").textContent = label;
  badge.title = reason ?? "";
}

function setTime(element, since) {
  const style = element.querySelector("time")?.dataset.time ?? "since";
  element.replaceChildren(timeElement(new Date(since * 1000), style));
}

function setRounds(element, { round_index, total_rounds }) {
  if (element instanceof HTMLProgressElement) {
    element.max = Math.max(1, total_rounds);
    element.value = round_index + 1;
  } else {
    element.textContent = total_rounds ? `${round_index + 1} / ${total_rounds}` : "-";
  }
}

/** Patch what the page shows of one object. */
export function applyUpdate(update) {
  const prefix = `${update.kind}:${update.id}:`;
  for (const element of document.querySelectorAll(`[data-live^="${CSS.escape(prefix)}"]`)) {
    const part = element.dataset.live.slice(prefix.length);
    if (part === "state") {
      if (update.label) setBadge(element, update);
    } else if (part === "since") {
      if (update.since) setTime(element, update.since);
    } else if (part === "rounds") {
      if (update.rounds) setRounds(element, update.rounds);
    } else if (["string", "number"].includes(typeof update[part])) {
      element.textContent = update[part];
    }
  }
}

function receive(event) {
  let update;
  try {
    update = JSON.parse(event.data);
  } catch {
    return; // not for us
  }
  if (update.kind === "toast") showToast(update);
  else applyUpdate(update);
  document.dispatchEvent(new CustomEvent("roundtable:update", { detail: update }));
}

let wait = FIRST_WAIT_MS;
let bannerTimer = null;
let lost = false;

function showBanner(visible) {
  const banner = document.getElementById("connection-banner");
  clearTimeout(bannerTimer);
  bannerTimer = null;
  if (banner) banner.hidden = !visible;
}

function connect() {
  const address = new URL("/ws/updates/", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(address);
  socket.addEventListener("message", receive);
  socket.addEventListener("open", () => {
    wait = FIRST_WAIT_MS;
    showBanner(false);
    // What was missed meanwhile is fetched by whoever shows it.
    if (lost) document.dispatchEvent(new CustomEvent("roundtable:reconnected"));
    lost = false;
  });
  socket.addEventListener("close", () => {
    lost = true;
    bannerTimer ??= setTimeout(() => showBanner(true), BANNER_AFTER_MS);
    setTimeout(connect, wait * (0.75 + Math.random() / 2)); // not all browsers at the same moment
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  });
}

if (document.body.hasAttribute("data-updates")) connect();
