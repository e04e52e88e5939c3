// The rounds in words, which also serves those who cannot see the picture.
import { icon } from "../icons.js";
import { duration } from "../times.js";
import { clock, printable } from "./format.js";

function cell(row, label, text, css = "") {
  const made = document.createElement("td");
  made.dataset.label = label;
  made.textContent = text;
  made.className = css;
  row.append(made);
  return made;
}

function spent(parts) {
  return Object.entries(parts)
    .sort((a, b) => b[1] - a[1])
    .map(([name, seconds]) => `${printable(name)} ${duration(seconds)}`)
    .join(", ");
}

/**
 * @param {HTMLElement} body a tbody
 * @param {object[]} rounds of timeline_data.js
 * @param {object} how
 * @param {(edgeId: number) => string} how.nameOf
 * @param {(from: number, to: number) => void} how.zoom
 */
export function tableDraw(body, rounds, { nameOf, zoom }) {
  const focused = document.activeElement?.closest?.("[data-tl-round]")?.dataset.tlRound;
  body.replaceChildren(
    ...[...rounds].reverse().map((round) => {
      const row = document.createElement("tr");
      cell(row, "Round", String(round.round + 1), "run-right tabular");
      cell(row, "Began", clock(round.start), "tabular");
      cell(row, "Took", round.open ? `${duration(round.end - round.start)} so far` : duration(round.end - round.start), "run-right tabular");
      if (round.straggler === null) {
        const waiting = round.open && round.waiting.length > 1 ? `waiting for ${round.waiting.length} devices` : "–";
        cell(row, "Last device", waiting, "text-secondary");
        cell(row, "Behind the next", "–", "run-right text-secondary");
      } else {
        const waits = round.waiting.length === 1 ? `waiting for ${nameOf(round.straggler)}` : nameOf(round.straggler);
        cell(row, "Last device", waits, "tl-last");
        cell(row, "Behind the next", duration(round.behind), "run-right tabular");
      }
      cell(row, "What it spent its time on", spent(round.parts), "text-secondary");
      const button = document.createElement("button");
      button.type = "button";
      button.className = "btn btn-icon btn-sm btn-ghost-secondary";
      button.dataset.tlRound = round.round;
      button.setAttribute("aria-label", `Zoom into round ${round.round + 1}`);
      button.append(icon("zoom-in"));
      button.addEventListener("click", () => zoom(round.start, round.end));
      cell(row, "", "", "run-right").append(button);
      return row;
    }),
  );
  if (focused !== undefined) body.querySelector(`[data-tl-round="${focused}"]`)?.focus();
}
