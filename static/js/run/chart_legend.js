// Whose curves are shown: one chip for each reporter. A click on the name shows it alone, another brings back those that
// were shown before; the swatch (or a click with a modifier key) shows or hides the one.
import { element } from "./dom.js";
import { printable } from "./format.js";

const MOST_SHOWN = 60; // reporters whose curves are shown at first; of more, the aggregator's alone

/**
 * Run the legend of a tab.
 *
 * @param {HTMLElement} legend
 * @param {string} kind of the figures
 * @param {import("./store.js").Store} store
 * @param {object} view its `hidden` is changed
 * @param {() => void} changed called after each choice
 * @returns {() => void} to be called when `view` has changed
 */
export function legendStart(legend, kind, store, view, changed) {
  let before = null; // what was hidden before one was shown alone

  function edges() {
    return [...legend.children].map((chip) => Number(chip.dataset.edge));
  }

  function show() {
    for (const chip of legend.children) {
      const shown = !view.hidden?.has(Number(chip.dataset.edge));
      chip.classList.toggle("is-hidden", !shown);
      chip.firstElementChild.setAttribute("aria-pressed", String(shown));
    }
  }

  function toggle(edge) {
    view.hidden = new Set(view.hidden);
    if (!view.hidden.delete(edge)) view.hidden.add(edge);
    before = null;
  }

  function isolate(edge) {
    const others = edges().filter((each) => each !== edge);
    const alone = !view.hidden?.has(edge) && others.every((each) => view.hidden?.has(each));
    if (alone) {
      view.hidden = before?.has(edge) ? new Set() : (before ?? new Set());
      before = null;
    } else {
      before = view.hidden ?? new Set();
      view.hidden = new Set(others);
    }
  }

  function chipOf(edge) {
    const style = store.figures.edges[edge] ?? store.figures.edges[0];
    const name = printable(store.reporterName(edge));
    const swatch = element("button", "chart-chip-toggle", element("span", "chart-swatch"));
    swatch.firstElementChild.style.setProperty("--swatch", style.colour);
    swatch.setAttribute("aria-label", `Show ${name}`);
    swatch.title = "Show or hide";
    const own = element("button", "chart-chip-name", name);
    own.title = "Show this one alone; again to show the others";
    for (const each of [swatch, own]) each.type = "button";
    const chip = element("span", "chart-chip", swatch, own);
    Object.assign(chip.dataset, { edge, dash: style.dash });
    return chip;
  }

  function rebuild() {
    if (!store.figures) return;
    const known = [...new Set([...store.series.values()].filter((series) => series.kind === kind).map((series) => series.edgeId))];
    known.sort((a, b) => a - b);
    const key = known.map((edge) => `${edge}:${store.reporterName(edge)}`).join("\n");
    if (legend.dataset.key === key) return;
    if (view.hidden === null && known.length > MOST_SHOWN && known.includes(0)) {
      view.hidden = new Set(known.filter((edge) => edge !== 0));
      changed(false);
    }
    legend.dataset.key = key;
    legend.replaceChildren(...known.map(chipOf));
    show();
  }

  legend.addEventListener("click", (event) => {
    const chip = event.target.closest("[data-edge]");
    if (!chip || !event.target.closest("button")) return;
    const edge = Number(chip.dataset.edge);
    if (event.target.closest(".chart-chip-toggle") || event.metaKey || event.ctrlKey || event.shiftKey) toggle(edge);
    else isolate(edge);
    show();
    changed(true);
  });
  store.on("all", rebuild);
  store.on("device", rebuild);
  let counted = 0;
  store.on("points", () => {
    if (store.series.size === counted) return; // nobody new
    counted = store.series.size;
    rebuild();
  });
  return show;
}
