// From points to what plotly.js draws: lines, smoothed lines over their raw ones, and bands of many devices. No DOM.
import { drawn } from "./series.js";

const MOST_MARKED = 60; // points of a curve that get a dot each
const PANEL_POINTS = 12_000; // drawn as SVG in one figure, whatever the number of its curves
const LEAST_POINTS = 120; // of one curve
const BAND_BINS = 240; // along a continuous axis
const QUANTILES = [0.1, 0.9];

/**
 * The curve of each series on an axis, thinned to what one figure may hold.
 *
 * @param {import("./series.js").Series[]} shown
 * @param {string} axis see `drawn` in series.js
 * @param {number} smoothing weight of the past, 0 to 0.99
 * @param {number} since start of the run, seconds since the epoch; zero of the axis "relative"
 * @returns {{series: object, x: number[], y: (number|null)[], smooth: (number|null)[]|null}[]}
 */
export function curvesOf(shown, axis, smoothing, since) {
  const budget = Math.max(LEAST_POINTS, Math.floor(PANEL_POINTS / Math.max(1, shown.length)));
  return shown.map((series) => {
    const { x, y, smooth } = drawn(series, axis, smoothing, since);
    if (x.length <= budget) return { series, x, y, smooth };
    const kept = extremes(y, budget);
    const pick = (list) => kept.map((index) => list[index]);
    return { series, x: pick(x), y: pick(y), smooth: smooth && pick(smooth) };
  });
}

/** Indices of at most about `count` values, ascending: first, last, every gap, and of equal parts the least and greatest. */
export function extremes(values, count) {
  const kept = new Set([0, values.length - 1]);
  const size = values.length / Math.max(1, Math.floor(count / 2));
  for (let start = 0; start < values.length; start += size) {
    let low = -1;
    let high = -1;
    for (let index = Math.floor(start); index < Math.min(values.length, Math.floor(start + size)); index += 1) {
      if (values[index] === null) kept.add(index);
      else {
        if (low < 0 || values[index] < values[low]) low = index;
        if (high < 0 || values[index] > values[high]) high = index;
      }
    }
    if (low >= 0) kept.add(low).add(high);
  }
  return [...kept].sort((a, b) => a - b);
}

/** The traces of one curve: the line, and under a smoothed one the raw line, faint. */
export function lineTraces({ x, y, smooth }, prototype) {
  // A curve of one point would not be seen, and one of many would be a caterpillar.
  const marked = x.length === 1 || (prototype.mode === "lines+markers" && x.length <= MOST_MARKED && !smooth);
  const line = { ...prototype, x, y: smooth ?? y, mode: marked ? "lines+markers" : "lines" };
  if (!smooth) return [line];
  const faint = { ...prototype, x, y, mode: "lines", opacity: 0.22, hoverinfo: "skip", hovertemplate: undefined };
  return [faint, line];
}

/**
 * The traces of a band over many curves: from the lowest to the highest, or between two quantiles, and the median.
 *
 * @param {{x: number[], y: (number|null)[], smooth: (number|null)[]|null}[]} curves
 * @param {"range"|"quantiles"} mode
 * @param {boolean} continuous whether x is time, so that curves hardly ever meet at one x
 * @param {{low: object, high: object, middle: object}} prototypes of runs/live/figures.py
 */
export function bandTraces(curves, mode, continuous, prototypes) {
  const columns = bandOf(curves, mode, continuous);
  const words = `${curves.length} device${curves.length === 1 ? "" : "s"}`;
  const customdata = columns.x.map((_, index) => [columns.low[index], columns.high[index]]);
  return [
    { ...prototypes.low, x: columns.x, y: columns.low, name: `lowest of ${words}` },
    { ...prototypes.high, x: columns.x, y: columns.high, name: `highest of ${words}` },
    { ...prototypes.middle, x: columns.x, y: columns.middle, customdata, name: `Median of ${words}` },
  ];
}

/** The columns of a band. Quantiles are interpolated linearly between the ordered values. */
export function bandOf(curves, mode, continuous) {
  const ends = curves.flatMap(({ x }) => (x.length ? [x[0], x.at(-1)] : []));
  const first = Math.min(...ends);
  const width = (Math.max(...ends) - first) / BAND_BINS || 1;
  const place = continuous ? (x) => first + (Math.floor((x - first) / width) + 0.5) * width : (x) => x;
  const values = new Map();
  for (const { x, y, smooth } of curves) {
    const own = smooth ?? y;
    for (let index = 0; index < x.length; index += 1) {
      if (own[index] === null) continue;
      const at = place(x[index]);
      if (!values.has(at)) values.set(at, []);
      values.get(at).push(own[index]);
    }
  }
  const [lower, upper] = mode === "quantiles" ? QUANTILES : [0, 1];
  const columns = { x: [...values.keys()].sort((a, b) => a - b), low: [], middle: [], high: [] };
  for (const at of columns.x) {
    const sorted = values.get(at).sort((a, b) => a - b);
    columns.low.push(quantile(sorted, lower));
    columns.middle.push(quantile(sorted, 0.5));
    columns.high.push(quantile(sorted, upper));
  }
  return columns;
}

/** The quantile `part` (0 to 1) of ascending values. */
export function quantile(sorted, part) {
  const place = (sorted.length - 1) * part;
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}
