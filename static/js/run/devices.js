// What every device does: rows of the Training status tab, and the list beside the picture.
import { field, setBadge, setBar, setText, setTime } from "./dom.js";
import { printable, reasonText } from "./format.js";

const PHASES = { fetch: "Fetching the package", install: "Installing", open: "Opening", run: "Running" };

/** Keep the rows [data-edge] below `root` true; aggregator: edge 0. */
export function devicesStart(root, store) {
  const rows = new Map();
  for (const row of root.querySelectorAll("[data-edge]")) {
    const edgeId = Number(row.dataset.edge);
    rows.set(edgeId, [...(rows.get(edgeId) ?? []), row]);
  }
  const summary = root.querySelector("[data-device-summary]");

  function update(edgeId) {
    const item = edgeId === 0 ? store.run?.aggregator : store.devices.get(edgeId);
    if (!item) return;
    for (const row of rows.get(edgeId) ?? []) {
      setBadge(field(row, "badge"), item);
      if (edgeId !== 0) setText(field(row, "name"), printable(item.name));
      if (!row.matches("tr")) continue;
      setTime(field(row, "since"), item.since);
      setText(field(row, "reason"), reasonText(item.reason));
      if (edgeId === 0) continue;
      field(row, "offline").hidden = item.online !== false;
      setText(field(row, "phase"), PHASES[item.phase] ?? printable(item.phase));
      setBar(field(row, "bar"), item.progress);
      setText(field(row, "exit_code"), item.exit_code === null ? "–" : String(item.exit_code));
    }
  }

  function summarise() {
    const counts = new Map();
    for (const { label } of store.devices.values()) counts.set(label, (counts.get(label) ?? 0) + 1);
    const offline = [...store.devices.values()].filter((device) => device.online === false).length;
    const parts = [...counts].map(([label, count]) => `${count} ${label.toLowerCase()}`);
    if (offline > 0) parts.push(`${offline} offline`);
    setText(summary, parts.join(", "));
  }

  function updateAll() {
    for (const edgeId of rows.keys()) update(edgeId);
    summarise();
  }
  store.on("all", updateAll);
  store.on("run", () => update(0));
  store.on("device", (changed) => {
    changed.forEach(update);
    summarise();
  });
  updateAll();
}
