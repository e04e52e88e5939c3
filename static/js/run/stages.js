// The steps from packages to devices, each with its own log.
import { duration } from "../times.js";
import { field, setBar, setText } from "./dom.js";
import { reasonText } from "./format.js";
import { LogView } from "./log_view.js";

/**
 * Keep the stepper true.
 *
 * @param {HTMLElement} root contains [data-stages] and the template #stage-template
 * @param {import("./store.js").Store} store
 * @param {import("./log_source.js").LogSource} source
 */
export function stagesStart(root, store, source) {
  const list = root.querySelector("[data-stages]");
  const template = root.querySelector("#stage-template");
  const logs = new Map();

  function rowOf(stage) {
    const existing = list.querySelector(`[data-stage="${CSS.escape(stage.name)}"]`);
    if (existing) return existing;
    const row = template.content.firstElementChild.cloneNode(true);
    row.dataset.stage = stage.name;
    const retry = row.querySelector("form");
    if (retry) retry.action = retry.action.replace("STAGE", encodeURIComponent(stage.name));
    const next = [...list.children].find((other) => store.stages.get(other.dataset.stage)?.position > stage.position);
    list.insertBefore(row, next ?? null);
    return row;
  }

  function update(name) {
    const stage = store.stages.get(name);
    const row = rowOf(stage);
    row.dataset.state = stage.state;
    row.dataset.colour = stage.colour;
    setText(field(row, "label"), stage.label);
    const tries = stage.attempt > 1 ? `, attempt ${stage.attempt}` : "";
    setText(field(row, "state"), `${stage.state_label}${tries}`);
    setText(field(row, "reason"), reasonText(stage.reason));
    setBar(field(row, "bar"), stage.state === "ACTIVE" ? stage.progress : null);
    const retry = row.querySelector("form");
    if (retry) retry.hidden = stage.state !== "FAILED";
    const time = field(row, "time");
    delete time.dataset.elapsed;
    if (stage.started_at && stage.ended_at) {
      setText(time, duration(stage.ended_at - stage.started_at));
    } else if (stage.started_at && stage.state === "ACTIVE") {
      time.dataset.elapsed = new Date(stage.started_at * 1000).toISOString(); // times.js counts
    } else {
      setText(time, "");
    }
  }

  function updateAll() {
    for (const name of store.stages.keys()) update(name);
    root.querySelector("[data-stages-empty]").hidden = store.stages.size > 0;
  }

  list.addEventListener("click", (event) => {
    const button = event.target.closest("[data-stage-log]");
    if (!button) return;
    const row = button.closest(".stage");
    const box = row.querySelector(".stage-log");
    box.hidden = !box.hidden;
    button.setAttribute("aria-expanded", String(!box.hidden));
    if (box.hidden || logs.has(row.dataset.stage)) return;
    const view = new LogView(box, { label: `Log of ${field(row, "label").textContent}`, source });
    logs.set(row.dataset.stage, view);
    view.show({ reporter: `stage:${row.dataset.stage}` });
  });

  store.on("all", updateAll);
  store.on("stage", (changed) => {
    changed.forEach(update);
    root.querySelector("[data-stages-empty]").hidden = store.stages.size > 0;
  });
  updateAll();
}
