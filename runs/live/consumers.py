"""The websockets: one per open run page, and one per open page of any kind for notices."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

import orjson
from channels.generic.websocket import AsyncWebsocketConsumer

from mlops_site.notices import user_group
from runs.live.access import Access, access_read, session_user_id
from runs.live.frames import KEPT_FRAMES, frames_kept, run_group
from runs.live.snapshot import snapshot_encoded
from runs.live.threads import in_thread
from runs.models import Run

logger = logging.getLogger(__name__)

# Codes by which a socket is closed; the page shows a sentence for each and does not reconnect by itself.
CLOSE_LOGGED_OUT = 4401
CLOSE_NO_ACCESS = 4403
CLOSE_BAD_REQUEST = 4400
CLOSE_FAILED = 1011  # something went wrong here; the page connects again

SEND_SECONDS = 0.1  # time is cut into slots of this length, in each of which a page gets one message at most
CHECK_SECONDS = 3.0  # how often access, and whether a frame went missing, is read from the database
FIRST_MESSAGE_SECONDS = 15.0  # a page says its cursor within this time
GAP_PATIENCE_SECONDS = 0.25  # frames of two processes may arrive in the other order; then they are looked for in Redis
GAP_LIMIT_SECONDS = 1.5  # and after this time the page gets a new snapshot
PENDING_MAX_CHARACTERS = 8 * 1024 * 1024  # what may wait for a slow page before it is told everything anew instead


class RunConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """``/ws/runs/{id}/``: a snapshot, then every frame that follows it, in order and exactly once.

    The page's first message is ``{"cursor": n}``, n being the last frame that it has seen or null. The answers are

    - ``{"type": "snapshot", "cursor": n, ...}`` (``runs.live.snapshot``): everything as of frame n,
    - ``{"type": "frames", "cursor": n, "items": [...]}``: what followed, up to and including frame n.

    How it works:

    1. Access is read from the database; the socket then joins the run's group, before anything else is read, so that
       nothing falls between what it reads and what it hears.
    2. What is heard goes into ``_pending`` and the handler returns: hearing never waits for a slow page.
    3. One task sends: frames that follow the cursor, joined into one message, ten times a second at most. The first
       frame after a pause is sent at once, and only what follows it is collected.
    4. A missing number is looked for in Redis, and when it is not there a new snapshot is sent. The same happens when
       the run's own count of frames shows that the last ones were never heard, or when more waits than a page may have.
    5. Every three seconds, and at once when a member leaves the project, access is read anew; who lost it is shown out.
       Frames go on meanwhile, unless it could not be read for twice as long.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._task: asyncio.Task[None] | None = None
        self._check: asyncio.Task[bool] | None = None
        try:
            await super().__call__(scope, receive, send)
        finally:
            for task in (self._task, self._check):
                if task is not None:  # when the server shuts down nobody says that the page left
                    task.cancel()

    async def connect(self) -> None:
        self._run_id: int = self.scope["url_route"]["kwargs"]["run_id"]
        self._pending: dict[int, str] = {}
        self._pending_characters = 0
        self._dropped = -1  # the last frame that was heard and not kept, because too much waited already
        self._cursor = -1
        self._gap_since: float | None = None
        self._slot = int(time.monotonic() / SEND_SECONDS)
        self._wake = asyncio.Event()
        self._closing = False
        await self.accept()
        if await self._access_checked():
            await self.channel_layer.group_add(run_group(self._run_id), self.channel_name)
            self._task = asyncio.create_task(self._close_later())

    async def dispatch(self, message: dict[str, Any]) -> None:
        if message["type"] == "frame":  # the usual case: no thread, no waiting
            self._frame_heard(message["number"], message["data"])
        else:
            await super().dispatch(message)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self._closing or self._cursor != -1:
            return
        try:
            cursor = orjson.loads(text_data or b"")["cursor"]
            if cursor is not None and (type(cursor) is not int or cursor < 0):
                raise ValueError(cursor)
        except (ValueError, TypeError, KeyError):
            await self._close(CLOSE_BAD_REQUEST)
            return
        if self._task is not None:
            self._task.cancel()
        self._cursor = 0
        self._task = asyncio.create_task(self._run(cursor))

    async def disconnect(self, code: int) -> None:
        self._closing = True
        if self._check is not None:
            self._check.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.channel_layer.group_discard(run_group(self._run_id), self.channel_name)

    # --- hearing ---------------------------------------------------------------------------------------------------

    def _frame_heard(self, number: int, data: str) -> None:
        if number <= self._cursor or number in self._pending or self._closing:
            return
        if self._pending_characters + len(data) > PENDING_MAX_CHARACTERS or len(self._pending) >= KEPT_FRAMES:
            self._dropped = max(number, self._dropped, *self._pending)
            self._pending_clear()
        else:
            self._pending[number] = data
            self._pending_characters += len(data)
        self._wake.set()

    def _pending_clear(self) -> None:
        self._pending.clear()
        self._pending_characters = 0

    def _pending_forget(self) -> None:
        """Drop what is pending from before the cursor."""
        for number in [number for number in self._pending if number <= self._cursor]:
            self._pending_characters -= len(self._pending.pop(number))

    def _merge(self, frames: dict[int, str]) -> None:
        for number, data in frames.items():
            if number > self._cursor and number not in self._pending:
                self._pending[number] = data
                self._pending_characters += len(data)

    # --- sending ---------------------------------------------------------------------------------------------------

    async def _run(self, cursor: int | None) -> None:
        """Serve the page until it leaves."""
        try:
            await self._begin(cursor)
            while not self._closing:
                await self._turn()
        except Run.DoesNotExist:
            await self._close(CLOSE_NO_ACCESS)
        except OSError:
            self._closing = True  # the page left while something was sent to it
        except Exception:
            logger.exception("The live page of run %d failed; it connects again", self._run_id)
            await self._close(CLOSE_FAILED)

    async def _turn(self) -> None:
        """Wait for something to send and for the page's turn, and send it."""
        self._wake.clear()
        if not self._pending and self._dropped <= self._cursor:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), CHECK_SECONDS)
        await self._slot_begin()
        if not await self._access_fresh():
            return
        if self._dropped > self._cursor:
            await self._snapshot_send(self._dropped)
        elif not await self._frames_send():
            await self._gap_heal()

    async def _slot_begin(self) -> None:
        """Wait until the page has not been sent anything in the current slot, and take it."""
        wait = (self._slot + 1) * SEND_SECONDS - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        self._slot = max(self._slot + 1, int(time.monotonic() / SEND_SECONDS))

    async def _begin(self, cursor: int | None) -> None:
        """Answer the first message: with what was missed if that is still kept, else with a snapshot."""
        head = self._head
        if cursor is None or cursor > head or head - cursor > KEPT_FRAMES:
            await self._snapshot_send(head)
            return
        missed = await in_thread(frames_kept, self._run_id, range(cursor + 1, head + 1))
        if cursor < head and cursor + 1 not in missed:
            await self._snapshot_send(head)
            return
        self._cursor = cursor
        self._pending_forget()
        self._merge(missed)
        if not await self._frames_send():
            await self.send(text_data=f'{{"type":"frames","cursor":{cursor},"items":[]}}')

    async def _frames_send(self) -> bool:
        """Send the pending frames that follow the cursor; return whether there were any."""
        batch: list[str] = []
        number = self._cursor
        while (data := self._pending.pop(number + 1, None)) is not None:
            self._pending_characters -= len(data)
            batch.append(data)
            number += 1
        if not batch:
            return False
        self._cursor = number
        self._gap_since = None
        await self.send(text_data=f'{{"type":"frames","cursor":{number},"items":[{",".join(batch)}]}}')
        return True

    async def _gap_heal(self) -> None:
        """Find the frames that should have followed the cursor and were not heard."""
        target = min(self._pending) - 1 if self._pending else self._head
        if target <= self._cursor:
            self._gap_since = None
            return
        if self._gap_since is None:
            self._gap_since = time.monotonic()
        waited = time.monotonic() - self._gap_since
        if self._pending and waited < GAP_PATIENCE_SECONDS:
            return
        if target - self._cursor <= KEPT_FRAMES:
            self._merge(await in_thread(frames_kept, self._run_id, range(self._cursor + 1, target + 1)))
        if not await self._frames_send() and waited >= GAP_LIMIT_SECONDS:
            await self._snapshot_send(target)

    async def _snapshot_send(self, at_least: int) -> None:
        """Tell everything anew, as of frame ``at_least`` or later; what is pending from before that is dropped."""
        self._dropped = -1  # what is heard from here on is kept again, so that nothing after the snapshot is missing
        self._cursor, text = await in_thread(snapshot_encoded, self._run_id, at_least)
        self._gap_since = None
        self._pending_forget()
        await self.send(text_data=text)

    # --- access ----------------------------------------------------------------------------------------------------

    async def _access_fresh(self) -> bool:
        """Return whether access was read lately. Reading it anew delays what is sent only once it is overdue."""
        age = time.monotonic() - self._checked_at
        if age < CHECK_SECONDS:
            return True
        if self._check is not None and self._check.done():
            self._check.result()  # raises what the reading raised
            self._check = None
        if self._check is None:
            self._check = asyncio.create_task(self._access_checked())
        if age >= 2 * CHECK_SECONDS or not self._pending:
            await asyncio.wait([self._check])
            return self._check.result()
        return not self._closing

    async def _access_checked(self) -> bool:
        """Read access and the run's count of frames anew; without access close the socket and return False."""
        access, self._head = await in_thread(access_read, self.scope["session"].session_key, self._run_id)
        self._checked_at = time.monotonic()
        if access is Access.GRANTED:
            return True
        await self._close(CLOSE_LOGGED_OUT if access is Access.LOGGED_OUT else CLOSE_NO_ACCESS)
        return False

    async def access_recheck(self, message: dict[str, Any]) -> None:
        """Somebody lost access to the run's project: perhaps this page's user."""
        if not self._closing:
            await self._access_checked()

    async def _close(self, code: int) -> None:
        self._closing = True
        self._pending_clear()
        with contextlib.suppress(OSError):
            await self.close(code)

    async def _close_later(self) -> None:
        """Close the socket of a page that does not say its cursor."""
        await asyncio.sleep(FIRST_MESSAGE_SECONDS)
        await self._close(CLOSE_BAD_REQUEST)


class UpdatesConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """``/ws/updates/``: notices to every open page of a user (``mlops_site.notices``), each as one JSON message."""

    async def connect(self) -> None:
        self._group = ""
        await self.accept()
        user_id = await self._session_checked()
        if user_id is not None:
            self._group = user_group(user_id)
            await self.channel_layer.group_add(self._group, self.channel_name)

    async def notice(self, message: dict[str, Any]) -> None:
        """Pass a notice on, as long as the page's session is good."""
        if time.monotonic() - self._checked_at >= CHECK_SECONDS and await self._session_checked() is None:
            return
        with contextlib.suppress(OSError):
            await self.send(text_data=orjson.dumps(message["notice"]).decode())

    async def disconnect(self, code: int) -> None:
        if self._group:
            await self.channel_layer.group_discard(self._group, self.channel_name)

    async def _session_checked(self) -> int | None:
        user_id = await in_thread(session_user_id, self.scope["session"].session_key)
        self._checked_at = time.monotonic()
        if user_id is None:
            await self.close(CLOSE_LOGGED_OUT)
        return user_id
