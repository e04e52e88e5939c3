// The buttons of a panel: what can be done with it, also without a mouse.
import { icon } from "../icons.js";
import { button, element } from "./dom.js";
import { sizeBounded } from "./chart_state.js";

const ACTIONS = [
  ["wider", "arrows-diagonal", "Wider"],
  ["narrower", "arrows-minimize", "Narrower"],
  ["earlier", "arrow-left", "Move back"],
  ["later", "arrow-right", "Move on"],
  null,
  ["csv", "file-text", "Download CSV"],
  ["json", "file-code", "Download JSON"],
  ["png", "download", "Download PNG"],
  ["svg", "download", "Download SVG"],
  null,
  ["remove", "x", "Remove panel"],
];
const STEP = 20; // pixels of a panel's height

/** Full screen and the menu of a panel. Choosing calls `panel.on.action(panel, name)`. */
export function panelButtons(panel) {
  const full = button("btn btn-icon btn-sm btn-ghost-secondary", "maximize", "Full screen");
  full.dataset.action = "full";
  const summary = element("summary", "btn btn-icon btn-sm btn-ghost-secondary", icon("dots-vertical"));
  summary.setAttribute("aria-label", `More for ${panel.title}`);
  summary.title = "More";
  const list = element("div", "chart-menu-list");
  for (const action of ACTIONS) {
    if (action === null) {
      list.append(document.createElement("hr"));
      continue;
    }
    const [name, iconName, label] = action;
    const item = element("button", "chart-menu-item", icon(iconName), label);
    item.type = "button";
    item.dataset.action = name;
    list.append(item);
  }
  const menu = element("details", "chart-menu", summary, list);
  const buttons = element("span", "chart-buttons", full, menu);
  buttons.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-action]");
    if (!chosen) return;
    menu.open = false;
    panel.on.action(panel, chosen.dataset.action);
  });
  menu.addEventListener("toggle", () => {
    if (!menu.open) return;
    // The last panel of a row would open it beyond the window.
    list.classList.toggle("is-left", list.getBoundingClientRect().left < 4);
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    event.stopPropagation();
    menu.open = false;
    summary.focus();
  });
  document.addEventListener("pointerdown", (event) => {
    if (menu.open && !menu.contains(event.target)) menu.open = false;
  });
  return buttons;
}

/** The corner by which a panel is made larger and smaller: with the pointer, or with the arrow keys. */
export function panelHandle(panel) {
  const handle = element("button", "chart-handle");
  handle.type = "button";
  handle.setAttribute("aria-label", `Size of ${panel.title}: arrow keys`);
  handle.title = "Drag to resize";
  let start = null;

  function sizeAt(event) {
    const width = start.width + event.clientX - start.x;
    const columns = width / (start.width / start.columns);
    return sizeBounded([columns, Math.round((start.height + event.clientY - start.y) / STEP) * STEP]);
  }
  handle.addEventListener("pointerdown", (event) => {
    const [columns] = panel.size;
    start = { x: event.clientX, y: event.clientY, width: panel.root.offsetWidth, height: panel.plot.offsetHeight, columns };
    handle.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  handle.addEventListener("pointermove", (event) => start && panel.on.resized(panel, sizeAt(event), false));
  handle.addEventListener("pointerup", (event) => {
    if (!start) return;
    const size = sizeAt(event);
    start = null;
    panel.on.resized(panel, size, true);
  });
  handle.addEventListener("pointercancel", () => (start = null));
  handle.addEventListener("keydown", (event) => {
    const [columns, height] = panel.size;
    const wanted = {
      ArrowRight: [columns + 1, height],
      ArrowLeft: [columns - 1, height],
      ArrowDown: [columns, height + STEP],
      ArrowUp: [columns, height - STEP],
    }[event.key];
    if (!wanted) return;
    event.preventDefault();
    panel.on.resized(panel, sizeBounded(wanted), true);
  });
  return handle;
}
