// The picture of rounds: a row a reporter, spans as bars, and a system figure below, over the same time.
import { clock, number } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const AXIS = 34; // pixels
const CURVE = 116;

function svg(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
}

/** Height of a row: many reporters are drawn denser. */
export function rowHeight(rows) {
  if (rows <= 14) return 28;
  return rows <= 40 ? 20 : 14;
}

const bar = (x, y, width, height) => `M${x.toFixed(1)} ${y}h${Math.max(width, 1).toFixed(1)}v${height}h${(-Math.max(width, 1)).toFixed(1)}z`;

/** A step of the time axis that people count in, for about `count` steps. */
function timeStep(seconds, count) {
  const wanted = seconds / count;
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
  return steps.find((step) => step >= wanted) ?? 86400 * Math.ceil(wanted / 86400);
}

function fine(seconds, step) {
  return step < 1 ? `${clock(Math.floor(seconds))}.${Math.floor((seconds % 1) * 10)}` : clock(seconds);
}

/**
 * Draw rounds into `root`, which is emptied.
 *
 * @param {HTMLElement} root
 * @param {object} picture
 * @param {number[]} picture.rows edge ids from top to bottom
 * @param {object[]} picture.spans of timeline_data.js
 * @param {object[]} picture.rounds of timeline_data.js
 * @param {[number, number]} picture.range seconds
 * @returns {{x: (time: number) => number, time: (x: number) => number, row: (y: number) => number|null, width: number,
 *   height: number}}
 */
export function roundsDraw(root, { rows, spans, rounds, range: [from, to] }) {
  const width = Math.max(root.clientWidth, 120);
  const height = rowHeight(rows.length);
  const total = AXIS + rows.length * height;
  const scale = width / Math.max(to - from, 0.001);
  const x = (time) => (time - from) * scale;
  const place = new Map(rows.map((edgeId, index) => [edgeId, AXIS + index * height]));
  const picture = svg("svg", { width, height: total, viewBox: `0 0 ${width} ${total}`, "aria-hidden": "true" });

  const ground = svg("g", {}, picture);
  rows.forEach((_, index) => {
    if (index % 2 === 1) svg("rect", { class: "tl-stripe", x: 0, y: AXIS + index * height, width, height }, ground);
  });
  axis(picture, { from, to, x, width, total });
  let labelled = -Infinity;
  for (const round of rounds) {
    const left = x(round.start);
    if (left < -1 || left > width) continue;
    svg("path", { class: "tl-round", d: `M${left.toFixed(1)} 0V${total}` }, picture);
    const text = `${round.round + 1}`;
    const room = text.length * 7 + 10;
    if (left < labelled + 4 || left + room > width) continue;
    svg("text", { class: "tl-round-name", x: left + 4, y: 12 }, picture).textContent = text;
    labelled = left + room;
  }

  const paths = new Map();
  const inset = height >= 20 ? 4 : 2;
  for (const span of spans) {
    const top = place.get(span.edgeId);
    if (top === undefined || span.end < from || span.start > to) continue;
    const left = Math.max(x(span.start), -2);
    const right = Math.min(x(span.end), width + 2);
    const low = span.name === "wait" ? height / 2 - 1 : inset;
    const key = `${span.name}|${span.open}`;
    if (!paths.has(key)) paths.set(key, []);
    paths.get(key).push(bar(left, top + low, right - left, height - 2 * low));
  }
  for (const [key, parts] of paths) {
    const [name, open] = key.split("|");
    const path = svg("path", { class: "tl-span", d: parts.join("") }, picture);
    path.dataset.phase = name;
    if (open === "true") path.classList.add("is-open");
  }
  const marks = rounds
    .filter((round) => round.straggler !== null && place.has(round.straggler))
    .map((round) => stragglerMark(round, place.get(round.straggler), height, x));
  if (marks.length > 0) svg("path", { class: "tl-straggler", d: marks.join("") }, picture);
  root.replaceChildren(picture);
  return {
    x,
    time: (pixel) => from + pixel / scale,
    row: (pixel) => rows[Math.floor((pixel - AXIS) / height)] ?? null,
    width,
    height: total,
  };
}

/** A frame around the straggler's work in a round. */
function stragglerMark(round, top, height, x) {
  const own = round.bounds.get(round.straggler);
  const length = Object.values(own.parts).reduce((sum, part) => sum + part, 0);
  const right = x(own.ready);
  return bar(Math.max(x(own.ready - length), x(round.start)), top + 1, right - Math.max(x(own.ready - length), x(round.start)), height - 2);
}

function axis(picture, { from, to, x, width, total }) {
  const step = timeStep(to - from, Math.max(2, Math.floor(width / 110)));
  const offset = new Date(from * 1000).getTimezoneOffset() * 60; // whole hours of the viewer's zone
  for (let time = Math.ceil((from - offset) / step) * step + offset; time <= to; time += step) {
    const left = x(time);
    svg("path", { class: "tl-grid", d: `M${left.toFixed(1)} ${AXIS - 8}V${total}` }, picture);
    if (left > width - 52) continue;
    svg("text", { class: "tl-time", x: left + 3, y: AXIS - 8 }, picture).textContent = fine(time, step);
  }
}

/**
 * Draw a figure's curves below, over the same time.
 *
 * @param {HTMLElement} root
 * @param {object} picture
 * @param {Map<number, {time: number[], value: (number|null)[]}>} picture.curves by edge id, in the platform's time
 * @param {[number, number]} picture.range seconds
 * @param {string} picture.unit
 * @param {(edgeId: number) => string} picture.colour
 * @param {number|null} picture.chosen the reporter that stands out
 */
export function curveDraw(root, { curves, range: [from, to], unit, colour, chosen }) {
  const width = Math.max(root.clientWidth, 120);
  const scale = width / Math.max(to - from, 0.001);
  let top = unit === "%" ? 100 : 0;
  for (const { value } of curves.values()) for (const each of value) if (each > top) top = each;
  top = top || 1;
  const y = (value) => CURVE - 4 - (value / top) * (CURVE - 14);
  const picture = svg("svg", { width, height: CURVE, viewBox: `0 0 ${width} ${CURVE}`, "aria-hidden": "true" });
  for (const part of [0, 0.5, 1]) {
    svg("path", { class: "tl-grid", d: `M0 ${y(part * top).toFixed(1)}H${width}` }, picture);
  }
  for (const [edgeId, { time, value }] of curves) {
    let path = "";
    let drawing = false;
    time.forEach((moment, index) => {
      if (value[index] === null) return void (drawing = false);
      path += `${drawing ? "L" : "M"}${((moment - from) * scale).toFixed(1)} ${y(value[index]).toFixed(1)}`;
      drawing = true;
    });
    const line = svg("path", { class: "tl-curve", d: path, stroke: colour(edgeId) }, picture);
    line.dataset.edge = edgeId;
    if (chosen !== null) line.classList.add(edgeId === chosen ? "is-chosen" : "is-faint");
  }
  for (const part of [0.5, 1]) {
    svg("text", { class: "tl-time", x: 4, y: y(part * top) + 11 }, picture).textContent = `${number(part * top)}${unit}`;
  }
  root.replaceChildren(picture);
}
