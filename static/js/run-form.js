// The form of a new run: counts, "all idle devices", changed values, and the preview of the commands.
import "./updates.js";

const form = document.getElementById("run-form");
const chooseAll = document.getElementById("choose-all");
const boxes = () => [...form.querySelectorAll('input[name="devices"]')];

function showChosen() {
  const free = boxes().filter((box) => !box.disabled);
  const chosen = free.filter((box) => box.checked);
  document.getElementById("chosen-count").textContent = chosen.length;
  if (!chooseAll) return;
  chooseAll.disabled = free.length === 0;
  chooseAll.checked = free.length > 0 && chosen.length === free.length;
  chooseAll.indeterminate = chosen.length > 0 && chosen.length < free.length;
}

let previewTimer;
function preview() {
  clearTimeout(previewTimer);
  previewTimer = setTimeout(() => htmx.trigger(form, "preview"), 300);
}

chooseAll?.addEventListener("change", () => {
  for (const box of boxes()) if (!box.disabled) box.checked = chooseAll.checked;
  showChosen();
  preview();
});

form.addEventListener("input", (event) => {
  const row = event.target.closest("[data-parameter]");
  if (row) row.classList.toggle("is-changed", event.target.value !== event.target.dataset.configured);
  if (event.target !== chooseAll) showChosen();
  preview();
});

// Another configuration brought its values.
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.id === "configuration-preview") preview();
});

// A device that goes offline or is taken by another run can no longer be chosen, and the other way round.
document.addEventListener("roundtable:update", ({ detail }) => {
  if (detail.kind !== "device" || !detail.state) return;
  const box = form.querySelector(`input[name="devices"][value="${CSS.escape(String(detail.id))}"]`);
  if (!box) return;
  box.disabled = detail.state !== "IDLE";
  if (box.disabled) box.checked = false;
  showChosen();
});

// Twice the same run is never what a double click means.
form.addEventListener("submit", () => {
  setTimeout(() => form.querySelectorAll("button[type=submit]").forEach((button) => (button.disabled = true)));
});
addEventListener("pageshow", () => {
  form.querySelectorAll("button[type=submit]").forEach((button) => (button.disabled = false));
  showChosen();
  // Chosen before this page was ready, or put back by the browser: its values have not been fetched yet.
  const configuration = form.elements.configuration;
  if (configuration?.value && !form.querySelector("[data-parameter]")) htmx.trigger(configuration, "change");
});
