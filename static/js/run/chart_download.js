// A figure as a file: its points as CSV or JSON, and its picture.
import { flagName, printable } from "./format.js";

const REVOKE_AFTER = 1000; // milliseconds

/** Save a panel as "csv", "json", "png" or "svg". */
export function panelDownload(panel, format) {
  if (format === "csv") save(panel, "csv", "text/csv", csvOf(panel));
  else if (format === "json") save(panel, "json", "application/json", `${JSON.stringify(contentOf(panel), null, 1)}\n`);
  else window.Plotly.downloadImage(panel.plot, { format, scale: format === "png" ? 2 : 1, filename: fileName(panel) });
}

function fileName(panel) {
  const name = `${panel.store.run?.name ?? "run"}_${panel.figure.names.join("_")}`;
  return name.replace(/[^A-Za-z0-9._-]+/g, "_").slice(0, 80);
}

// A spreadsheet takes a cell that begins so for a formula.
function cell(text) {
  return `"${text.replace(/^[=+@\t-]/, "'$&").replace(/"/g, '""')}"`;
}

function csvOf(panel) {
  const rows = ["reporter,edge_id,metric,step,round,time,value"];
  for (const series of panel.shown()) {
    const name = cell(printable(panel.store.reporterName(series.edgeId)));
    const metric = cell(printable(series.name));
    for (const { step, round, time, value, flag } of series.points) {
      rows.push([name, series.edgeId, metric, step, round ?? "", time, value ?? flagName(flag)].join(","));
    }
  }
  return `${rows.join("\n")}\n`;
}

function contentOf(panel) {
  const { store } = panel;
  return {
    run: { id: store.run?.id, name: store.run?.name },
    series: panel.shown().map((series) => ({
      reporter: store.reporterName(series.edgeId),
      edge_id: series.edgeId,
      metric: series.name,
      points: series.points.map(({ step, round, time, value, flag }) => ({ step, round, time, value: value ?? flagName(flag) })),
    })),
  };
}

function save(panel, ending, type, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = `${fileName(panel)}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), REVOKE_AFTER);
}
