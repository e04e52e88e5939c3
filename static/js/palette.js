// The command palette: Ctrl-K or Cmd-K, or the button [data-palette-open]. It asks the server (accounts/palette.py) what
// matches and shows it as a listbox that the input controls; the arrows choose, Enter opens, Escape closes.
import { icon } from "./icons.js";

const WAIT_MS = 120; // a pause in typing
const url = document.body.dataset.paletteUrl;

let dialog = null;
let input, list, status;
let options = [];
let chosen = 0;
let asked = null; // the request under way
let timer = null;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function build() {
  input = element("input", {
    class: "rt-palette-input",
    type: "text",
    role: "combobox",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "Find a run, project, device, configuration, group or action",
    "aria-label": "Find a run, project, device, configuration, group or action",
    "aria-expanded": "true",
    "aria-autocomplete": "list",
    "aria-controls": "palette-list",
  });
  list = element("div", { class: "rt-palette-list", id: "palette-list", role: "listbox", "aria-label": "Results" });
  status = element("p", { class: "rt-palette-status", role: "status" });
  const hint = element("p", { class: "rt-palette-hint", "aria-hidden": "true" });
  hint.append("Arrows choose, Enter opens, Escape closes. ", element("kbd", {}, "?"), " lists the shortcuts.");
  dialog = element("dialog", { class: "rt-dialog rt-palette", "aria-label": "Search and go to" });
  const bar = element("div", { class: "rt-palette-bar" }, icon("search"), input);
  dialog.append(bar, list, status, hint);
  document.body.append(dialog);
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, WAIT_MS);
  });
  dialog.addEventListener("keydown", pressed);
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // the backdrop
  });
  list.addEventListener("mousemove", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) choose(options.indexOf(option), false);
  });
}

function choose(index, scroll = true) {
  options[chosen]?.setAttribute("aria-selected", "false");
  chosen = options.length ? (index + options.length) % options.length : 0;
  const option = options[chosen];
  if (!option) {
    input.removeAttribute("aria-activedescendant");
    return;
  }
  option.setAttribute("aria-selected", "true");
  input.setAttribute("aria-activedescendant", option.id);
  if (scroll) option.scrollIntoView({ block: "nearest" });
}

function pressed(event) {
  const moves = { ArrowDown: 1, ArrowUp: -1 };
  if (event.key in moves) {
    event.preventDefault();
    choose(chosen + moves[event.key]);
  } else if (event.key === "Enter" && !event.isComposing) {
    event.preventDefault();
    open(event.ctrlKey || event.metaKey);
  }
}

// What was typed last counts, also when its answer is still on the way.
async function open(inNewTab) {
  if (timer !== null) {
    clearTimeout(timer);
    await ask();
  } else if (asked) {
    await asked.done;
  }
  const link = options[chosen];
  if (!link) return;
  if (inNewTab) window.open(link.href, "_blank", "noopener");
  else location.assign(link.href);
}

function show(results) {
  const kinds = new Map();
  for (const result of results) kinds.set(result.kind, [...(kinds.get(result.kind) ?? []), result]);
  options = [];
  const groups = [...kinds].map(([kind, found]) => {
    const heading = element("div", { class: "rt-palette-kind", id: `palette-kind-${kind.replaceAll(" ", "-")}` }, kind);
    const group = element("div", { role: "group", "aria-labelledby": heading.id }, heading);
    for (const { title, detail, url: target, icon: drawn } of found) {
      const words = element("span", { class: "rt-palette-words" }, title);
      if (detail) words.append(element("span", { class: "rt-palette-detail" }, detail));
      const attributes = { role: "option", href: target, tabindex: "-1", "aria-selected": "false" };
      const option = element("a", { id: `palette-option-${options.length}`, ...attributes }, icon(drawn), words);
      options.push(option);
      group.append(option);
    }
    return group;
  });
  list.replaceChildren(...groups);
  list.scrollTop = 0;
  status.textContent = results.length ? `${results.length} found` : "Nothing matches. Try fewer words.";
  status.classList.toggle("visually-hidden", results.length > 0);
  choose(0, false);
}

function ask() {
  timer = null;
  asked?.controller.abort();
  const controller = new AbortController();
  const request = { controller, done: null };
  request.done = answer(controller.signal);
  asked = request;
  return request.done;
}

async function answer(signal) {
  try {
    const response = await fetch(`${url}?q=${encodeURIComponent(input.value)}`, {
      signal,
      headers: { Accept: "application/json" },
    });
    if (!response.ok || response.redirected) throw new Error(String(response.status));
    const { results } = await response.json();
    if (!signal.aborted) show(results);
  } catch {
    if (signal.aborted) return;
    show([]);
    status.textContent = "The server did not answer. Check your connection, or reload the page.";
  }
}

export function openPalette() {
  if (!url) return;
  if (!dialog) build();
  if (dialog.open) return dialog.close();
  if (document.querySelector("dialog[open]")) return;
  input.value = "";
  dialog.showModal();
  input.focus();
  ask();
}

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") {
    if (!url) return;
    event.preventDefault();
    openPalette();
  }
});
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-palette-open]")) openPalette();
});
