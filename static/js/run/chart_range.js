// How far the y axis goes. No DOM in here.
import { quantile } from "./chart_traces.js";

const FENCE = 3; // quartile ranges beyond the quartiles: what lies further out is "far out" (Tukey 1977, section 2D)
const MARGIN = 0.06; // of the range, on either side

/**
 * The range of the y axis that shows the traces within a window of x.
 *
 * @param {{x: number[], y: (number|null)[]}[]} traces
 * @param {[number, number]|null} window ends of the x axis, in the numbers of the traces; null: all of it
 * @param {boolean} logarithmic the range is of powers of ten, as plotly.js has it
 * @param {boolean} robust outliers do not stretch the range
 * @returns {[number, number]|null} null where nothing is drawn
 */
export function rangeOf(traces, window, logarithmic, robust) {
  const values = [];
  for (const { x, y } of traces) {
    for (let index = 0; index < x.length; index += 1) {
      const value = y[index];
      if (value === null || value === undefined || (logarithmic && value <= 0)) continue;
      if (window && (x[index] < window[0] || x[index] > window[1])) continue;
      values.push(logarithmic ? Math.log10(value) : value);
    }
  }
  if (values.length === 0) return null;
  let [low, high] = robust ? inner(values) : [Infinity, -Infinity];
  if (!robust) {
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  const margin = (high - low) * MARGIN || Math.abs(high) * MARGIN || 1;
  return [low - margin, high + margin];
}

/** The least and the greatest of the values that are not far out. */
function inner(values) {
  const sorted = values.sort((a, b) => a - b);
  const [first, third] = [quantile(sorted, 0.25), quantile(sorted, 0.75)];
  const fence = (third - first) * FENCE;
  const kept = sorted.filter((value) => value >= first - fence && value <= third + fence);
  return [kept[0], kept.at(-1)];
}
