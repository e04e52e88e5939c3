// The picture of the run: the aggregator, its devices around it, and what each of them does.

import { printable } from "./format.js";
import { MOST_DRAWN, placed } from "./topology_layout.js";

const SVG = "http://www.w3.org/2000/svg";
const AGGREGATOR_RADIUS = 34;
const RING_RADIUS = 42;
const RING_LENGTH = 2 * Math.PI * RING_RADIUS;

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function text(x, y, className) {
  return svg("text", { x, y, class: className, "text-anchor": "middle" });
}

function icon(name, x, y, size) {
  const sprite = document.documentElement.dataset.iconSprite;
  return svg("use", { href: `${sprite}#${name}`, x: x - size / 2, y: y - size / 2, width: size, height: size, class: "topology-icon" });
}

function shortened(name, letters) {
  return name.length <= letters ? name : `${name.slice(0, letters - 1)}…`;
}

/**
 * Draw the topology into `root` and keep it true.
 *
 * @param {HTMLElement} root contains `.topology-picture`
 * @param {import("./store.js").Store} store
 * @param {(edgeId: number) => void} chosen called when a device, or the aggregator as 0, is clicked
 */
export function topologyStart(root, store, chosen) {
  const picture = root.querySelector(".topology-picture");
  const nodes = new Map();
  let drawnFor = "";

  function build() {
    const { clientWidth: width, clientHeight: height } = picture;
    const edges = [...store.devices.keys()];
    const key = `${width}x${height}:${edges.join()}`;
    if (key === drawnFor || width === 0) return;
    drawnFor = key;
    nodes.clear();
    picture.replaceChildren();
    root.classList.toggle("is-crowded", edges.length > MOST_DRAWN);
    if (edges.length === 0 || edges.length > MOST_DRAWN) return;

    const place = placed(edges.length, width, height);
    const lines = svg("g", { class: "topology-edges" });
    const circles = svg("g");
    edges.forEach((edgeId, index) => {
      const node = deviceNode(edgeId, place.devices[index], place);
      nodes.set(edgeId, node);
      lines.append(node.line);
      circles.append(node.group);
    });
    const aggregator = aggregatorNode(place.centre);
    nodes.set(0, aggregator);
    picture.append(
      svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" }, lines, circles, aggregator.group),
    );
    for (const edgeId of nodes.keys()) update(edgeId);
  }

  function aggregatorNode({ x, y }) {
    const progress = svg("circle", {
      cx: x, cy: y, r: RING_RADIUS, class: "topology-progress", transform: `rotate(-90 ${x} ${y})`,
      "stroke-dasharray": `0 ${RING_LENGTH}`,
    });
    const status = text(x, y + RING_RADIUS + 33, "topology-status");
    const name = text(x, y + RING_RADIUS + 18, "topology-name");
    name.textContent = "Aggregator";
    const group = svg(
      "g", { class: "topology-node topology-aggregator" },
      svg("circle", { cx: x, cy: y, r: RING_RADIUS, class: "topology-track" }), progress,
      svg("circle", { cx: x, cy: y, r: AGGREGATOR_RADIUS, class: "topology-circle" }),
      icon("server-2", x, y, 30), name, status,
    );
    group.addEventListener("click", () => chosen(0));
    return { group, status, progress };
  }

  function deviceNode(edgeId, { x, y }, { centre, radius, letters }) {
    const line = svg("line", { x1: centre.x, y1: centre.y, x2: x, y2: y, class: "topology-edge" });
    const name = text(x, y + radius + 15, "topology-name");
    const status = text(x, y + radius + 29, "topology-status");
    const title = svg("title");
    const group = svg("g", { class: "topology-node" }, title, svg("circle", { cx: x, cy: y, r: radius, class: "topology-circle" }));
    if (radius >= 14) group.append(icon("device-desktop", x, y, radius * 0.95));
    group.append(name, status);
    group.addEventListener("click", () => chosen(edgeId));
    return { group, line, name, status, title, letters, roomy: radius >= 17 };
  }

  function update(edgeId) {
    const node = nodes.get(edgeId);
    if (!node) return;
    if (edgeId === 0) {
      const { aggregator, round_index: index = -1, total_rounds: total = 0 } = store.run ?? {};
      node.group.dataset.colour = aggregator?.colour ?? "grey";
      node.status.textContent = aggregator?.label ?? "";
      const done = total > 0 ? Math.min(1, (index + 1) / total) : 0;
      node.progress.setAttribute("stroke-dasharray", `${done * RING_LENGTH} ${RING_LENGTH}`);
      return;
    }
    const device = store.devices.get(edgeId);
    const name = printable(device.name);
    node.name.textContent = shortened(name, node.letters);
    node.status.textContent = node.roomy ? device.label : "";
    node.title.textContent = `${name}: ${device.label}${device.reason ? ` (${printable(device.reason)})` : ""}`;
    for (const element of [node.group, node.line]) element.dataset.colour = device.colour;
    node.line.classList.toggle("is-moving", device.status === "TRAINING" && device.online !== false);
    node.group.classList.toggle("is-offline", device.online === false);
  }

  new ResizeObserver(build).observe(picture);
  store.on("all", () => {
    build();
    for (const edgeId of nodes.keys()) update(edgeId);
  });
  store.on("run", () => update(0));
  store.on("device", (changed) => {
    build();
    changed.forEach(update);
  });
  build();
}
