// All figures of one kind, on one tab: which there are, when they are drawn, and what is done with them.
import { panelAsk } from "./chart_add.js";
import { panelDownload } from "./chart_download.js";
import { ChartGrid } from "./chart_grid.js";
import { legendStart } from "./chart_legend.js";
import { ChartPanel } from "./chart_panel.js";
import { sizeBounded } from "./chart_state.js";
import { chartViewStart } from "./chart_view.js";
import { WindowSource } from "./chart_window.js";

const LEAST_WAIT = 30; // milliseconds between two drawings
const SHARE = 1; // wait so many times as long as the last drawing took
const MOST_DRAWN = 40; // figures kept drawn; of more, those out of sight are drawn anew when they come back

/** How a GPU's figure is described by the rule for all of them; see runs/live/figures.py. */
function gpuFigure(names, name) {
  const [, number, figure] = /^gpu\.(\d{1,4})\.(\w+)$/.exec(name) ?? [];
  const rule = names[`gpu.n.${figure}`];
  return rule && { ...rule, title: rule.title.replace("{n}", number) };
}

/**
 * Draw the figures of `kind` and keep them true. A figure out of sight is drawn when it comes into sight.
 *
 * @param {HTMLElement} root the tab; contains [data-charts], [data-charts-empty], [data-legend] and the controls
 * @param {"metric"|"system"} kind
 * @param {import("./store.js").Store} store
 * @param {string} chartUrl where more points are had
 * @param {{url: string, saved: object|null}} kept see chart_view.js
 */
export function chartsStart(root, kind, store, chartUrl, kept) {
  const empty = root.querySelector("[data-charts-empty]");
  const tools = root.querySelector("[data-chart-tools]");
  const panels = new Map(); // by key
  const byName = new Map(); // name of a metric -> panels
  let scheduled = false;
  let notBefore = 0;
  const { view, set } = chartViewStart(root, kind, kept, () => changed());
  const grid = new ChartGrid(root.querySelector("[data-charts]"), kind, view, set);
  const legendShow = legendStart(root.querySelector("[data-legend]"), kind, store, view, (save) => set({}, save));
  const more = new WindowSource(chartUrl, store);

  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const panel = panels.get(target.dataset.figure);
        if (panel) panel.visible = isIntersecting;
      }
      releaseFar();
      schedule();
    },
    { rootMargin: "60px" },
  );
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const panel = panels.get(target.closest(".chart").dataset.figure);
      if (panel?.drawn && target.offsetWidth > 0) window.Plotly.Plots.resize(target);
    }
  });

  function releaseFar() {
    const drawn = [...panels.values()].filter((panel) => panel.drawn);
    for (const panel of drawn.filter((each) => !each.visible).slice(0, Math.max(0, drawn.length - MOST_DRAWN))) panel.release();
  }

  function schedule() {
    if (scheduled) return;
    scheduled = true;
    const wait = notBefore - performance.now();
    if (wait > 0) setTimeout(() => requestAnimationFrame(drawDue), wait);
    else requestAnimationFrame(drawDue);
  }

  // Everything that is due is drawn in one animation frame.
  function drawDue() {
    scheduled = false;
    const theme = document.documentElement.dataset.bsTheme === "dark" ? "dark" : "light";
    const start = performance.now();
    const due = [...panels.values()].filter((panel) => panel.visible && panel.dirty);
    for (const panel of due) panel.draw(theme);
    const end = performance.now();
    notBefore = end + Math.max(LEAST_WAIT, SHARE * (end - start));
    if (view.zoom) more.fetch(due);
    if (due.some((panel) => panel.dirty)) setTimeout(schedule, LEAST_WAIT);
  }

  function figureOf(name) {
    const { figures, prototypes, names } = store.figures;
    const known = figures.find((figure) => figure.kind === kind && figure.name === name);
    if (known) return known;
    const described = names[name] ?? gpuFigure(names, name) ?? { title: name, unit: "", range: null };
    const { layout } = prototypes[kind];
    const yaxis = { ...layout.yaxis, ticksuffix: described.unit, ...(described.range ? { range: described.range } : {}) };
    return { title: described.title, layout: { ...layout, yaxis } };
  }

  function panelMake(key, names, added) {
    const { layout } = figureOf(names[0]);
    const title = names.map((name) => figureOf(name).title).join(", ");
    const panel = new ChartPanel({ key, kind, names, added, title, layout }, store, view, on);
    panels.set(key, panel);
    for (const name of names) byName.set(name, [...(byName.get(name) ?? []), panel]);
    for (const series of store.series.values()) if (panel.has(series)) panel.take(series);
    watcher.observe(panel.root);
    sizes.observe(panel.plot);
    return panel;
  }

  /** Make the panels that the view has added, and drop those that it has no more. */
  function addedFollow() {
    const wanted = new Map(view.added.map((each) => [each.key, each]));
    for (const panel of [...panels.values()]) {
      if (!panel.figure.added || wanted.has(panel.key)) continue;
      panel.release();
      panels.delete(panel.key);
      for (const name of panel.figure.names) byName.set(name, byName.get(name).filter((each) => each !== panel));
    }
    if (!store.figures) return;
    for (const { key, names } of wanted.values()) if (!panels.has(key)) panelMake(key, names, true);
  }

  function take(series) {
    if (series.kind !== kind) return;
    const key = `${kind}:${series.name}`;
    if (!panels.has(key)) panelMake(key, [series.name], false);
    for (const panel of byName.get(series.name)) {
      panel.take(series);
      panel.dirty = true;
    }
  }

  function arrange() {
    grid.arrange([...panels.values()]);
    for (const panel of panels.values()) panel.root.classList.toggle("is-full", panel.key === view.full);
    document.documentElement.classList.toggle("has-full-chart", document.querySelector(".chart.is-full") !== null);
    empty.hidden = panels.size > 0;
    tools.hidden = panels.size === 0;
  }

  function changed() {
    addedFollow();
    arrange();
    legendShow();
    for (const panel of panels.values()) panel.dirty = true;
    schedule();
  }

  function resized(panel, size, done) {
    grid.sized(panel, size);
    if (done) set({ sizes: new Map(view.sizes).set(panel.key, size) });
  }

  let pointed = false;
  function hovered(panel, x) {
    if (pointed) return;
    pointed = true;
    requestAnimationFrame(() => {
      pointed = false;
      for (const each of panels.values()) if (each.visible && each.drawn && each.drawnAxis === panel.drawnAxis) each.point(x);
      if (x !== null) panel.spike.hidden = true; // plotly.js draws its own there
    });
  }

  const actions = {
    full: (panel) => set({ full: view.full === panel.key ? null : panel.key }),
    wider: (panel) => resized(panel, sizeBounded([panel.size[0] + 1, panel.size[1]]), true),
    narrower: (panel) => resized(panel, sizeBounded([Math.min(panel.size[0], view.columns) - 1, panel.size[1]]), true),
    earlier: (panel) => grid.move(panel, -1),
    later: (panel) => grid.move(panel, 1),
    remove(panel) {
      if (panel.figure.added) set({ added: view.added.filter(({ key }) => key !== panel.key) });
      else set({ removed: new Set(view.removed).add(panel.key) });
    },
  };
  const on = {
    zoomed: (zoom) => set({ zoom }),
    reset: () => set({ zoom: null }),
    hovered,
    resized,
    async action(panel, name) {
      if (name in actions) {
        actions[name](panel);
        return;
      }
      if (name === "csv" || name === "json") await more.whole(panel);
      panelDownload(panel, name);
    },
  };

  root.querySelector("[data-chart-add]").addEventListener("click", async () => {
    const removed = [...panels.values()].filter(({ key }) => view.removed.has(key));
    const names = [...new Set([...store.series.values()].filter((series) => series.kind === kind).map(({ name }) => name))].sort();
    const answer = await panelAsk(removed, names);
    if (answer?.restore) {
      const left = new Set(view.removed);
      left.delete(answer.restore);
      set({ removed: left });
    } else if (answer?.names) {
      const key = `${kind}:*${Date.now().toString(36)}`;
      set({ added: [...view.added, { key, names: answer.names }] });
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && panels.has(view.full)) set({ full: null });
  });

  store.on("all", () => {
    for (const panel of panels.values()) {
      panel.series = [];
      panel.dirty = true;
    }
    for (const series of store.series.values()) take(series);
    addedFollow();
    for (const panel of panels.values()) for (const series of store.series.values()) if (panel.has(series)) panel.take(series);
    arrange();
    schedule();
  });
  store.on("points", (some) => {
    const count = panels.size;
    some.forEach(take);
    if (panels.size !== count) arrange();
    schedule();
  });
  document.addEventListener("roundtable:theme", changed);
}
