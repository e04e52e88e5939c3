// Lists of which several rows are chosen for one action:
//
//   <form id="runs-bulk" data-bulk="runs" hidden>…<strong data-bulk-count></strong>…<button data-bulk-clear></form>
//   <div id="runs">…<input type="checkbox" data-select-all>…<input type="checkbox" name="run" form="runs-bulk"></div>
//
// What is chosen stays chosen when the list fetches itself anew.

for (const form of document.querySelectorAll("[data-bulk]")) {
  const list = document.getElementById(form.dataset.bulk);
  const count = form.querySelector("[data-bulk-count]");
  const chosen = new Set();
  const boxes = () => [...list.querySelectorAll(`input[form="${form.id}"]`)];

  const show = () => {
    const all = list.querySelector("[data-select-all]");
    const rows = boxes();
    if (all) {
      all.checked = rows.length > 0 && rows.every((box) => box.checked);
      all.indeterminate = !all.checked && rows.some((box) => box.checked);
    }
    count.textContent = String(chosen.size);
    form.hidden = chosen.size === 0;
  };
  const note = (box) => (box.checked ? chosen.add(box.value) : chosen.delete(box.value));

  list.addEventListener("change", ({ target }) => {
    if (target.matches("[data-select-all]")) {
      for (const box of boxes()) {
        box.checked = target.checked;
        note(box);
      }
    } else if (target.matches(`input[form="${form.id}"]`)) {
      note(target);
    }
    show();
  });
  form.querySelector("[data-bulk-clear]").addEventListener("click", () => {
    for (const box of boxes()) box.checked = false;
    chosen.clear();
    show();
  });
  list.addEventListener("htmx:afterSwap", () => {
    const before = new Set(chosen);
    chosen.clear();
    for (const box of boxes()) {
      box.checked = before.has(box.value);
      note(box);
    }
    show();
  });
  boxes().forEach(note); // what the browser remembers of the page
  show();
}
