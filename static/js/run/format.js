// Values and hostile text as people read them. No DOM in here.

const NUMBER = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const INTEGER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const FLAGS = { 1: "NaN", 2: "Infinity", 3: "-Infinity" };

/** A metric's value: four significant digits, scientific where it is very small or large. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(2);
  return Number.isInteger(value) ? INTEGER.format(value) : NUMBER.format(value);
}

/** A metric's value as large figures show it: with three decimals where it is below ten, so that it does not jump. */
export function steadyNumber(value) {
  const size = Math.abs(value);
  return size >= 0.01 && size < 10 ? value.toFixed(3) : number(value);
}

/** What a point holds where its value is no finite number; flags as in runs.models.ValueFlag. */
export function flagName(flag) {
  return FLAGS[flag] ?? "no number";
}

/** A metric's name as a title: "test_accuracy" is "Test accuracy". */
export function titled(name) {
  const words = name.replace(/_/g, " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Time of day of an epoch time in the viewer's zone. */
export function clock(seconds) {
  return CLOCK.format(seconds * 1000);
}

/** Hostile text made printable: terminal colours are dropped, control and direction characters become visible. */
export function printable(text) {
  return text
    .replace(/\u001b\[[0-?]*[ -/]*[@-~]/g, "")
    .replace(/\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)/g, "")
    .replace(/\r+$/, "")
    .replace(/[\u0000-\u0008\u000a-\u001f]/g, (character) => String.fromCharCode(0x2400 + character.charCodeAt(0)))
    .replace(/\u007f/g, "\u2421")
    .replace(/[\u0080-\u009f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]/g, "\ufffd");
}

/** A reason as people read it: the moments in it, which the server writes in UTC, in the viewer's zone. */
export function reasonText(reason) {
  return printable(reason).replace(/\b(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) UTC\b/g, (written, day, time) => {
    const moment = new Date(`${day}T${time}Z`);
    return Number.isNaN(moment.getTime()) ? written : MOMENT.format(moment);
  });
}
