// The headline numbers: rounds with the time left, latest metrics with their past, models, time.
import { duration } from "../times.js";
import { setText } from "./dom.js";
import { number, steadyNumber, titled } from "./format.js";
import { isActive } from "./header.js";

const SVG = "http://www.w3.org/2000/svg";
const SPARK = { width: 120, height: 28, margin: 2 };
// What stands in the two cards, by what aggregators usually call it: the first that is there wins.
const WANTED = [
  [/^(test|eval|val|validation|global|server)[_ /.-]?acc(uracy)?$/i, /acc/i, /(f1|auc|score|iou|dice)/i],
  [/^(test|eval|val|validation|global|server)[_ /.-]?loss$/i, /loss/i, /(error|mse|mae|perplexity)/i],
];
const RECENT_ROUNDS = 5;

/** Seconds until the last round is done, from the last finished rounds; null where nothing is known. */
export function secondsLeft(run, rounds, now) {
  const finished = [...rounds.values()].filter((round) => round.round_index >= 0).sort((a, b) => a.round_index - b.round_index);
  const last = finished.at(-1);
  if (!last || run.state !== "RUNNING") return null;
  const first = finished.at(-1 - RECENT_ROUNDS);
  const seconds = first
    ? (last.running_time - first.running_time) / (last.round_index - first.round_index)
    : last.running_time / (last.round_index + 1);
  const remaining = last.total_rounds - last.round_index - 1;
  return Math.max(0, remaining * seconds - Math.min(seconds, now - last.time));
}

/** A length of time that is an estimate, in as many words as it deserves. */
function roughly(seconds) {
  if (seconds < 5) return "a few seconds";
  if (seconds < 55) return `about ${Math.ceil(seconds / 10) * 10} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `about ${minutes} min`;
  return `about ${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

function chosenSeries(store) {
  const own = [...store.series.values()].filter((series) => series.edgeId === 0 && series.kind === "metric");
  const taken = new Set();
  return WANTED.map((patterns) => {
    for (const pattern of patterns) {
      const match = own.find((series) => !taken.has(series) && pattern.test(series.name));
      if (match) {
        taken.add(match);
        return match;
      }
    }
    return null;
  });
}

function spark(svg, series) {
  const points = series.points.filter((point) => point.value !== null).slice(-200);
  svg.replaceChildren();
  if (points.length < 2) return;
  svg.setAttribute("viewBox", `0 0 ${SPARK.width} ${SPARK.height}`);
  const values = points.map((point) => point.value);
  const low = Math.min(...values);
  const range = Math.max(...values) - low || 1;
  const line = document.createElementNS(SVG, "polyline");
  const x = (index) => (index / (points.length - 1)) * SPARK.width;
  const y = (value) => SPARK.height - SPARK.margin - ((value - low) / range) * (SPARK.height - 2 * SPARK.margin);
  line.setAttribute("points", values.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" "));
  svg.append(line);
}

/** Keep every [data-number] of the page true. */
export function numbersStart(root, store) {
  const all = (name) => root.querySelectorAll(`[data-number="${name}"]`);
  const set = (name, text) => all(name).forEach((element) => setText(element, text));
  const cards = [...root.querySelectorAll("[data-metric-card]")];
  let chosen = [];
  let counted = 0;

  function rounds() {
    const { run } = store;
    if (!run) return;
    set("round", String(run.round_index + 1));
    set("of", run.total_rounds ? `of ${run.total_rounds}` : "");
    all("bar").forEach((bar) => {
      bar.max = run.total_rounds || 1;
      bar.value = run.round_index + 1;
    });
    set("training-time", run.running_time > 0 ? duration(run.running_time) : "–");
    tick();
  }

  function tick() {
    const { run } = store;
    if (!run) return;
    const now = Date.now() / 1000;
    const left = secondsLeft(run, store.rounds, now);
    set("left", left === null ? "\u00a0" : `${roughly(left)} left`);
    if (run.started_at) {
      const seconds = Math.max(0, (run.ended_at ?? now) - run.started_at);
      set("elapsed", duration(isActive(run) ? Math.floor(seconds) : seconds).replace(".0 s", " s"));
      set("elapsed-note", run.ended_at ? "from start to end" : "since the start");
    }
  }

  function metrics() {
    const best = store.run?.best_metric;
    if (store.series.size !== counted) chosen = chosenSeries(store);
    counted = store.series.size;
    chosen.forEach((series, index) => {
      const point = series?.lastFinite;
      if (!point) return;
      const one = (name) => cards[index].querySelector(`[data-number="${name}"]`);
      setText(one("name"), titled(series.name));
      setText(one("value"), steadyNumber(point.value));
      const when = point.round === null ? `step ${number(point.step)}` : `round ${point.round + 1}`;
      const isBest = best && best.name === series.name && typeof best.value === "number";
      setText(one("note"), isBest ? `best ${steadyNumber(best.value)} in round ${best.round + 1}` : `in ${when}`);
      spark(cards[index].querySelector("svg"), series);
    });
  }

  function models() {
    const kinds = { aggregated: 0, client: 0 };
    for (const model of store.models.values()) kinds[model.kind] += 1;
    set("models", String(store.models.size));
    set("models-note", store.models.size ? `${kinds.aggregated} aggregated, ${kinds.client} client` : "\u00a0");
  }

  store.on("all", () => {
    counted = 0;
    rounds();
    metrics();
    models();
  });
  store.on("run", () => {
    rounds();
    metrics();
  });
  store.on("round", rounds);
  store.on("points", metrics);
  store.on("model", models);
  setInterval(tick, 1000);
  rounds();
}
