// Keys that work on every page while nothing is being typed; ? lists them.
import { openPalette } from "./palette.js";

const GO = { h: ["Home", "/"], d: ["Devices", "/devices/"], g: ["Groups", "/groups/"] };
Object.assign(GO, { p: ["Projects", "/projects/"], c: ["Configurations", "/configurations/"] });
const LEADER_MS = 1500; // how long after g the second key may come
const KEYS = [
  [["Ctrl", "K"], "Find a run, project, device, configuration, group or action (on a Mac, Cmd K)"],
  [["/"], "Search in this list"],
  ...Object.entries(GO).map(([key, [name]]) => [["g", key], `Go to ${name}`]),
  [["?"], "This list"],
  [["Esc"], "Close what is open"],
];

let leaderAt = 0;

const isTyping = ({ target }) =>
  target instanceof Element && target.closest("input, textarea, select, [contenteditable], [role=textbox]") !== null;

function listKeys() {
  const dialog = document.createElement("dialog");
  dialog.className = "rt-dialog rt-shortcuts";
  dialog.setAttribute("aria-labelledby", "shortcuts-title");
  const form = document.createElement("form");
  form.method = "dialog";
  const title = document.createElement("h2");
  title.id = "shortcuts-title";
  title.textContent = "Keyboard shortcuts";
  const table = document.createElement("dl");
  for (const [keys, words] of KEYS) {
    const term = document.createElement("dt");
    for (const key of keys) {
      const cap = document.createElement("kbd");
      cap.textContent = key;
      term.append(cap, " ");
    }
    const meaning = document.createElement("dd");
    meaning.textContent = words;
    table.append(term, meaning);
  }
  const buttons = document.createElement("div");
  buttons.className = "rt-dialog-buttons";
  const close = document.createElement("button");
  close.className = "btn";
  close.textContent = "Close";
  buttons.append(close);
  form.append(title, table, buttons);
  dialog.append(form);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  if (!document.body.dataset.paletteUrl || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.defaultPrevented || isTyping(event) || document.querySelector("dialog[open]")) return;
  const afterLeader = event.timeStamp - leaderAt < LEADER_MS;
  leaderAt = 0;
  if (afterLeader && event.key in GO) {
    event.preventDefault();
    location.assign(GO[event.key][1]);
  } else if (event.key === "g") {
    leaderAt = event.timeStamp;
  } else if (event.key === "?") {
    event.preventDefault();
    listKeys();
  } else if (event.key === "/") {
    event.preventDefault();
    const search = [...document.querySelectorAll("main input[type=search]")].find((each) => each.checkVisibility());
    if (search) search.focus();
    else openPalette();
  }
});
