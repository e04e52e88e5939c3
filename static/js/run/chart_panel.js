// One figure: what Python said of it (runs.live.figures), filled with points and drawn by plotly.js.
import { relativeTicks, unitsOf, windowOf } from "./chart_axis.js";
import { panelButtons, panelHandle } from "./chart_controls.js";
import { rangeOf } from "./chart_range.js";
import { HEIGHTS } from "./chart_state.js";
import { bandTraces, curvesOf, lineTraces } from "./chart_traces.js";
import { element, setText } from "./dom.js";
import { clock, flagName, number, printable, titled } from "./format.js";

const CONFIG = { displaylogo: false, displayModeBar: false, scrollZoom: false, doubleClick: false };
const MOST_UNIFIED = 8; // curves in one hover box
const MOST_NOTED = 3;
const DASHES = ["solid", "dash", "dot", "dashdot"];
const LEAST_TICK = 110; // pixels for a time on the x axis, so that none stands aslant

export class ChartPanel {
  /**
   * @param {object} figure `{key, kind, names, title, layout}`: `names` of the metrics that it shows, the rest as in
   *   runs.live.figures
   * @param {import("./store.js").Store} store
   * @param {object} view see chart_state.js; the same object stays, its values change
   * @param {object} on `zoomed({axis, ends})`, as in the view; `reset()`; `hovered(panel, x)`, in the numbers of
   *   the traces, null when the pointer has left; `action(panel, name)` of its menu; `resized(panel, size, done)`
   */
  constructor(figure, store, view, on) {
    Object.assign(this, { figure, store, view, on });
    this.key = figure.key;
    this.series = [];
    this.dirty = true;
    this.visible = false;
    this.drawn = false;
    this.margin = { key: "", left: 0 };
    this.latest = element("span", "chart-latest");
    this.plot = element("div", "chart-plot");
    this.spike = element("div", "chart-spike");
    this.spike.hidden = true;
    this.note = element("p", "chart-note");
    this.note.hidden = true;
    this.title = figure.kind === "metric" ? figure.names.map((name) => titled(printable(name))).join(", ") : figure.title;
    const title = element("h2", "chart-title", this.title);
    title.title = figure.names.map(printable).join(", ");
    this.head = element("header", "chart-head", title, this.latest, panelButtons(this));
    this.head.draggable = true;
    const area = element("div", "chart-area", this.plot, this.spike);
    this.root = element("section", "card chart", this.head, area, this.note, panelHandle(this));
    this.root.dataset.figure = this.key;
    this.root.setAttribute("aria-label", this.title);
  }

  /** How many columns it is wide, and how many pixels high. */
  get size() {
    return this.view.sizes.get(this.key) ?? [1, HEIGHTS.usual];
  }

  /** Whether the panel shows this series, if its reporter is not hidden. */
  has(series) {
    return series.kind === this.figure.kind && this.figure.names.includes(series.name);
  }

  take(series) {
    if (this.series.includes(series)) return;
    this.series.push(series);
    // The aggregator is drawn last, above the devices.
    this.series.sort((a, b) => (a.edgeId === 0) - (b.edgeId === 0) || a.edgeId - b.edgeId || a.id - b.id);
  }

  /** The series whose reporters are not hidden. */
  shown() {
    return this.series.filter((series) => !this.view.hidden?.has(series.edgeId));
  }

  /** Over what the figure is drawn: what was reported without rounds, over its steps. */
  axis() {
    return this.view.axis === "round" && !this.series.some((series) => series.hasRounds) ? "step" : this.view.axis;
  }

  /** The window that is zoomed into, in the view's units, or null. */
  zoom() {
    return this.view.zoom?.axis === this.axis() ? this.view.zoom.ends : null;
  }

  /** Show everything anew, in the given theme. */
  draw(theme) {
    if (this.plot._dragging) return; // somebody is choosing a window: the panel stays due
    this.dirty = false;
    const axis = this.axis();
    const shown = this.shown();
    this.traces = this.#traces(curvesOf(shown, axis, this.view.smoothing, this.store.since()), axis);
    this.drawnAxis = axis;
    const layout = this.#layout(axis, shown, theme);
    window.Plotly.react(this.plot, this.traces, this.#marginKept(layout), CONFIG);
    this.margin.left = this.plot._fullLayout._size.l;
    this.#describe(shown);
    if (this.drawn) return;
    this.drawn = true;
    this.plot.on("plotly_relayout", (change) => {
      const [low, high] = change["xaxis.range"] ?? [change["xaxis.range[0]"], change["xaxis.range[1]"]];
      if (low === undefined || high === undefined) return;
      this.on.zoomed({ axis: this.drawnAxis, ends: [unitsOf(this.drawnAxis, low), unitsOf(this.drawnAxis, high)] });
    });
    this.plot.on("plotly_doubleclick", () => this.on.reset());
    this.plot.on("plotly_hover", ({ points: [point] }) => this.on.hovered(this, point.data.x[point.pointNumber]));
    this.plot.on("plotly_unhover", () => this.on.hovered(this, null));
  }

  /** Forget the drawing; it is made again when the panel comes into sight. */
  release() {
    if (!this.drawn) return;
    window.Plotly.purge(this.plot);
    this.drawn = false;
    this.dirty = true;
  }

  /** Mark a place on the x axis, in the numbers of the traces, and tell the value there; null takes the mark away. */
  point(x) {
    const axis = this.drawn ? this.plot._fullLayout.xaxis : null;
    const place = x === null || !axis ? NaN : axis.d2p(x);
    this.spike.hidden = !(place >= 0 && place <= (axis?._length ?? 0));
    if (!this.spike.hidden) this.spike.style.transform = `translateX(${Math.round(axis._offset + place)}px)`;
    this.latest.classList.toggle("is-pointed", x !== null);
    if (x === null) this.#latestSet(this.shown());
    else this.#valueSet(this.traces?.at(-1), x);
  }

  #traces(curves, axis) {
    const { view } = this;
    const clients = curves.filter(({ series }) => series.edgeId !== 0);
    if (view.devices === "lines" || clients.length < 2) {
      return curves.flatMap((curve) => lineTraces(curve, this.#prototype(curve.series)));
    }
    const own = this.store.figures.prototypes[this.figure.kind].traces;
    const bands = this.figure.names.flatMap((name) => {
      const some = clients.filter(({ series }) => series.name === name);
      const prototypes = { low: own.band_low, high: own.band_high, middle: own.band_middle };
      return some.length ? bandTraces(some, view.devices, axis === "time" || axis === "relative", prototypes) : [];
    });
    const lines = curves.filter(({ series }) => series.edgeId === 0);
    return [...bands, ...lines.flatMap((curve) => lineTraces(curve, this.#prototype(curve.series)))];
  }

  #prototype({ edgeId, name: metric }) {
    const { edges, prototypes } = this.store.figures;
    const prototype = prototypes[this.figure.kind].traces[edgeId === 0 ? "aggregated" : "client"];
    const { names } = this.figure;
    const { colour, dash } = edges[edgeId] ?? edges[0];
    const reporter = this.store.reporterName(edgeId);
    // Plotly reads a little HTML in names, and these come from devices.
    const name = printable(names.length > 1 ? `${reporter}, ${metric}` : reporter).replace(/&/g, "&amp;").replace(/</g, "&lt;");
    const line = { ...prototype.line, color: colour, dash: names.length > 1 ? DASHES[names.indexOf(metric) % DASHES.length] : dash };
    return { ...prototype, name, line };
  }

  #layout(axis, shown, theme) {
    const { layout } = this.figure;
    const { view } = this;
    const described = this.store.figures.axes.find((each) => each.id === axis);
    const rounds = Math.max(0, ...shown.map((series) => series.last?.round ?? 0));
    const wanted = Math.max(3, Math.floor((this.plot.clientWidth || 500) / LEAST_TICK));
    const zoom = windowOf(axis, this.zoom());
    const fixed = !view.logarithmic && !view.robust && layout.yaxis.range;
    const range = fixed || rangeOf(this.traces, zoom, view.logarithmic, view.robust);
    return {
      ...layout,
      template: this.store.figures.themes[theme],
      // The card shows the title, the legend above all figures the names, and the style sheet sets the height.
      title: undefined,
      height: undefined,
      autosize: true,
      showlegend: false,
      margin: { l: 48, r: 16, t: 8, b: axis === "time" ? 28 : 40 },
      hovermode: this.traces.length > MOST_UNIFIED ? "closest" : layout.hovermode,
      hoverdistance: 60,
      dragmode: "zoom",
      uirevision: undefined, // what is zoomed into stands in the view, for all figures
      xaxis: {
        ...layout.xaxis,
        type: described.type,
        title: { text: axis === "time" ? "" : described.title, standoff: 6 },
        ...(zoom ? { range: zoom, autorange: false } : { autorange: true }),
        ...(axis === "time" ? { tickangle: 0, nticks: wanted } : {}),
        ...(axis === "relative" ? { ...this.#elapsed(zoom, wanted), ticksuffix: " s", hoverformat: ".4~r" } : {}),
        ...(axis === "round" && rounds < 12 && !zoom ? { dtick: 1 } : {}),
      },
      yaxis: {
        ...layout.yaxis,
        type: view.logarithmic ? "log" : "linear",
        fixedrange: true,
        ...(range ? { range: [...range], autorange: false } : { range: undefined, autorange: true }),
      },
    };
  }

  // Finding out how much room the labels of the y axis need takes plotly.js as long as the drawing itself: it is done
  // anew only when the labels may have become longer or shorter.
  #marginKept(layout) {
    const { range, type } = layout.yaxis;
    const key = range ? [type, ...[range[0], range[1], range[1] - range[0]].map(magnitude)].join() : "";
    if (key !== "" && key === this.margin.key) {
      layout.margin.l = this.margin.left;
      layout.yaxis.automargin = false;
    }
    this.margin.key = key;
    return layout;
  }

  #elapsed(zoom, wanted) {
    const ends = zoom ?? this.traces.flatMap(({ x }) => (x.length ? [x[0], x.at(-1)] : []));
    return ends.length ? { tickmode: "array", ...relativeTicks(Math.min(...ends), Math.max(...ends), wanted) } : {};
  }

  #describe(shown) {
    if (!this.latest.classList.contains("is-pointed")) this.#latestSet(shown);
    const flagged = shown.flatMap((series) => series.flagged.map((each) => ({ ...each, edgeId: series.edgeId })));
    this.note.hidden = flagged.length === 0;
    if (flagged.length === 0) return;
    const named = flagged.slice(-MOST_NOTED).map((each) => {
      const where = each.round === null ? `step ${number(each.step)}` : `round ${each.round + 1}`;
      return `${flagName(each.flag)} from ${printable(this.store.reporterName(each.edgeId))} in ${where} at ${clock(each.time)}`;
    });
    const more = flagged.length - named.length;
    setText(this.note, `Gaps: ${named.join("; ")}${more > 0 ? `; and ${more} more` : ""}`);
  }

  #latestSet(shown) {
    const own = shown.filter((series) => series.edgeId === 0 || this.figure.kind === "system");
    const point = (own.length === 1 ? own[0] : null)?.lastFinite;
    setText(this.latest, point ? this.#worded(point.value) : "");
  }

  /** Tell the value of a trace at a place, or at the last point before it. */
  #valueSet(trace, x) {
    const index = trace ? trace.x.findLastIndex((each) => each <= x) : -1;
    const value = index < 0 ? null : trace.y[index];
    setText(this.latest, value === null ? "" : this.#worded(value));
  }

  #worded(value) {
    return `${number(value)}${this.figure.layout.yaxis.ticksuffix ?? ""}`;
  }
}

/** Sign and power of ten of a number. */
function magnitude(value) {
  return value === 0 ? "0" : `${Math.sign(value)}e${Math.floor(Math.log10(Math.abs(value)))}`;
}
