// All figures of one kind, on one tab: which there are, in which order, and when they are drawn.
import { ChartPanel } from "./chart_panel.js";
import { rowsOf } from "./store.js";

// Before all others, in this order; the rest follows by name.
const FIRST = {
  metric: [/acc/i, /loss/i],
  system: [/^cpu_/, /^system_memory/, /^gpu\..*utilization$/, /^gpu/, /^process_cpu_util/, /^process_memory_in/, /^network/, /^disk/],
};
const LEAST_WAIT = 100; // milliseconds between two drawings
const SERIES_AT_ONCE = 200; // that the server answers in one request
const SHARE = 3; // wait so many times as long as the last drawing took

function rank(kind, figure) {
  const place = FIRST[kind].findIndex((pattern) => pattern.test(figure.name));
  return place < 0 ? FIRST[kind].length : place;
}

/** How a GPU's figure is described by the rule for all of them; see runs/live/figures.py. */
function gpuFigure(names, name) {
  const [, number, figure] = /^gpu\.(\d{1,4})\.(\w+)$/.exec(name) ?? [];
  const rule = names[`gpu.n.${figure}`];
  return rule && { ...rule, title: rule.title.replace("{n}", number) };
}

/**
 * Draw the figures of `kind` and keep them true. A figure out of sight is drawn when it comes into sight.
 *
 * @param {HTMLElement} root the tab; contains [data-charts] and [data-charts-empty], within [data-chart-url]
 * @param {"metric"|"system"} kind
 * @param {import("./store.js").Store} store
 * @param {object} view how curves are drawn (chart_view.js); the same object stays, its values change
 * @returns {{redraw: () => void}} to be called when `view` has changed
 */
export function chartsStart(root, kind, store, view) {
  const grid = root.querySelector("[data-charts]");
  const empty = root.querySelector("[data-charts-empty]");
  const panels = new Map();
  let scheduled = false;
  let notBefore = 0;

  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const panel = panels.get(target.dataset.figure);
        if (!panel) continue;
        panel.visible = isIntersecting;
        if (isIntersecting && panel.dirty) schedule();
      }
    },
    { rootMargin: "200px" },
  );

  function schedule() {
    if (scheduled) return;
    scheduled = true;
    setTimeout(() => requestAnimationFrame(drawDirty), Math.max(0, notBefore - performance.now()));
  }

  // Everything that is due is drawn in one animation frame.
  function drawDirty() {
    scheduled = false;
    const theme = document.documentElement.dataset.bsTheme === "dark" ? "dark" : "light";
    const start = performance.now();
    for (const panel of panels.values()) if (panel.dirty && panel.visible) panel.draw(view, theme);
    const end = performance.now();
    notBefore = end + Math.max(LEAST_WAIT, SHARE * (end - start));
  }

  function panelOf(series) {
    const key = `${kind}:${series.name}`;
    const existing = panels.get(key);
    if (existing) return existing;
    const panel = new ChartPanel(figureOf(series.name), store, zoomed);
    panels.set(key, panel);
    const order = [...panels.values()].sort(
      (a, b) => rank(kind, a.figure) - rank(kind, b.figure) || a.figure.name.localeCompare(b.figure.name),
    );
    grid.insertBefore(panel.root, order[order.indexOf(panel) + 1]?.root ?? null);
    watcher.observe(panel.root);
    empty.hidden = true;
    return panel;
  }

  function figureOf(name) {
    const { figures, prototypes, names } = store.figures;
    const known = figures.find((figure) => figure.kind === kind && figure.name === name);
    if (known) return known;
    const described = names[name] ?? gpuFigure(names, name) ?? { title: name, unit: "", range: null };
    const { layout } = prototypes[kind];
    const yaxis = { ...layout.yaxis, ticksuffix: described.unit, ...(described.range ? { range: described.range } : {}) };
    return { kind, name, title: described.title, layout: { ...layout, yaxis } };
  }

  function take(series) {
    if (series.kind !== kind) return;
    const panel = panelOf(series);
    if (!panel.series.includes(series)) {
      panel.series.push(series);
      // The aggregator is drawn last, above the devices.
      panel.series.sort((a, b) => (a.edgeId === 0) - (b.edgeId === 0) || a.edgeId - b.edgeId);
    }
    panel.dirty = true;
    if (panel.visible) schedule();
  }

  // The page has at most a thousand points of a series: for a part of it, the server has more.
  async function zoomed(panel, low, high) {
    const axis = panel.axis(view);
    const ends = [low, high].map((end) => {
      if (axis === "time") return new Date(String(end).replace(" ", "T")).getTime() / 1000;
      return axis === "round" ? end - 1 : end;
    });
    const url = new URL(root.closest("[data-chart-url]").dataset.chartUrl, window.location.href);
    const ids = panel.series.filter((series) => !view.hidden.has(series.edgeId)).map((series) => series.id);
    url.search = new URLSearchParams({ series: ids.slice(0, SERIES_AT_ONCE).join(), x: axis, from: ends[0], to: ends[1] });
    const response = await fetch(url, { headers: { Accept: "application/json" } });
    if (response.ok) store.apply([{ t: "points", series: [], points: rowsOf((await response.json()).points) }]);
  }

  function redraw() {
    for (const panel of panels.values()) panel.dirty = true;
    schedule();
  }

  store.on("all", () => {
    for (const panel of panels.values()) {
      panel.series = [];
      panel.dirty = true;
    }
    for (const series of store.series.values()) take(series);
    empty.hidden = panels.size > 0;
    schedule();
  });
  store.on("points", (changed) => changed.forEach(take));
  document.addEventListener("roundtable:theme", redraw);
  return { redraw };
}
