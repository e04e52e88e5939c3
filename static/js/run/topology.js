// The picture of the run: the aggregator, its devices around it, and what each of them does.

import { printable, reasonText } from "./format.js";
import { MOST_DRAWN, ONE_RING, placed } from "./topology_layout.js";

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

function text(x, y, className, anchor = "middle") {
  return svg("text", { x, y, class: className, "text-anchor": anchor });
}

/** A line from the aggregator's ring to a device's circle. */
function straight(centre, x, y, radius) {
  const length = Math.hypot(x - centre.x, y - centre.y);
  const at = (distance) =>
    `${centre.x + ((x - centre.x) * distance) / length} ${centre.y + ((y - centre.y) * distance) / length}`;
  return `M ${at(RING_RADIUS + 5)} L ${at(length - radius - 2)}`;
}

/** A curve from the side of the aggregator's ring to a device in a column. */
function bow(centre, x, y, radius) {
  const direction = Math.sign(x - centre.x);
  const from = centre.x + direction * (RING_RADIUS + 4);
  const to = x - direction * (radius + 2);
  const middle = from + direction * 20;
  return `M ${from} ${centre.y} C ${middle} ${centre.y}, ${middle} ${y}, ${to} ${y}`;
}

function icon(name, x, y, size) {
  const sprite = document.documentElement.dataset.iconSprite;
  return svg("use", { href: `${sprite}#${name}`, x: x - size / 2, y: y - size / 2, width: size, height: size, class: "topology-icon" });
}

/** Names often differ in their ends alone: the middle is left out. */
function shortened(name, letters) {
  if (name.length <= letters) return name;
  const end = Math.ceil((letters - 1) / 2);
  return `${name.slice(0, letters - 1 - end)}…${name.slice(-end)}`;
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
    picture.classList.toggle("is-dense", edges.length > ONE_RING);
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

  function deviceNode(edgeId, { x, y, name: side }, { centre, radius, letters }) {
    const roomy = radius >= 17;
    const beside = side === "left" || side === "right";
    const anchor = { left: "end", right: "start" }[side] ?? "middle";
    const nameX = x + ({ left: -radius - 5, right: radius + 5 }[side] ?? 0);
    const nameY = y + (beside ? 4 : side === "above" ? -radius - (roomy ? 21 : 7) : radius + 15);
    const name = text(nameX, nameY, "topology-name", anchor);
    const status = text(x, side === "above" ? y - radius - 7 : y + radius + 29, "topology-status");
    const line = svg("path", { d: beside ? bow(centre, x, y, radius) : straight(centre, x, y, radius), class: "topology-edge" });
    const title = svg("title");
    const circle = svg("circle", { cx: x, cy: y, r: radius, class: "topology-circle" });
    const group = svg("g", { class: "topology-node" }, title, circle);
    if (radius >= 12) group.append(icon("device-desktop", x, y, radius * 0.95));
    group.append(name);
    if (roomy) group.append(status);
    group.addEventListener("click", () => chosen(edgeId));
    return { group, line, name, status, title, letters };
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
    node.status.textContent = device.label;
    node.title.textContent = `${name}: ${device.label}${device.reason ? ` (${reasonText(device.reason)})` : ""}`;
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
