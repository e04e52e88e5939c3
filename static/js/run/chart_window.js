// The page has at most a thousand points of a series: for a part of it, the server has more.
import { serverWindow } from "./chart_axis.js";
import { rowsOf } from "./store.js";

const SERIES_AT_ONCE = 200; // that the server answers in one request
const MOST_WIDTH = 4_000; // points of a series in one answer

export class WindowSource {
  /**
   * @param {string} url of runs/views/run_chart.py
   * @param {import("./store.js").Store} store where the points are put
   */
  constructor(url, store) {
    this.url = url;
    this.store = store;
    this.asked = new WeakMap(); // panel -> the window and the series that it has asked for
  }

  /** Ask for what the panels zoom into, each window once. */
  async fetch(panels) {
    const groups = new Map(); // the window as the server is asked for it -> ids of series
    for (const panel of panels) {
      const ends = panel.zoom();
      if (!ends) continue;
      const ids = panel.shown().map((series) => series.id);
      const key = `${panel.axis()}:${ends}:${ids}`;
      if (ids.length === 0 || this.asked.get(panel) === key) continue;
      this.asked.set(panel, key);
      const query = JSON.stringify({
        ...serverWindow(panel.axis(), ends, this.store.since()),
        width: Math.min(MOST_WIDTH, Math.max(500, 2 * panel.plot.clientWidth)),
      });
      groups.set(query, [...(groups.get(query) ?? []), ...ids]);
    }
    await Promise.all([...groups].map(([query, ids]) => this.#ask(JSON.parse(query), ids)));
  }

  /** Ask for as many points of all of a panel as the server gives at once. */
  async whole(panel) {
    await this.#ask({ x: "step", width: MOST_WIDTH }, panel.shown().map((series) => series.id));
    return new Promise((resolve) => requestAnimationFrame(resolve));
  }

  async #ask(query, ids) {
    const some = [...new Set(ids)];
    for (let start = 0; start < some.length; start += SERIES_AT_ONCE) {
      const url = new URL(this.url, window.location.href);
      url.search = new URLSearchParams({ series: some.slice(start, start + SERIES_AT_ONCE).join(), ...query });
      const response = await fetch(url, { headers: { Accept: "application/json" } });
      if (!response.ok) return;
      this.store.apply([{ t: "points", series: [], points: rowsOf((await response.json()).points) }]);
    }
  }
}
