// The way of a run to one device: which steps were heard of when, and what is awaited now.
import { duration } from "../times.js";
import { printable, reasonText } from "./format.js";

const ENDED = new Set(["FINISHED", "FAILED", "KILLED"]);
// Seconds after which a step that is not done stands out; of fetching, without progress.
const PATIENCE = { sent: 60, received: 15, fetched: 60, installed: 240, opened: 60, alive: 60 };

/**
 * The steps to a device as `{name, label, at, from}`: `at` is when it was done (undefined: not yet), `from` when it
 * began. Steps that its runtime does not have are left out.
 */
export function stepsOf(device) {
  const { sent, received, fetch, install, open, run, alive } = device.delivery ?? {};
  const first = (...moments) => moments.find((moment) => moment !== undefined);
  const container = device.runtime !== "process";
  const steps = [
    { name: "sent", label: "Command sent", at: sent },
    { name: "received", label: "Received", from: sent, at: received },
    { name: "fetched", label: container ? "Image pulled" : "Package fetched", from: first(fetch, received), at: first(install, open, run) },
    { name: "installed", label: "Installed", from: install, at: install === undefined ? undefined : first(open, run) },
    { name: "opened", label: "Opened", from: first(open, install, fetch, received), at: run },
    { name: "alive", label: "First sign of life", from: run, at: alive },
  ];
  return steps.filter(({ name }) => name !== "installed" || (install !== undefined || (!container && run === undefined)));
}

/**
 * What is awaited of a device: `{step, text, stuck, done, failed}`.
 *
 * @param {object} device an item of the store
 * @param {boolean} active whether the run is under way
 * @param {number} now seconds since the epoch, by the platform's clock
 */
export function awaitedOf(device, active, now) {
  const steps = stepsOf(device);
  const step = steps.find(({ at }) => at === undefined);
  const { sent, alive, progress } = device.delivery ?? {};
  if (!step) return { step: null, text: `All of it took ${duration(Math.max(0, alive - sent))}`, done: true };
  const ended = ENDED.has(device.status);
  if (ended || !active) {
    if (sent === undefined) return { step, text: ended ? reasonText(device.reason) || "It was not sent." : "Not sent yet.", failed: device.status === "FAILED" };
    const reason = reasonText(device.reason);
    const where = step.name === "alive" ? "The instance was never heard of" : `It ended before this step: ${step.label.toLowerCase()}`;
    return { step, text: `${where}. ${reason}`.trim(), failed: ended && device.status !== "FINISHED" };
  }
  const since = Math.max(step.from ?? 0, step.name === "fetched" ? (progress ?? 0) : 0);
  const seconds = since ? Math.max(0, now - since) : 0;
  const long = duration(seconds);
  const texts = {
    sent: "Its turn comes when the steps before it are done.",
    received: `The command was sent ${long} ago and the device has not answered.`,
    fetched:
      device.progress === null || device.progress === undefined
        ? `It is fetching ${step.label === "Image pulled" ? "the image" : "the package"}, for ${long}.`
        : `It has ${Math.round(device.progress * 100)} % of ${step.label === "Image pulled" ? "the image" : "the package"}${seconds > 5 ? `, and no more for ${long}` : ""}.`,
    installed: `It is installing the package's requirements, for ${long}.`,
    opened: `It is opening the instance, for ${long}.`,
    alive: `The instance is open, and nothing was heard of it for ${long}.`,
  };
  const offline = device.online === false ? " The device is offline: start its agent, or look at its network." : "";
  return {
    step,
    text: `${texts[step.name]}${offline}`,
    stuck: step.name !== "sent" && (seconds > PATIENCE[step.name] || offline !== ""),
  };
}

/** A device's name as the page shows it. */
export const deviceName = (device) => printable(device.name);
