// One figure: what Python said of it (runs.live.figures), filled with points and drawn by plotly.js.
import { icon } from "../icons.js";
import { setText } from "./dom.js";
import { clock, flagName, number, printable, titled } from "./format.js";
import { drawn } from "./series.js";

const CONFIG = {
  displaylogo: false,
  responsive: true,
  displayModeBar: false,
  scrollZoom: false,
  doubleClick: "reset",
};
const MOST_MARKED = 60; // points of a curve that get a dot each
const MOST_UNIFIED = 8; // curves in one hover box
const MOST_NOTED = 3;

function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

function button(iconName, label) {
  const made = element("button", "btn btn-icon btn-sm btn-ghost-secondary", icon(iconName));
  made.type = "button";
  made.title = label;
  made.setAttribute("aria-label", label);
  return made;
}

export class ChartPanel {
  /**
   * @param {object} figure `{kind, name, title, layout}` as in runs.live.figures
   * @param {import("./store.js").Store} store
   * @param {(panel: ChartPanel, low: number|string, high: number|string) => void} zoomed called with the ends of the x
   *   axis when somebody has zoomed in
   */
  constructor(figure, store, zoomed) {
    this.figure = figure;
    this.store = store;
    this.zoomed = zoomed;
    this.series = [];
    this.dirty = true;
    this.visible = false;
    this.drawn = false;
    this.latest = element("span", "chart-latest");
    this.plot = element("div", "chart-plot");
    this.note = element("p", "chart-note");
    this.note.hidden = true;
    const title = element("h2", "chart-title", figure.kind === "metric" ? titled(printable(figure.name)) : figure.title);
    title.title = printable(figure.name);
    this.enlarge = button("arrows-diagonal", "Larger");
    const csv = button("file-text", "Download as CSV");
    const png = button("download", "Download as picture");
    const reset = button("zoom-reset", "Whole range");
    this.root = element(
      "section",
      "card chart",
      element("header", "chart-head", title, this.latest, element("span", "chart-buttons", reset, png, csv, this.enlarge)),
      this.plot,
      this.note,
    );
    this.root.dataset.figure = `${figure.kind}:${figure.name}`;
    csv.addEventListener("click", () => this.#csv());
    png.addEventListener("click", () => window.Plotly.downloadImage(this.plot, { format: "png", scale: 2, filename: this.#fileName() }));
    reset.addEventListener("click", () => window.Plotly.relayout(this.plot, { "xaxis.autorange": true, ...this.#range() }));
    this.enlarge.addEventListener("click", () => {
      const large = this.root.classList.toggle("is-large");
      this.enlarge.setAttribute("aria-pressed", String(large));
      window.Plotly.Plots.resize(this.plot);
    });
  }

  /** Draw what is known by the view `{axis, smoothing, logarithmic, hidden: Set of edge ids}` in the given theme. */
  draw(view, theme) {
    this.dirty = false;
    const axis = this.axis(view);
    const shown = this.series.filter((series) => !view.hidden.has(series.edgeId));
    const traces = shown.flatMap((series) => this.#traces(series, axis, view.smoothing));
    window.Plotly.react(this.plot, traces, this.#layout(view, axis, shown, theme), CONFIG);
    this.#describe(shown);
    if (this.drawn) return;
    this.drawn = true;
    this.plot.on("plotly_relayout", (change) => {
      const low = change["xaxis.range[0]"];
      const high = change["xaxis.range[1]"];
      if (low !== undefined && high !== undefined) this.zoomed(this, low, high);
    });
  }

  /** Over what the figure is drawn: figures of machines over time, and what was reported without rounds over its steps. */
  axis(view) {
    if (this.figure.kind === "system") return "time";
    return view.axis === "round" && !this.series.some((series) => series.hasRounds) ? "step" : view.axis;
  }

  #traces(series, axis, smoothing) {
    const { x, y, smooth } = drawn(series, axis, smoothing);
    const prototype = this.#prototype(series.edgeId);
    // A curve of one point would not be seen, and one of many would be a caterpillar.
    const marked = x.length === 1 || (prototype.mode === "lines+markers" && x.length <= MOST_MARKED && !smooth);
    const line = { ...prototype, x, y: smooth ?? y, mode: marked ? "lines+markers" : "lines" };
    if (!smooth) return [line];
    return [{ ...prototype, x, y, mode: "lines", opacity: 0.22, hoverinfo: "skip", hovertemplate: undefined, showlegend: false }, line];
  }

  #prototype(edgeId) {
    const { edges, prototypes } = this.store.figures;
    const prototype = prototypes[this.figure.kind].traces[edgeId === 0 ? "aggregated" : "client"];
    const { colour, dash } = edges[edgeId] ?? edges[0];
    // Plotly reads a little HTML in names, and these come from devices.
    const name = printable(this.store.reporterName(edgeId)).replace(/&/g, "&amp;").replace(/</g, "&lt;");
    return { ...prototype, name, line: { ...prototype.line, color: colour, dash } };
  }

  #layout(view, axis, shown, theme) {
    const { layout } = this.figure;
    const described = this.store.figures.axes.find((each) => each.id === axis);
    const rounds = Math.max(0, ...shown.map((series) => series.last?.round ?? 0));
    return {
      ...layout,
      template: this.store.figures.themes[theme],
      // The card shows the title, the legend above all figures the names, and the style sheet sets the height.
      title: undefined,
      height: undefined,
      autosize: true,
      showlegend: false,
      margin: { l: 48, r: 14, t: 10, b: 36 },
      hovermode: shown.length > MOST_UNIFIED ? "closest" : layout.hovermode,
      hoverdistance: 40,
      dragmode: "zoom",
      xaxis: {
        ...layout.xaxis,
        type: described.type,
        title: { text: axis === "time" ? "" : described.title, standoff: 6 },
        // As many times as fit without standing aslant.
        ...(axis === "time" ? { tickangle: 0, nticks: Math.max(3, Math.floor(this.plot.clientWidth / 110)) } : {}),
        ...(axis === "round" && rounds < 12 ? { dtick: 1 } : {}),
      },
      yaxis: { ...layout.yaxis, type: view.logarithmic ? "log" : "linear", ...(view.logarithmic ? { range: undefined } : {}) },
      uirevision: `${axis}:${view.logarithmic}`,
    };
  }

  #range() {
    const { range } = this.figure.layout.yaxis;
    return range ? { "yaxis.range": range } : { "yaxis.autorange": true };
  }

  #describe(shown) {
    const own = shown.filter((series) => series.edgeId === 0 || this.figure.kind === "system");
    const point = (own.length === 1 ? own[0] : null)?.lastFinite;
    const suffix = this.figure.layout.yaxis.ticksuffix ?? "";
    setText(this.latest, point ? `${number(point.value)}${suffix}` : "");
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

  #fileName() {
    return `${this.store.run?.name ?? "run"}_${this.figure.name}`.replace(/[^A-Za-z0-9._-]+/g, "_").slice(0, 80);
  }

  #csv() {
    const quoted = (text) => `"${text.replace(/^[=+@-]/, "'$&").replace(/"/g, '""')}"`;
    const rows = ["reporter,edge_id,step,round,time,value"];
    for (const series of this.series) {
      const name = quoted(printable(this.store.reporterName(series.edgeId)));
      for (const { step, round, time, value, flag } of series.points) {
        rows.push([name, series.edgeId, step, round ?? "", time, value ?? flagName(flag)].join(","));
      }
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${rows.join("\n")}\n`], { type: "text/csv" }));
    link.download = `${this.#fileName()}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
}
