// Copy buttons: <button data-copy="the text"> or <button data-copy-from="#element">.
import { icon } from "./icons.js";
import { showToast } from "./toast.js";

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Over plain http to another machine the clipboard is closed to scripts; the old way still works.
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("refused");
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy], [data-copy-from]");
  if (!button) return;
  const text = button.dataset.copy ?? document.querySelector(button.dataset.copyFrom)?.textContent ?? "";
  try {
    await copy(text.trim());
  } catch {
    showToast({ level: "warning", text: "The browser does not allow copying. Select the text and copy it by hand." });
    return;
  }
  const drawn = button.querySelector("svg");
  if (!drawn || button.dataset.copied !== undefined) return;
  button.dataset.copied = "";
  const done = icon("check", "text-success");
  drawn.replaceWith(done);
  setTimeout(() => {
    done.replaceWith(drawn);
    delete button.dataset.copied;
  }, 1500);
});
