// How curves are drawn: over what, how smooth, on which scale, and whose. The choice stands in the address.
import { setText } from "./dom.js";
import { printable } from "./format.js";

const AXES = ["round", "step", "time"];
const MOST_SHOWN = 60; // reporters whose curves are shown at first; of more, the aggregator's alone

/**
 * Run the controls of a tab with figures.
 *
 * @param {HTMLElement} root the tab; contains [data-legend], and on the Results tab the other controls
 * @param {string} kind of the figures
 * @param {import("./store.js").Store} store
 * @param {() => void} changed called after each change
 * @returns {{axis: string, smoothing: number, logarithmic: boolean, hidden: Set<number>}} always the same object
 */
export function chartViewStart(root, kind, store, changed) {
  const { searchParams } = new URL(window.location.href);
  const results = kind === "metric";
  const view = {
    axis: results && AXES.includes(searchParams.get("x")) ? searchParams.get("x") : "round",
    smoothing: results ? Math.min(0.95, Math.max(0, Number(searchParams.get("smooth")) || 0)) : 0,
    logarithmic: results && searchParams.get("log") === "1",
    hidden: new Set(),
  };
  const legend = root.querySelector("[data-legend]");
  const clients = root.querySelector("[data-clients]");

  function remember() {
    const url = new URL(window.location.href);
    const values = {
      x: view.axis === "round" ? "" : view.axis,
      smooth: view.smoothing || "",
      log: view.logarithmic ? "1" : "",
    };
    for (const [key, value] of Object.entries(values)) {
      if (value) url.searchParams.set(key, value);
      else url.searchParams.delete(key);
    }
    window.history.replaceState(window.history.state, "", url);
  }

  function update() {
    for (const chip of legend.children) {
      chip.setAttribute("aria-pressed", String(!view.hidden.has(Number(chip.dataset.edge))));
    }
    if (clients) {
      const edges = [...legend.children].map((chip) => Number(chip.dataset.edge)).filter((edge) => edge !== 0);
      clients.checked = edges.some((edge) => !view.hidden.has(edge));
      clients.disabled = edges.length === 0;
    }
    changed();
  }

  function drawLegend() {
    const edges = [...new Set([...store.series.values()].filter((series) => series.kind === kind).map((series) => series.edgeId))];
    edges.sort((a, b) => a - b);
    const key = edges.map((edge) => `${edge}:${store.reporterName(edge)}`).join("\n");
    if (legend.dataset.key === key) return;
    if (legend.dataset.key === undefined && edges.length > MOST_SHOWN) view.hidden = new Set(edges.filter((edge) => edge !== 0));
    legend.dataset.key = key;
    legend.replaceChildren(
      ...edges.map((edge) => {
        const style = store.figures.edges[edge] ?? store.figures.edges[0];
        const chip = document.createElement("button");
        chip.type = "button";
        chip.className = "chart-chip";
        chip.dataset.edge = edge;
        chip.dataset.dash = style.dash;
        chip.title = "Click: show or hide. Double-click: this one alone.";
        const swatch = document.createElement("span");
        swatch.className = "chart-swatch";
        swatch.style.setProperty("--swatch", style.colour);
        chip.append(swatch, document.createElement("span"));
        setText(chip.lastElementChild, printable(store.reporterName(edge)));
        return chip;
      }),
    );
    update();
  }

  legend.addEventListener("click", (event) => {
    const chip = event.target.closest("[data-edge]");
    if (!chip) return;
    const edge = Number(chip.dataset.edge);
    if (!view.hidden.delete(edge)) view.hidden.add(edge);
    update();
  });
  legend.addEventListener("dblclick", (event) => {
    const chip = event.target.closest("[data-edge]");
    if (!chip) return;
    const others = [...legend.children].filter((each) => each !== chip).map((each) => Number(each.dataset.edge));
    const alone = others.every((edge) => view.hidden.has(edge));
    view.hidden = new Set(alone ? [] : others);
    update();
  });
  store.on("all", drawLegend);
  let counted = 0;
  store.on("points", () => {
    if (store.series.size === counted) return; // nobody new
    counted = store.series.size;
    drawLegend();
  });
  store.on("device", drawLegend);
  if (!results) return view;

  const axes = root.querySelectorAll("[data-axis]");
  const smoothing = root.querySelector("[data-smoothing]");
  const logarithmic = root.querySelector("[data-log-axis]");
  function showControls() {
    for (const button of axes) {
      const chosen = button.dataset.axis === view.axis;
      button.setAttribute("aria-pressed", String(chosen));
      button.classList.toggle("active", chosen);
    }
    smoothing.value = view.smoothing;
    setText(root.querySelector("[data-smoothing-value]"), view.smoothing ? view.smoothing.toFixed(2) : "off");
    logarithmic.checked = view.logarithmic;
  }
  function chosen() {
    showControls();
    remember();
    changed();
  }
  for (const button of axes) {
    button.addEventListener("click", () => {
      view.axis = button.dataset.axis;
      chosen();
    });
  }
  smoothing.addEventListener("input", () => {
    view.smoothing = Number(smoothing.value);
    chosen();
  });
  logarithmic.addEventListener("change", () => {
    view.logarithmic = logarithmic.checked;
    chosen();
  });
  clients.addEventListener("change", () => {
    const edges = [...legend.children].map((chip) => Number(chip.dataset.edge)).filter((edge) => edge !== 0);
    for (const edge of edges) {
      if (clients.checked) view.hidden.delete(edge);
      else view.hidden.add(edge);
    }
    update();
  });
  showControls();
  return view;
}
