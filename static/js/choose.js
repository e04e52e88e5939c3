// Rows that are chosen for something: <input type="checkbox" name="device" value="3" form="...">, a box that chooses all
// of them (data-choose-all="device"), and a button (data-choose-act="device") that shows how many it would act on and
// waits until there is one. What is chosen stays when the list fetches itself anew.
const boxes = (name) => [...document.querySelectorAll(`input[type=checkbox][name="${CSS.escape(name)}"]`)];
let kept = new Map();

function show(name) {
  const all = boxes(name);
  const chosen = all.filter((box) => box.checked).length;
  for (const box of document.querySelectorAll(`[data-choose-all="${CSS.escape(name)}"]`)) {
    box.checked = all.length > 0 && chosen === all.length;
    box.indeterminate = chosen > 0 && chosen < all.length;
  }
  for (const button of document.querySelectorAll(`[data-choose-act="${CSS.escape(name)}"]`)) {
    button.disabled = chosen === 0;
    button.querySelector("[data-choose-count]").textContent = chosen || "";
  }
}

const names = () => [...document.querySelectorAll("[data-choose-all]")].map((box) => box.dataset.chooseAll);

document.addEventListener("change", ({ target }) => {
  const name = target.dataset?.chooseAll;
  if (name) for (const box of boxes(name)) box.checked = target.checked;
  for (const each of names()) show(each);
});
document.addEventListener("htmx:beforeSwap", () => {
  kept = new Map(names().map((name) => [name, boxes(name).filter((box) => box.checked).map((box) => box.value)]));
});
document.addEventListener("htmx:afterSwap", () => {
  for (const [name, values] of kept) for (const box of boxes(name)) box.checked ||= values.includes(box.value);
  names().forEach(show);
});
names().forEach(show);
