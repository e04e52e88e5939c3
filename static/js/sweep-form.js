// The form of a sweep: says how many runs the values come to.
import "./updates.js";

const form = document.getElementById("sweep-form");
const count = document.getElementById("run-count");

// As the server splits them: by commas, but not within double quotes.
const valuesOf = (text) => (text.match(/(?:"(?:[^"]|"")*"|[^,"])+/g) ?? []).length;

function show() {
  const sizes = [...form.querySelectorAll("[data-values]")]
    .filter((field) => field.value.trim() !== "")
    .map((field) => valuesOf(field.value));
  const runs = form.elements.mode.value === "grid" ? sizes.reduce((all, size) => all * size, 1) : Math.max(1, ...sizes);
  count.textContent = sizes.some((size) => size > 1) ? ` ${runs} runs` : "";
}

form.addEventListener("input", show);
document.addEventListener("htmx:afterSettle", show);
show();
