// The x axes: how the view's units, those of the server and those of plotly.js go over into each other. No DOM in here.

const TICKS = [0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400];

/** Seconds since the epoch of what plotly.js says of a place on an axis of dates: a text in the viewer's zone. */
export function unixOf(place) {
  if (typeof place === "number") return place / 1000;
  return new Date(String(place).replace(" ", "T")).getTime() / 1000;
}

/** A place on a drawn axis in the view's units. */
export function unitsOf(axis, place) {
  return axis === "time" ? unixOf(place) : Number(place);
}

/** A window in the view's units in the numbers of the traces. */
export function windowOf(axis, zoom) {
  return zoom && (axis === "time" ? zoom.map((end) => end * 1000) : [...zoom]);
}

/** A window in the view's units as the server is asked for it. */
export function serverWindow(axis, [low, high], since) {
  if (axis === "round") return { x: "round", from: Math.ceil(low - 1), to: Math.floor(high - 1) };
  if (axis === "relative") return { x: "time", from: low + since, to: high + since };
  return { x: axis, from: low, to: high };
}

/** Marks on an axis of seconds, as "1:30" or "2:00:00", about `count` of them. */
export function relativeTicks(low, high, count) {
  const wanted = (high - low) / Math.max(1, count);
  const apart = TICKS.find((each) => each >= wanted) ?? Math.ceil(wanted / 86_400) * 86_400;
  const tickvals = [];
  for (let at = Math.ceil(low / apart) * apart; at <= high + apart * 1e-9; at += apart) tickvals.push(at);
  return { tickvals, ticktext: tickvals.map((at) => elapsed(at, apart)) };
}

function elapsed(seconds, apart) {
  const sign = seconds < 0 ? "-" : "";
  const size = Math.abs(seconds);
  if (apart < 1) return `${sign}${size.toFixed(1)} s`;
  if (size < 60 && apart < 60) return `${sign}${Math.round(size)} s`;
  const [hours, minutes, rest] = [Math.floor(size / 3600), Math.floor((size % 3600) / 60), Math.round(size % 60)];
  const two = (figure) => String(figure).padStart(2, "0");
  if (apart >= 60) return hours ? `${sign}${hours} h ${two(minutes)}` : `${sign}${minutes} min`;
  return hours ? `${sign}${hours}:${two(minutes)}:${two(rest)}` : `${sign}${minutes}:${two(rest)}`;
}
