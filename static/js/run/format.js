// Numbers, sizes and times as people read them. No DOM in here.

const NUMBER = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const INTEGER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const FLAGS = { 1: "NaN", 2: "Infinity", 3: "-Infinity" };

/** A metric's value: four significant digits, scientific where it is very small or large. */
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e7) return value.toExponential(2);
  return Number.isInteger(value) ? INTEGER.format(value) : NUMBER.format(value);
}

export function integer(value) {
  return INTEGER.format(value);
}

/** What a point holds where its value is no finite number; flags as in runs.models.ValueFlag. */
export function flagName(flag) {
  return FLAGS[flag] ?? "no number";
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = value;
  let unit = 0;
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

/** Seconds as "2 h 05 min", "3 min 20 s" or "4.2 s". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 0.95) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const pad = (part) => String(part).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${pad(Math.floor((whole % 86400) / 3600))} h`;
}

/** Time of day of an epoch time in the viewer's zone. */
export function clock(seconds) {
  return CLOCK.format(seconds * 1000);
}

/** Hostile text made printable: terminal colours are dropped, control and direction characters are shown as symbols. */
export function printable(text) {
  return text
    .replace(/\u001b\[[0-?]*[ -/]*[@-~]/g, "")
    .replace(/\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)/g, "")
    .replace(/\r+$/, "")
    .replace(/[\u0000-\u0008\u000b-\u001f]/g, (character) => String.fromCharCode(0x2400 + character.charCodeAt(0)))
    .replace(/\u007f/g, "\u2421")
    .replace(/[\u0080-\u009f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]/g, "\ufffd");
}

/** A file name without anything that a file system minds. */
export function fileName(text) {
  return text.replace(/[^A-Za-z0-9._-]+/g, "_").slice(0, 80);
}
