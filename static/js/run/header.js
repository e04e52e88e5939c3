// Head of the page: name, state, what can be done, and how live the page is.
import { setBadge, setText, setTime } from "./dom.js";
import { clock, printable, reasonText } from "./format.js";

const QUIET_AFTER = 20_000; // milliseconds
const ACTIVE = new Set(["QUEUED", "STARTING", "RUNNING", "STOPPING"]);

/** Whether a run of this state is under way. */
export function isActive(run) {
  return ACTIVE.has(run?.state);
}

/** Keep the head of the page true. */
export function headerStart(store) {
  const one = (name) => document.querySelector(`[data-run="${name}"]`);
  const start = document.querySelector('[data-run-action="start"]');
  const stop = document.querySelector('[data-run-action="stop"]');

  function update() {
    const { run } = store;
    if (!run) return;
    const name = printable(run.name);
    for (const element of document.querySelectorAll('[data-run="name"]')) setText(element, name);
    document.title = `${name} · Roundtable`;
    setBadge(one("state"), run);
    setTime(one("since"), run.since);
    setText(one("reason"), reasonText(run.reason));
    if (start) start.hidden = run.state !== "CREATED";
    if (stop) stop.hidden = !isActive(run) || run.state === "STOPPING";
  }
  store.on("all", update);
  store.on("run", update);
}

/** Show how live the page is; the function that it returns takes the state of the socket (socket.js). */
export function indicatorStart(store) {
  const indicator = document.querySelector("[data-live-indicator]");
  const text = indicator.querySelector("[data-live-text]");
  let socket = null;

  function show() {
    if (!socket) return;
    let { name } = socket;
    let words;
    if (name === "live") {
      const quiet = Date.now() - socket.heard > QUIET_AFTER;
      if (!isActive(store.run)) name = "idle";
      else if (quiet) name = "quiet";
      words = name === "idle" ? "Up to date" : quiet ? `Live, nothing new since ${clock(socket.heard / 1000)}` : "Live";
    } else if (name === "lost") {
      words = `Reconnecting since ${clock(socket.since / 1000)}`;
    } else if (name === "refused") {
      words = socket.code === 4401 ? "Signed out: reload the page to sign in" : "You may no longer see this run";
    } else {
      words = "Connecting";
    }
    indicator.dataset.state = name;
    setText(text, words);
  }
  setInterval(show, 1000);
  return (state) => {
    socket = state;
    show();
  };
}
