// The delivery timeline: from the command to the first sign of life, for each device.
import { icon } from "../icons.js";
import { duration } from "../times.js";
import { setText } from "./dom.js";
import { clock } from "./format.js";
import { isActive } from "./header.js";
import { awaitedOf, deviceName, stepsOf } from "./delivery_steps.js";

const SHOWN_AT_FIRST = 12;

function element(name, css, text = "") {
  return Object.assign(document.createElement(name), { className: css, textContent: text });
}

/**
 * @param {HTMLElement} root the [data-delivery] card
 * @param {import("./store.js").Store} store
 */
export function deliveryStart(root, store) {
  const list = root.querySelector("[data-dl-list]");
  if (!list) return;
  const more = root.querySelector("[data-dl-more]");
  const rows = new Map();
  let limit = SHOWN_AT_FIRST;
  let queued = false;

  function rowOf(device) {
    const row = element("li", "dl-row");
    row.dataset.device = device.edge_id;
    const name = element("a", "dl-name");
    name.href = `?tab=training#device-${device.edge_id}`;
    name.dataset.openDevice = device.edge_id;
    row.append(name, element("ol", "dl-steps"), element("p", "dl-text"));
    return row;
  }

  function stepElement(step, before, state, progress) {
    const item = element("li", `dl-step is-${state}`);
    const mark = element("span", "dl-mark");
    mark.setAttribute("aria-hidden", "true");
    if (state === "done") mark.append(icon("check"));
    const title = element("span", "dl-label", step.label);
    if (state === "now" && step.name === "fetched" && typeof progress === "number") {
      title.textContent = `${step.label} ${Math.round(progress * 100)} %`;
      const bar = element("progress", "run-bar");
      Object.assign(bar, { max: 1, value: progress });
      bar.setAttribute("aria-label", title.textContent);
      item.append(mark, title, bar);
    } else {
      item.append(mark, title);
    }
    const words = step.at === undefined ? "" : clock(step.at);
    item.append(element("span", "dl-time", words));
    if (step.at !== undefined && before !== undefined) {
      item.append(element("span", "dl-took", `+${duration(Math.max(0, step.at - before))}`));
    }
    return item;
  }

  function fill(row, device, awaited) {
    const steps = stepsOf(device);
    row.classList.toggle("is-stuck", Boolean(awaited.stuck));
    row.classList.toggle("is-failed", Boolean(awaited.failed));
    setText(row.querySelector(".dl-name"), deviceName(device));
    const key = JSON.stringify([steps, device.progress, awaited.step?.name, awaited.stuck, awaited.failed]);
    if (row.dataset.key !== key) {
      row.dataset.key = key;
      let before;
      row.querySelector(".dl-steps").replaceChildren(
        ...steps.map((step) => {
          const state = step.at !== undefined ? "done" : step === awaited.step || step.name === awaited.step?.name ? "now" : "todo";
          const made = stepElement(step, before, state, device.progress);
          before = step.at ?? before;
          return made;
        }),
      );
    }
    setText(row.querySelector(".dl-text"), awaited.text);
  }

  function draw() {
    queued = false;
    const now = Date.now() / 1000 + store.clockAhead;
    const active = isActive(store.run);
    const all = [...store.devices.values()].map((device) => ({ device, awaited: awaitedOf(device, active, now) }));
    const urgency = ({ awaited }) => (awaited.stuck ? 0 : awaited.failed ? 1 : 2);
    all.sort((a, b) => urgency(a) - urgency(b) || a.device.client_index - b.device.client_index);
    const shown = all.slice(0, limit);
    for (const { device, awaited } of shown) {
      if (!rows.has(device.edge_id)) rows.set(device.edge_id, rowOf(device));
      fill(rows.get(device.edge_id), device, awaited);
    }
    const wanted = shown.map(({ device }) => rows.get(device.edge_id));
    if (wanted.length !== list.children.length || wanted.some((row, index) => list.children[index] !== row)) list.replaceChildren(...wanted);
    more.hidden = shown.length === all.length;
    setText(more.firstElementChild, `Show all ${all.length} devices`);
    summarise(all);
  }

  function summarise(all) {
    const done = all.filter(({ awaited }) => awaited.done).length;
    const stuck = all.filter(({ awaited }) => awaited.stuck).length;
    const slowest = Math.max(...all.filter(({ awaited }) => awaited.done).map(({ device }) => device.delivery.alive - device.delivery.sent));
    const parts = [`${done} of ${all.length} there`];
    if (stuck > 0) parts.push(`${stuck} stuck`);
    if (done > 0) parts.push(`the slowest took ${duration(Math.max(0, slowest))}`);
    setText(root.querySelector("[data-dl-summary]"), parts.join(", "));
  }

  function later() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(draw);
  }

  more.addEventListener("click", () => {
    limit = Infinity;
    draw();
  });
  for (const topic of ["all", "run", "device"]) store.on(topic, later);
  setInterval(() => {
    if (!document.hidden && isActive(store.run) && root.offsetParent !== null) draw();
  }, 1000);
  draw();
}
