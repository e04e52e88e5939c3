// What a view of charts is made of, and how it is written into the address and kept for its user. No DOM in here.
//
// One codec serves both: a view is a mapping of short names to texts, which holds only what differs from the defaults.

export const AXES = { metric: ["round", "step", "relative", "time"], system: ["relative", "time"] };
export const DEVICES = ["lines", "range", "quantiles"];
export const MOST_COLUMNS = 4;
export const HEIGHTS = { least: 140, most: 1200, usual: 272 }; // pixels
const PLAIN = "plain"; // says in the address that a view is the default one, so that nobody's own takes its place
const MOST_SMOOTH = 0.99;
// What is about this run and this moment alone is part of a link, and not kept for the project.
const PASSING = new Set(["find", "regex", "zoom", "full"]);

/**
 * The view of a tab before anybody changed it.
 *
 * @param {"metric"|"system"} kind
 */
export function viewDefault(kind) {
  return {
    axis: kind === "system" ? "time" : "round",
    smoothing: 0, // weight of the past in the moving average
    logarithmic: false,
    robust: false, // outliers do not stretch the y axis
    devices: "lines",
    hidden: null, // Set of edge ids; null: nobody has chosen yet
    find: "",
    regex: false,
    columns: 2,
    zoom: null, // {axis, ends: [low, high]} in the units of the axis: rounds (from 1), steps, seconds
    full: null, // key of the panel that fills the window
    order: [], // keys of panels that come first in their section
    removed: new Set(), // keys of panels
    sizes: new Map(), // key -> [columns, height in pixels]
    closed: new Set(), // names of sections
    added: [], // {key, names: [...]}: panels made of several metrics
  };
}

/** The view as texts by short name; an empty mapping is the default view. */
export function viewTexts(view, kind) {
  const usual = viewDefault(kind);
  const layout = {};
  if (view.order.length) layout.order = view.order;
  if (view.removed.size) layout.removed = [...view.removed];
  if (view.sizes.size) layout.sizes = Object.fromEntries(view.sizes);
  if (view.closed.size) layout.closed = [...view.closed];
  if (view.added.length) layout.added = view.added;
  const texts = {
    x: view.axis === usual.axis ? "" : view.axis,
    smooth: view.smoothing ? String(view.smoothing) : "",
    log: view.logarithmic ? "1" : "",
    robust: view.robust ? "1" : "",
    devices: view.devices === usual.devices ? "" : view.devices,
    hide: view.hidden === null ? "" : view.hidden.size === 0 ? "none" : [...view.hidden].sort((a, b) => a - b).join("."),
    find: view.find,
    regex: view.regex ? "1" : "",
    columns: view.columns === usual.columns ? "" : String(view.columns),
    zoom: view.zoom ? [view.zoom.axis, ...view.zoom.ends.map((end) => Number(end.toPrecision(13)))].join("~") : "",
    full: view.full ?? "",
    layout: Object.keys(layout).length ? JSON.stringify(layout) : "",
  };
  return Object.fromEntries(Object.entries(texts).filter(([, text]) => text !== ""));
}

/** Set `view` to what the texts say; whatever in them makes no sense is as if it were not there. */
export function viewRead(view, kind, texts) {
  Object.assign(view, viewDefault(kind));
  const choice = (text, choices, usual) => (choices.includes(text) ? text : usual);
  view.axis = choice(texts.x, AXES[kind], view.axis);
  view.smoothing = Math.min(MOST_SMOOTH, Math.max(0, Number(texts.smooth) || 0));
  view.logarithmic = texts.log === "1";
  view.robust = texts.robust === "1";
  view.devices = choice(texts.devices, DEVICES, view.devices);
  if (texts.hide) view.hidden = new Set(texts.hide.split(".").filter((id) => /^\d{1,18}$/.test(id)).map(Number));
  view.find = (texts.find ?? "").slice(0, 200);
  view.regex = texts.regex === "1";
  view.columns = Math.min(MOST_COLUMNS, Math.max(1, Math.round(Number(texts.columns)) || view.columns));
  const [axis, ...written] = (texts.zoom ?? "").split("~");
  const ends = written.map((end) => (end === "" ? NaN : Number(end)));
  if (AXES[kind].includes(axis) && ends.length === 2 && ends[0] < ends[1]) view.zoom = { axis, ends };
  view.full = texts.full || null;
  layoutRead(view, texts.layout);
}

function layoutRead(view, text) {
  let layout = {};
  try {
    layout = JSON.parse(text || "{}") ?? {};
  } catch {
    return;
  }
  const strings = (list) => (Array.isArray(list) ? list.filter((each) => typeof each === "string") : []);
  view.order = strings(layout.order);
  view.removed = new Set(strings(layout.removed));
  view.closed = new Set(strings(layout.closed));
  for (const [key, size] of Object.entries(layout.sizes ?? {})) {
    if (Array.isArray(size) && size.length === 2 && size.every(Number.isFinite)) view.sizes.set(key, sizeBounded(size));
  }
  for (const each of Array.isArray(layout.added) ? layout.added : []) {
    const names = strings(each?.names);
    if (typeof each?.key === "string" && names.length) view.added.push({ key: each.key, names });
  }
}

/** A panel's size within what is allowed. */
export function sizeBounded([columns, height]) {
  return [
    Math.min(MOST_COLUMNS, Math.max(1, Math.round(columns))),
    Math.min(HEIGHTS.most, Math.max(HEIGHTS.least, Math.round(height))),
  ];
}

/** What of the texts is kept for the user and the project. */
export function textsKept(texts) {
  return Object.fromEntries(Object.entries(texts).filter(([name]) => !PASSING.has(name)));
}

/** The name of a part of the view in the address: those of the System tab have a prefix. */
function parameter(kind, name) {
  return kind === "system" ? `system.${name}` : name;
}

const NAMES = ["x", "smooth", "log", "robust", "devices", "hide", "find", "regex", "columns", "zoom", "full", "layout"];

/** The texts of a view in an address, or null where it says nothing of the view. */
export function addressRead(url, kind) {
  const found = NAMES.map((name) => [name, url.searchParams.get(parameter(kind, name))]).filter(([, text]) => text !== null);
  const plain = url.searchParams.get(parameter(kind, "view")) === PLAIN;
  return found.length || plain ? Object.fromEntries(found) : null;
}

/** Write the texts into an address; `explicit`: say also that the view is the default one. */
export function addressWrite(url, kind, texts, explicit = false) {
  for (const name of NAMES) {
    if (texts[name] === undefined) url.searchParams.delete(parameter(kind, name));
    else url.searchParams.set(parameter(kind, name), texts[name]);
  }
  if (explicit && Object.keys(texts).length === 0) url.searchParams.set(parameter(kind, "view"), PLAIN);
  else url.searchParams.delete(parameter(kind, "view"));
}
