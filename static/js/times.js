// Times in the viewer's zone: <time datetime="2025-03-01T12:00:00+00:00" data-time="relative|since|exact">.
// Hover shows the exact moment. The server has written the same words already; this keeps them true.

const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const TITLE = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const UNITS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
];

/** A length of time in its largest unit: "40 s", "3 min", "2 h", "5 d". */
export function span(seconds) {
  for (const [size, unit] of UNITS) if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  return `${Math.max(0, Math.floor(seconds))} s`;
}

/** Seconds as the pages write them: "0.4 s", "42 s", "2m 15s", "1h 02m". */
export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}h ${two(Math.floor((whole % 3600) / 60))}m`;
  return `${Math.floor(whole / 86400)}d ${two(Math.floor((whole % 86400) / 3600))}h`;
}

function words(style, date) {
  if (style === "exact") return EXACT.format(date);
  const seconds = (Date.now() - date.getTime()) / 1000;
  if (style === "since") return `for ${span(seconds)}`;
  return seconds >= 1 ? `${span(seconds)} ago` : "just now";
}

/** Make a <time> element. */
export function timeElement(date, style = "relative") {
  const element = document.createElement("time");
  element.dateTime = date.toISOString();
  element.dataset.time = style;
  show(element);
  return element;
}

function show(element) {
  const date = new Date(element.dateTime);
  if (Number.isNaN(date.getTime())) return;
  const text = words(element.dataset.time, date);
  if (element.textContent !== text) element.textContent = text;
  const title = TITLE.format(date);
  if (element.title !== title) element.title = title;
}

/** Write every time below `root` anew; needed after adding some by script (htmx fragments are seen to). */
export function refreshTimes(root = document) {
  root.querySelectorAll("time[data-time]").forEach(show);
  // <span data-elapsed="2025-03-01T12:00:00+00:00">: a duration that still runs.
  root.querySelectorAll("[data-elapsed]").forEach((element) => {
    const seconds = (Date.now() - new Date(element.dataset.elapsed).getTime()) / 1000;
    if (seconds >= 0) element.textContent = duration(Math.floor(seconds) < 10 ? Math.floor(seconds) : seconds);
  });
}

refreshTimes();
document.addEventListener("htmx:load", (event) => refreshTimes(event.target));
setInterval(() => document.hidden || refreshTimes(), 1000);
document.addEventListener("visibilitychange", () => document.hidden || refreshTimes());
