// The points of one series, each once, in order, and never more than a screen can show. No DOM in here.

const MOST_POINTS = 8_000;

/** Columns of a point on the wire: [series_id, point_id, step, round|null, time, value|null, flag]. */
const [, ID, STEP, ROUND, TIME, VALUE, FLAG] = [0, 1, 2, 3, 4, 5, 6];

function before(first, second) {
  return first.step - second.step || first.time - second.time || first.id - second.id;
}

/** One named metric of one reporter. Points are `{id, step, round, time, value, flag}`, sorted by step, then time. */
export class Series {
  constructor({ id, edge_id: edgeId, name, kind }) {
    Object.assign(this, { id, edgeId, name, kind });
    this.points = [];
    this.flagged = [];
    this.hasRounds = false;
    this.seen = new Set();
  }

  get last() {
    return this.points.at(-1) ?? null;
  }

  /** Last point that is a number. */
  get lastFinite() {
    return this.points.findLast((point) => point.value !== null) ?? null;
  }

  /** Take in points of the wire; one that is here already changes nothing. Returns whether anything changed. */
  add(rows) {
    let sorted = true;
    let changed = false;
    for (const row of rows) {
      if (this.seen.has(row[ID])) continue;
      this.seen.add(row[ID]);
      const point = { id: row[ID], step: row[STEP], round: row[ROUND], time: row[TIME], value: row[VALUE], flag: row[FLAG] };
      if (this.points.length > 0 && before(this.points.at(-1), point) > 0) sorted = false;
      this.points.push(point);
      if (point.flag) this.flagged.push(point);
      if (point.round !== null) this.hasRounds = true;
      changed = true;
    }
    if (!sorted) this.points.sort(before);
    if (this.points.length > MOST_POINTS) {
      this.points = thinned(this.points);
      this.seen = new Set(this.points.map((point) => point.id));
    }
    return changed;
  }
}

/** Half of the points: of every four in a row the lowest and the highest stay, and so does every gap. */
function thinned(points) {
  const kept = [];
  for (let start = 0; start < points.length; start += 4) {
    const four = points.slice(start, start + 4);
    const finite = four.filter((point) => point.value !== null);
    const lowest = finite.reduce((a, b) => (b.value < a.value ? b : a), finite[0]);
    const highest = finite.reduce((a, b) => (b.value > a.value ? b : a), finite[0]);
    kept.push(...four.filter((point) => point.value === null || point === lowest || point === highest));
  }
  return kept;
}

/**
 * What a chart draws of a series.
 *
 * @param {Series} series
 * @param {"round"|"step"|"relative"|"time"} axis what x is. By round, the last value of each round; rounds count from 1
 *   on pages.
 * @param {number} smoothing weight of the past in an exponential moving average, 0 (off) to 0.99. The average starts
 *   without bias towards zero (Kingma and Ba 2015, section 3).
 * @param {number} since zero of the axis "relative", seconds since the epoch
 * @returns {{x: number[], y: (number|null)[], smooth: (number|null)[]|null, steps: number[]}} time in milliseconds,
 *   which Plotly shows on the viewer's clock; relative time in seconds
 */
export function drawn(series, axis, smoothing, since = 0) {
  const by = axis === "round" && !series.hasRounds ? "step" : axis;
  const place = {
    round: (point) => point.round + 1,
    step: (point) => point.step,
    relative: (point) => point.time - since,
    time: (point) => point.time * 1000,
  }[by];
  const x = [];
  const y = [];
  const steps = [];
  for (const point of series.points) {
    if (by === "round") {
      if (point.round === null) continue;
      if (x.at(-1) === point.round + 1) {
        y[y.length - 1] = point.value;
        steps[steps.length - 1] = point.step;
        continue;
      }
    }
    x.push(place(point));
    y.push(point.value);
    steps.push(point.step);
  }
  return { x, y, steps, smooth: smoothing > 0 ? averaged(y, smoothing) : null };
}

function averaged(values, weight) {
  let sum = 0;
  let norm = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}
