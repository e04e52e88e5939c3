// What the page knows of its run. Fed by the socket; tells its listeners once an animation frame what changed.

import { Series } from "./series.js";

/**
 * Names that listeners can follow. Each listener gets what changed:
 * run, round: nothing; stage, device, model: a Set of keys; event: a Set of items; points: a Set of Series; log: a list of lines
 * `{id, reporter, time, stream, level, line}` in the order of their ids; all: everything was replaced.
 */
const TOPICS = ["all", "run", "round", "stage", "device", "model", "event", "points", "log"];

export class Store {
  constructor() {
    this.listeners = new Map(TOPICS.map((topic) => [topic, []]));
    this.clear();
  }

  clear() {
    this.run = null;
    this.stages = new Map();
    this.devices = new Map();
    this.models = new Map();
    this.rounds = new Map();
    this.series = new Map();
    this.figures = null;
    this.changes = new Map();
    this.clockAhead ??= 0; // seconds by which the platform's clock is ahead of the browser's
  }

  /** Take in a snapshot (runs.live.snapshot) in place of everything that was known. */
  restore(snapshot) {
    this.clear();
    this.figures = snapshot;
    this.clockAhead = snapshot.time - Date.now() / 1000;
    this.apply([
      snapshot.run,
      ...snapshot.stages,
      ...snapshot.devices,
      ...snapshot.rounds,
      ...snapshot.models,
      ...snapshot.figures.map(pointsItem),
    ]);
    this.changes.clear();
    this.#mark("all");
  }

  on(topic, listener) {
    this.listeners.get(topic).push(listener);
  }

  /** Name of a reporter as people know it. */
  reporterName(edgeId) {
    return edgeId === 0 ? "Aggregator" : (this.devices.get(edgeId)?.name ?? `Device ${edgeId}`);
  }

  /** When the run was started, in seconds since the epoch; of one that says nothing, when its first point was made. */
  since() {
    if (this.run?.started_at) return this.run.started_at;
    const first = Math.min(...[...this.series.values()].flatMap((series) => series.points[0]?.time ?? []));
    return Number.isFinite(first) ? first : 0;
  }

  /** Take in items of the wire (docs/protocol.md has their shapes); one of an unknown kind is passed over. */
  apply(items) {
    for (const item of items) {
      switch (item.t) {
        case "run":
          this.run = { ...this.run, ...item };
          this.#mark("run");
          break;
        case "round":
          this.rounds.set(item.round_index, item);
          this.#mark("round");
          break;
        case "stage":
          this.stages.set(item.name, item);
          this.#mark("stage", item.name);
          break;
        case "device":
          this.devices.set(item.edge_id, { ...this.devices.get(item.edge_id), ...item });
          this.#mark("device", item.edge_id);
          break;
        case "model":
          this.models.set(item.id, item);
          this.#mark("model", item.id);
          break;
        case "event":
          this.#mark("event", item);
          break;
        case "points":
          this.#points(item);
          break;
        case "log":
          this.#log(item);
          break;
      }
    }
  }

  #points({ series, points }) {
    for (const each of series) if (!this.series.has(each.id)) this.series.set(each.id, new Series(each));
    const rows = new Map();
    for (const row of points) {
      if (!rows.has(row[0])) rows.set(row[0], []);
      rows.get(row[0]).push(row);
    }
    for (const [id, own] of rows) {
      const target = this.series.get(id);
      if (target?.add(own)) this.#mark("points", target);
    }
  }

  #log({ reporter, lines }) {
    for (const [id, time, stream, level, line] of lines) {
      this.#mark("log", { id, reporter, time, stream, level, line });
    }
  }

  #mark(topic, key) {
    if (this.changes.size === 0) requestAnimationFrame(() => this.#tell());
    if (!this.changes.has(topic)) this.changes.set(topic, topic === "log" ? [] : new Set());
    const changed = this.changes.get(topic);
    if (topic === "log") changed.push(key);
    else if (key !== undefined) changed.add(key);
  }

  #tell() {
    const changes = this.changes;
    this.changes = new Map();
    for (const topic of TOPICS) {
      if (!changes.has(topic)) continue;
      for (const listener of this.listeners.get(topic)) listener(changes.get(topic));
    }
  }
}

/** The points of a snapshot's figure as an item of a frame. */
function pointsItem({ kind, name, traces, points }) {
  const series = traces.map((trace) => ({ id: trace.series_id, edge_id: trace.edge_id, kind, name }));
  return { t: "points", series, points: rowsOf(points) };
}

/** Points that come by column, `{series id: {id: [], step: [], ...}}`, as rows of a frame. */
export function rowsOf(points) {
  return Object.entries(points).flatMap(([series, { id, step, round, time, value, flag }]) =>
    id.map((_, row) => [Number(series), id[row], step[row], round[row], time[row], value[row], flag[row]]),
  );
}
