// The page of a run: one websocket feeds one store, and each part of the page follows the store.
import { actionsStart } from "./actions.js";
import { chartsStart } from "./charts.js";
import { deliveryStart } from "./delivery.js";
import { devicesStart } from "./devices.js";
import { headerStart, indicatorStart } from "./header.js";
import { LogSource } from "./log_source.js";
import { logsStart } from "./logs.js";
import { modelsStart } from "./models.js";
import { numbersStart } from "./numbers.js";
import { follow } from "./socket.js";
import { stagesStart } from "./stages.js";
import { Store } from "./store.js";
import { tabsStart } from "./tabs.js";
import { timelineStart } from "./timeline.js";
import { topologyStart } from "./topology.js";

const root = document.getElementById("run");
const store = new Store();
store.apply(JSON.parse(document.getElementById("run-items").textContent));

const source = new LogSource(root.dataset.linesUrl, store);
const logs = logsStart(root.querySelector("[data-logs]"), store, source);
const timeline = timelineStart(root.querySelector("[data-timeline]"), store);
deliveryStart(root.querySelector("[data-delivery]"), store);
const opened = { logs: () => logs.opened(), timeline: () => timeline.opened() };
const tabs = tabsStart(root, (name) => opened[name]?.(), "tab");

function openLog(reporter) {
  logs.open(reporter);
  tabs.open("logs");
}

function openDevice(edgeId) {
  tabs.open("training");
  document.getElementById(`device-${edgeId}`).scrollIntoView({ block: "center" });
}

headerStart(store);
numbersStart(root, store);
devicesStart(root, store);
stagesStart(root, store, source);
modelsStart(root.querySelector("[data-models]"), store);
topologyStart(root.querySelector("[data-topology]"), store, (edgeId) => openLog(edgeId === 0 ? "server" : `edge:${edgeId}`));
const views = JSON.parse(root.dataset.chartViews);
for (const kind of ["metric", "system"]) {
  const tab = root.querySelector(`[data-charts="${kind}"]`).closest("[role=tabpanel]");
  const url = root.dataset.chartViewUrl.replace("KIND", kind);
  chartsStart(tab, kind, store, root.dataset.chartUrl, { url, saved: views[kind] ?? null });
}
actionsStart();
root.addEventListener("click", (event) => {
  const link = event.target.closest("[data-open-log], [data-open-device]");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  if (link.dataset.openLog) openLog(link.dataset.openLog);
  else openDevice(link.dataset.openDevice);
});

const showSocket = indicatorStart(store);
follow(root.dataset.socket, {
  snapshot: (snapshot) => store.restore(snapshot),
  items: (items) => store.apply(items),
  state: showSocket,
});
