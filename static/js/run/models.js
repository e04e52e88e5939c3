// Stored models: aggregated ones and those of devices, the newest round first.
import { bytes } from "../upload.js";
import { field, setText, setTime } from "./dom.js";
import { number, printable, titled } from "./format.js";
import { tabsStart } from "./tabs.js";

const SHOWN_AT_FIRST = 100;

/** Newest round first; within a round in the order of the devices. */
function order(a, b) {
  return b.round_index - a.round_index || a.edge_id - b.edge_id || b.id - a.id;
}

/** Keep the tables of models true. */
export function modelsStart(root, store) {
  const template = root.querySelector("#model-template");
  const kinds = ["aggregated", "client"].map((kind) => {
    const panel = root.querySelector(`[data-kind="${kind}"]`);
    const table = { kind, panel, body: panel.querySelector("tbody"), rows: new Map(), limit: SHOWN_AT_FIRST };
    panel.querySelector("[data-model-more] button").addEventListener("click", () => {
      table.limit = Infinity;
      draw(table);
    });
    return table;
  });

  function rowOf(model, table) {
    const row = template.content.firstElementChild.cloneNode(true);
    if (table.kind === "aggregated") field(row, "device").remove();
    setText(field(row, "round"), model.round_index < 0 ? "start" : String(model.round_index + 1));
    const page = field(row, "round");
    page.href = page.dataset.modelPage.replace("/models/0/", `/models/${model.id}/`);
    setText(field(row, "device"), printable(store.reporterName(model.edge_id)));
    setText(field(row, "size"), bytes(model.size));
    setText(field(row, "sha"), model.sha256.slice(0, 12));
    row.querySelector("[data-copy]").dataset.copy = model.sha256;
    setTime(field(row, "created"), model.created_at, "relative");
    field(row, "metrics").append(
      ...Object.entries(model.metrics).map(([name, value]) => {
        const chip = document.createElement("span");
        const figure = document.createElement("strong");
        figure.textContent = number(value);
        chip.append(`${titled(printable(name))} `, figure);
        return chip;
      }),
    );
    const again = field(row, "again");
    if (again) {
      again.href = `${again.dataset.again}${model.id}`;
      again.hidden = !model.url;
    }
    const link = field(row, "download");
    if (model.url) {
      link.href = model.url;
    } else {
      link.removeAttribute("href");
      link.classList.add("disabled");
      link.title = "The weights have not arrived yet";
    }
    return row;
  }

  function draw(table) {
    const models = [...store.models.values()].filter((model) => model.kind === table.kind).sort(order);
    setText(root.querySelector(`[data-count="${table.kind}"]`), String(models.length));
    table.panel.querySelector("[data-model-table]").hidden = models.length === 0;
    table.panel.querySelector("[data-model-empty]").hidden = models.length > 0;
    const shown = models.slice(0, table.limit);
    const more = table.panel.querySelector("[data-model-more]");
    more.hidden = shown.length === models.length;
    setText(more.querySelector("button"), `Show all ${models.length}`);
    const rows = new Map();
    for (const model of shown) {
      const known = table.rows.get(model.id);
      rows.set(model.id, known?.model === model ? known : { model, row: rowOf(model, table) });
    }
    table.rows = rows;
    table.body.replaceChildren(...[...rows.values()].map(({ row }) => row));
  }

  function drawAll() {
    kinds.forEach(draw);
  }

  // A snapshot has the last models alone.
  async function complete() {
    drawAll();
    if (store.models.size >= Number(root.dataset.modelsTotal)) return;
    const response = await fetch(root.dataset.modelsUrl, { headers: { Accept: "application/json" } });
    if (!response.ok) return;
    const { models } = await response.json();
    const unknown = models.filter((model) => !store.models.has(model.id));
    root.dataset.modelsTotal = Math.min(Number(root.dataset.modelsTotal), store.models.size + unknown.length);
    store.apply(unknown);
  }

  tabsStart(root);
  store.on("all", () => complete().catch(() => {})); // the next snapshot tries again
  store.on("model", drawAll);
}
