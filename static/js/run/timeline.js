// The Timeline tab: which rounds are shown, where their spans come from, and what the pointer is over.
import { duration } from "../times.js";
import { setText } from "./dom.js";
import { clock, number, printable } from "./format.js";
import { isActive } from "./header.js";
import { PHASES, Spans, offsetOf, roundsOf } from "./timeline_data.js";
import { curveDraw, rowHeight, roundsDraw } from "./timeline_draw.js";
import { stripDraw } from "./timeline_strip.js";
import { tableDraw } from "./timeline_table.js";

const FETCH_AGAIN = 3_000; // milliseconds between two looks at the figure while the run goes on
const COLOURS = ["#206bc4"];

/**
 * @param {HTMLElement} root the [data-timeline] card
 * @param {import("./store.js").Store} store
 */
export function timelineStart(root, store) {
  const one = (name) => root.querySelector(`[data-tl-${name}]`);
  const spans = new Spans();
  const state = { first: 0, size: 5, follow: true, zoom: null, correct: true, shown: false, chosen: null, figure: "" };
  let loaded = null; // "first-last" of what was fetched
  let figures = [];
  let curves = new Map();
  let curveKey = "";
  let picture = null;
  let current = { spans: [], rounds: [] };
  let queued = false;
  let aborter = null; // of the request that is under way
  let arriving = []; // live events since it was sent

  const latest = () => {
    const done = store.run?.round_index ?? -1;
    const goes = isActive(store.run) && (store.run.total_rounds === 0 || done + 1 < store.run.total_rounds);
    return Math.max(done + (goes ? 1 : 0), ...[...store.rounds.keys()].slice(-1), 0);
  };
  const last = () => Math.min(state.first + state.size - 1, Math.max(latest(), state.first));
  const correction = (edgeId) => (state.correct && edgeId !== 0 ? offsetOf(store.devices.get(edgeId)) : 0);
  const reporters = () => [
    0,
    ...[...store.devices.values()].sort((a, b) => a.client_index - b.client_index).map((device) => device.edge_id),
  ];

  function redraw() {
    if (queued || !state.shown) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      draw();
    });
  }

  function put({ edge_id: edgeId, name, value, started_time: started, ended_time: ended }) {
    spans.put(edgeId, name, value, started, ended);
  }

  async function load() {
    if (!state.shown) return;
    if (state.follow) state.first = Math.max(0, latest() - state.size + 1);
    const key = `${state.first}-${state.first + state.size - 1}`;
    if (key === loaded) return redraw();
    loaded = key;
    aborter?.abort();
    const mine = (aborter = new AbortController());
    arriving = [];
    const url = new URL(root.dataset.timelineUrl, window.location.href);
    url.searchParams.set("first", state.first);
    url.searchParams.set("last", state.first + state.size - 1);
    try {
      const response = await fetch(url, { signal: mine.signal });
      if (!response.ok) throw new Error(`the server answered ${response.status}`);
      const answer = await response.json();
      spans.clear();
      for (const event of answer.events) spans.put(...event);
      for (const event of arriving) put(event); // these may be newer than the answer
      arriving = [];
      figures = answer.figures;
      fillFigures();
      redraw();
    } catch (error) {
      if (error.name === "AbortError") return;
      loaded = null;
      one("note").hidden = false;
      setText(one("note"), "The rounds could not be fetched. Check your connection, then choose them again.");
    } finally {
      if (aborter === mine) aborter = null;
    }
  }

  function fillFigures() {
    const select = one("figure");
    const known = figures.map(({ name }) => name).join("|");
    if (select.dataset.known === known) return;
    select.dataset.known = known;
    select.replaceChildren(...figures.map(({ name, title }) => new Option(title, name)));
    if (!figures.some(({ name }) => name === state.figure)) state.figure = figures[0]?.name ?? "";
    select.value = state.figure;
  }

  function range() {
    if (state.zoom) return state.zoom;
    const ends = current.rounds.filter((round) => round.round >= state.first && round.round <= last());
    if (ends.length === 0) return [Date.now() / 1000 - 10, Date.now() / 1000];
    const from = Math.min(...ends.map((round) => round.start));
    const to = Math.max(...ends.map((round) => round.end));
    const room = Math.max((to - from) * 0.01, 0.05);
    return [from - room, to + room];
  }

  function draw() {
    const goes = isActive(store.run);
    current.spans = spans.within(state.first, last(), correction, goes ? Date.now() / 1000 + store.clockAhead : null);
    current.rounds = roundsOf(current.spans);
    const empty = current.spans.length === 0;
    root.querySelector("[data-timeline-empty]").hidden = !empty || store.rounds.size > 0;
    root.querySelector("[data-timeline-body]").hidden = empty && store.rounds.size === 0;
    if (empty && store.rounds.size === 0) return;
    const rows = reporters();
    drawNames(rows);
    picture = roundsDraw(one("rows"), { rows, spans: current.spans, rounds: current.rounds, range: range() });
    stripDraw(one("strip"), { rounds: store.rounds, first: state.first, last: last(), latest: latest() });
    tableDraw(one("table"), current.rounds, { nameOf, zoom: zoomTo });
    setText(one("window"), `${state.first + 1} to ${last() + 1} of ${Math.max(store.run?.total_rounds ?? 0, latest() + 1)}`);
    root.querySelector('[data-tl-go="earlier"]').disabled = state.first === 0;
    root.querySelector('[data-tl-go="later"]').disabled = last() >= latest();
    root.querySelector('[data-tl-go="latest"]').setAttribute("aria-pressed", String(state.follow));
    root.querySelector('[data-tl-go="unzoom"]').hidden = state.zoom === null;
    drawCurve();
    describe();
  }

  const nameOf = (edgeId) => printable(store.reporterName(edgeId));

  function drawNames(rows) {
    const names = one("names");
    const height = rowHeight(rows.length);
    names.style.setProperty("--tl-row", `${height}px`);
    const wanted = rows.map((edgeId) => `${nameOf(edgeId)}|${correction(edgeId)}`).join("\n");
    if (names.dataset.names === wanted) return;
    names.dataset.names = wanted;
    names.replaceChildren(
      ...rows.map((edgeId) => {
        const name = document.createElement("div");
        name.textContent = nameOf(edgeId);
        name.title = nameOf(edgeId);
        if (offsetOf(store.devices.get(edgeId)) !== 0) name.classList.add("is-skewed");
        return name;
      }),
    );
  }

  /** Say what is wrong with the clocks, and how the picture deals with it. */
  function describe() {
    const skewed = [...store.devices.values()].filter((device) => offsetOf(device) !== 0);
    one("clocks").hidden = skewed.length === 0;
    const words = skewed.slice(0, 3).map((device) => {
      const offset = device.clock_offset;
      return `${printable(device.name)} is ${number(Math.abs(offset))} s ${offset > 0 ? "ahead" : "behind"}`;
    });
    if (skewed.length > 3) words.push(`${skewed.length - 3} more are off`);
    const clocks = state.correct ? "Their times are corrected by that." : "Their times are drawn as they were reported.";
    const off = words.length > 0 ? `Clocks: ${words.join(", ")}. ${clocks} ` : "";
    setText(one("note"), `${off}Drag over the picture to zoom into a span of time.`);
  }

  async function drawCurve() {
    one("below").hidden = figures.length === 0;
    if (figures.length === 0) return;
    const [from, to] = range();
    const goes = isActive(store.run) && state.follow;
    const key = [state.figure, from.toFixed(2), goes ? Math.floor(to / (FETCH_AGAIN / 1000)) : to.toFixed(2), state.correct].join("|");
    if (key !== curveKey) {
      curveKey = key;
      const url = new URL(root.dataset.curveUrl, window.location.href);
      const widest = Math.max(0, ...[...store.devices.keys()].map((edgeId) => Math.abs(correction(edgeId))));
      url.searchParams.set("name", state.figure);
      url.searchParams.set("from", Math.max(0, from - widest - 5).toFixed(3));
      url.searchParams.set("to", (to + widest + 5).toFixed(3));
      try {
        const response = await fetch(url);
        if (!response.ok || key !== curveKey) return;
        const answer = await response.json();
        curves = new Map(
          Object.entries(answer.curves).map(([edgeId, { time, value }]) => {
            const offset = correction(Number(edgeId));
            return [Number(edgeId), { time: time.map((moment) => moment - offset), value }];
          }),
        );
      } catch {
        curveKey = ""; // the next drawing tries again
        return;
      }
    }
    const colour = (edgeId) => store.figures?.edges?.[edgeId]?.colour ?? COLOURS[0];
    const unit = figures.find(({ name }) => name === state.figure)?.unit ?? "";
    curveDraw(one("curves"), { curves, range: [from, to], unit, colour, chosen: state.chosen });
  }

  function zoomTo(from, to) {
    state.zoom = [from, to];
    state.follow = false;
    redraw();
  }

  function go(where) {
    state.zoom = null;
    if (where === "earlier") state.first = Math.max(0, state.first - state.size);
    if (where === "later") state.first = Math.min(Math.max(0, latest() - state.size + 1), state.first + state.size);
    if (where === "latest") state.follow = !state.follow;
    else if (where !== "unzoom") state.follow = false;
    load();
  }

  root.addEventListener("click", (event) => {
    const button = event.target.closest("[data-tl-go]");
    if (button) go(button.dataset.tlGo);
  });
  one("size").addEventListener("change", (event) => {
    const end = last();
    state.size = Number(event.target.value);
    state.first = Math.max(0, end - state.size + 1);
    state.zoom = null;
    load();
  });
  one("figure").addEventListener("change", (event) => {
    state.figure = event.target.value;
    redraw();
  });
  one("clocks").querySelector("input").addEventListener("change", (event) => {
    state.correct = event.target.checked;
    redraw();
  });
  one("strip").addEventListener("click", (event) => {
    const { left, width } = one("strip").getBoundingClientRect();
    const total = latest() + 1;
    const round = Math.floor(((event.clientX - left) / width) * total);
    state.first = Math.max(0, Math.min(round - Math.floor(state.size / 2), total - state.size));
    state.follow = false;
    state.zoom = null;
    load();
  });

  pointerStart();

  function pointerStart() {
    const area = one("rows");
    const tip = one("tip");
    let from = null;
    const chosen = document.createElement("div");
    chosen.className = "tl-select";
    const at = (event) => {
      const box = area.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top + 0 };
    };
    area.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !picture || event.pointerType === "touch") return;
      from = at(event).x;
      area.setPointerCapture(event.pointerId);
    });
    area.addEventListener("pointermove", (event) => {
      if (!picture) return;
      const { x, y } = at(event);
      if (from !== null && Math.abs(x - from) > 3) {
        if (!chosen.isConnected) area.append(chosen);
        chosen.style.setProperty("left", `${Math.min(x, from)}px`);
        chosen.style.setProperty("width", `${Math.abs(x - from)}px`);
        tip.hidden = true;
        return;
      }
      const edgeId = picture.row(y);
      const time = picture.time(x);
      const reach = (picture.time(3) - picture.time(0)) || 0;
      const under = current.spans.filter((span) => span.edgeId === edgeId && span.start - reach <= time && time <= span.end + reach);
      const span = under.find(({ name }) => name !== "wait") ?? under[0];
      if (state.chosen !== edgeId) {
        state.chosen = edgeId;
        drawCurve();
      }
      tip.hidden = !span;
      if (!span) return;
      tip.replaceChildren(...tipLines(span));
      const box = root.getBoundingClientRect();
      const left = Math.min(event.clientX - box.left + 14, box.width - tip.offsetWidth - 8);
      tip.style.setProperty("left", `${Math.max(8, left)}px`);
      tip.style.setProperty("top", `${event.clientY - box.top + 16}px`);
    });
    area.addEventListener("pointerleave", () => {
      tip.hidden = true;
      state.chosen = null;
      if (picture) drawCurve();
    });
    area.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const { x } = at(event);
      const [low, high] = [Math.min(from, x), Math.max(from, x)];
      from = null;
      chosen.remove();
      if (high - low > 4) zoomTo(picture.time(low), picture.time(high));
    });
    area.addEventListener("dblclick", () => go("unzoom"));
  }

  function tipLines(span) {
    const line = (text, name = "div") => Object.assign(document.createElement(name), { textContent: text });
    const round = span.round === null ? "" : `, round ${span.round + 1}`;
    const phase = PHASES.includes(span.name) ? span.name : printable(span.name);
    const lines = [line(`${nameOf(span.edgeId)}${round}`, "strong")];
    lines.push(line(`${phase}: ${span.open ? "goes on since " : ""}${duration(span.end - span.start)}`));
    lines.push(line(span.open ? `from ${clock(span.start)}` : `${clock(span.start)} to ${clock(span.end)}`));
    const judged = current.rounds.find(({ round: number_ }) => number_ === span.round);
    if (judged?.straggler === span.edgeId) lines.push(line(`last of its round, ${duration(judged.behind)} behind the next`));
    return lines;
  }

  store.on("all", () => {
    loaded = null;
    load();
  });
  for (const topic of ["run", "round"]) store.on(topic, load);
  store.on("device", redraw);
  store.on("event", (events) => {
    if (!state.shown) return;
    events.forEach(put);
    if (aborter) arriving.push(...events);
    load();
  });
  new ResizeObserver(redraw).observe(one("rows"));
  setInterval(() => {
    if (state.shown && isActive(store.run) && !document.hidden && current.spans.some((span) => span.open)) redraw();
  }, 1000);

  return {
    /** Called when the tab is opened. */
    opened() {
      state.shown = true;
      load();
    },
  };
}
