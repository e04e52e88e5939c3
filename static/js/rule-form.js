// The form of an alert rule: shows the fields that the chosen kind asks for.
const asked = JSON.parse(document.getElementById("rule-fields").textContent);
const kind = document.querySelector('select[name="kind"]');
const optional = ["minutes", "metric", "direction", "rounds"];

function show() {
  for (const name of optional) {
    const field = document.querySelector(`[name="${name}"]`);
    field.closest(".mb-3").hidden = !(asked[kind.value] ?? []).includes(name);
  }
}

kind.addEventListener("change", show);
show();
