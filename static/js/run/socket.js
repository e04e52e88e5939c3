// The one websocket of the page: connects, asks for what follows its cursor, and comes back after every loss.

const FIRST_DELAY = 500; // milliseconds
const LONGEST_DELAY = 15_000;
const REFUSED = 4400; // close codes from here on: the server does not want this viewer

/**
 * Follow a run.
 *
 * @param {string} path path of the websocket, e.g. "/ws/runs/7/"
 * @param {object} on
 * @param {(snapshot: object) => void} on.snapshot everything anew
 * @param {(items: object[]) => void} on.items what happened since the last snapshot or frame
 * @param {(state: {name: "connecting"|"live"|"lost"|"refused", since: number, heard: number, code: number}) => void}
 *   on.state `since` and `heard` (the last message) in milliseconds since the epoch; `code` by which it was refused
 */
export function follow(path, on) {
  let cursor = null;
  let delay = FIRST_DELAY;
  let timer = 0;
  let socket = null;
  const state = { name: "connecting", since: Date.now(), heard: Date.now(), code: 0 };

  function become(name) {
    if (state.name !== name) state.since = Date.now();
    state.name = name;
    on.state(state);
  }

  function receive(message) {
    state.heard = Date.now();
    if (message.type === "snapshot") {
      cursor = message.cursor;
      on.snapshot(message);
    } else if (message.type === "frames") {
      // A frame at or before the cursor was seen already.
      if (cursor !== null && message.cursor <= cursor && message.items.length > 0) return;
      cursor = message.cursor;
      on.items(message.items);
    }
    delay = FIRST_DELAY;
    become("live");
  }

  function connect() {
    clearTimeout(timer);
    const url = new URL(path, window.location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const mine = new WebSocket(url);
    socket = mine;
    mine.onopen = () => mine.send(JSON.stringify({ cursor }));
    mine.onmessage = (event) => receive(JSON.parse(event.data));
    mine.onclose = (event) => {
      if (socket !== mine) return;
      if (event.code >= REFUSED && event.code < 4500) {
        state.code = event.code;
        become("refused");
        return;
      }
      become("lost");
      timer = setTimeout(connect, delay * (0.75 + Math.random() / 2));
      delay = Math.min(delay * 2, LONGEST_DELAY);
    };
  }

  function connectNow() {
    if (state.name !== "lost") return;
    delay = FIRST_DELAY;
    connect();
  }

  window.addEventListener("online", connectNow);
  window.addEventListener("offline", () => socket?.close());
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) connectNow();
  });
  connect();
  return state;
}
