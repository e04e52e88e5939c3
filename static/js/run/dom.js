// Filling elements that the server has drawn.
import { icon } from "../icons.js";
import { timeElement } from "../times.js";

/** Set an element's text, and touch the document only where it differs. */
export function setText(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

/** Fill a badge (inc/badge.html), or the element that holds one, from an item with `label`, `colour` and `reason`. */
export function setBadge(element, { label, colour }) {
  const badge = element.matches(".state") ? element : element.querySelector(".state");
  const wanted = `state state-${colour}`;
  if (badge.className !== wanted) badge.className = wanted;
  setText(badge.querySelector(".state-label"), label);
}

/** Put a time in the viewer's zone into `element`; `style` as in times.js. */
export function setTime(element, seconds, style = "since") {
  const shown = element.querySelector("time");
  const moment = new Date(seconds * 1000);
  if (shown?.dataset.time === style && new Date(shown.dateTime).getTime() === moment.getTime()) return;
  element.replaceChildren(timeElement(moment, style));
}

/** Show `fraction` (0 to 1) in a progress bar; null hides it. */
export function setBar(bar, fraction) {
  bar.hidden = fraction === null || fraction === undefined;
  if (!bar.hidden) bar.value = fraction * bar.max;
}

/** The element for `name` in a row: [data-field="name"]. */
export function field(row, name) {
  return row.querySelector(`[data-field="${name}"]`);
}

/** A new element with a class and children. */
export function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

/** A new button with an icon, which `label` names to those who do not see it. */
export function button(className, iconName, label) {
  const made = element("button", className, icon(iconName));
  made.type = "button";
  made.title = label;
  made.setAttribute("aria-label", label);
  return made;
}
