"""Follows an instance's output into its log topic: in order, in batches, no line lost, none doubled.

How far the output was delivered stands in a cursor file, together with the batch that is on its way. Whoever follows
the output after a crash sends that batch again, with the same `instance` and `seq`, so that the platform recognises it.
"""

import json
import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .deliveries import Delivery
from .durable import read_json, write_json
from .link import Link

BATCH_SECONDS = 0.2
MAX_LINES = 1_000
MAX_BATCH_BYTES = 512 * 1024
MAX_LINE_BYTES = 8 * 1024
CUT = " [cut]"
CHUNK_BYTES = 256 * 1024
REFUSED_RETRY_SECONDS = 30.0
REASON_CHARACTERS = 300
TAIL_BYTES = 64 * 1024

log = logging.getLogger(__name__)


class OutputFollower:
    """Sends what is appended to some files to one topic, on a thread of its own.

    Parameters:
        sources: file by stream name; a file may appear later.
        cursor: the cursor file.
        link: the broker.
        topic: `runs/RUN/EDGE/log`.
    """

    def __init__(self, sources: Mapping[str, Path], cursor: Path, link: Link, topic: str) -> None:
        self._sources = dict(sources)
        self._cursor = cursor
        self._link = link
        self._topic = topic
        self._files: dict[str, int] = {}
        self._delivery: Delivery | None = None
        self._ended = threading.Event()
        self._leave = threading.Event()
        self._drained = threading.Event()
        self._thread: threading.Thread | None = None
        state = read_json(cursor) or {}
        self._instance = str(state.get("instance") or secrets.token_hex(8))
        self._seq = int(state.get("seq") or 0)
        self._line_seq = int(state.get("line_seq") or 0)
        self._positions: dict[str, tuple[int, bool]] = {
            str(name): (int(offset), bool(cutting))
            for name, (offset, cutting) in (state.get("positions") or {}).items()
        }
        pending = state.get("pending")
        self._pending: dict[str, Any] | None = pending if isinstance(pending, dict) else None

    def start(self) -> None:
        """Begin to follow."""
        self._thread = threading.Thread(target=self._follow, name=f"log {self._topic}", daemon=True)
        self._thread.start()

    def finish(self, seconds: float) -> bool:
        """Say that nothing more will be written, and wait until all of it was delivered.

        Returns:
            Whether it was, within the time; the rest goes on being delivered until `leave`.
        """
        self._ended.set()
        return self._drained.wait(seconds)

    @property
    def drained(self) -> bool:
        """Whether everything was delivered after `finish`."""
        return self._drained.is_set()

    def leave(self) -> None:
        """Stop following; what was not delivered is delivered by whoever follows with the same cursor file."""
        self._leave.set()
        if self._thread is not None:
            self._thread.join(5)
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files = {}

    def _follow(self) -> None:
        while not self._leave.is_set():
            ended = self._ended.is_set()
            try:
                if self._step(ended) and ended:
                    self._drained.set()
                    return
            except OSError as error:
                log.warning("cannot follow the output for %s: %s", self._topic, error)
                self._leave.wait(2)
            self._leave.wait(BATCH_SECONDS)

    def _step(self, ended: bool) -> bool:
        """Deliver at most one batch; returns whether nothing is left to deliver."""
        if self._delivery is not None:
            if not self._delivery.settled:
                return False
            if not self._delivery.acknowledged:
                log.warning("the broker refused log lines for %s: %s", self._topic, self._delivery.refused)
                self._leave.wait(REFUSED_RETRY_SECONDS)
                self._publish()
                return False
            self._delivery = None
            self._pending = None
        if self._pending is not None:  # left by whoever followed before
            self._publish()
            return False
        lines, positions = self._read(ended)
        if not lines:
            self._positions = positions
            if ended:
                self._save()
            return True
        self._seq += 1
        self._line_seq += len(lines)
        self._positions = positions
        self._pending = {"instance": self._instance, "seq": self._seq, "lines": lines}
        self._save()
        self._publish()
        return False

    def _publish(self) -> None:
        pending = self._pending or {}
        payload = json.dumps(pending, ensure_ascii=False, separators=(",", ":")).encode()
        report = (str(pending["instance"]), int(pending["seq"]))
        self._delivery = self._link.publish(self._topic, payload, report=report)

    def _save(self) -> None:
        write_json(
            self._cursor,
            {
                "instance": self._instance,
                "seq": self._seq,
                "line_seq": self._line_seq,
                "positions": self._positions,
                "pending": self._pending,
            },
        )

    def _read(self, ended: bool) -> tuple[list[dict[str, Any]], dict[str, tuple[int, bool]]]:
        """Read the next lines of every source; returns them and the positions behind them."""
        lines: list[dict[str, Any]] = []
        positions = dict(self._positions)
        room = MAX_BATCH_BYTES
        now = round(time.time(), 3)
        for stream in self._sources:
            descriptor = self._open(stream)
            if descriptor is None:
                continue
            offset, cutting = positions.get(stream, (0, False))
            size = os.fstat(descriptor).st_size
            offset = min(offset, size)  # the instance may have emptied the file
            reader = _LineReader(descriptor, offset, cutting, ended)
            while len(lines) < MAX_LINES and room > 0 and (text := reader.next()) is not None:
                line = {"seq": self._line_seq + len(lines) + 1, "time": now, "stream": stream, "line": text}
                room -= len(json.dumps(line, ensure_ascii=False).encode())
                lines.append(line)
            positions[stream] = (reader.offset, reader.cutting)
        return lines, positions

    def _open(self, stream: str) -> int | None:
        if stream not in self._files:
            try:
                # The instance can write in this folder: follow no link, wait for no pipe.
                descriptor = os.open(self._sources[stream], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                return None
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                return None
            self._files[stream] = descriptor
        return self._files[stream]


class _LineReader:
    """Takes whole lines from a file that is still being written.

    `offset` is where the next line starts; `cutting` says that the rest of a line too long lies there.
    """

    def __init__(self, descriptor: int, offset: int, cutting: bool, ended: bool) -> None:
        self.offset = offset
        self.cutting = cutting
        self._descriptor = descriptor
        self._ended = ended
        self._buffer = b""
        self._start = 0  # where in the buffer the next line starts

    def next(self) -> str | None:
        """The next line, or None where none is complete yet."""
        while True:
            end = self._buffer.find(b"\n", self._start)
            if end >= 0:
                raw = self._buffer[self._start : end]
                self._advance(end + 1 - self._start)
                if self.cutting:
                    self.cutting = False
                    continue
                return clean_line(raw)
            rest = len(self._buffer) - self._start
            if self.cutting:
                self._advance(rest)
            elif rest > MAX_LINE_BYTES:
                drawn_over = self._buffer.rfind(b"\r", self._start, -1)
                if drawn_over >= 0:
                    self._advance(drawn_over + 1 - self._start)
                    continue
                raw = self._buffer[self._start :]
                self._advance(rest)
                self.cutting = True
                return clean_line(raw)
            if not self._fill():
                if self._ended and not self.cutting and self._start < len(self._buffer):
                    raw = self._buffer[self._start :]
                    self._advance(len(raw))
                    return clean_line(raw)
                return None

    def _advance(self, count: int) -> None:
        self._start += count
        self.offset += count

    def _fill(self) -> bool:
        kept = self._buffer[self._start :]
        chunk = os.pread(self._descriptor, CHUNK_BYTES, self.offset + len(kept))
        self._buffer = kept + chunk
        self._start = 0
        return bool(chunk)


def clean_line(raw: bytes) -> str:
    """Make a line fit to be sent: valid text, no zero characters, at most 8 KiB.

    Of a line that was drawn over itself with carriage returns (a progress bar) the last state is kept.
    """
    raw = raw.rstrip(b"\r").rpartition(b"\r")[2]
    text = raw[: MAX_LINE_BYTES + 1].decode("utf-8", "replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")
    encoded = text.encode()
    if len(encoded) <= MAX_LINE_BYTES and len(raw) <= MAX_LINE_BYTES:
        return text
    return encoded[: MAX_LINE_BYTES - len(CUT)].decode("utf-8", "ignore") + CUT


def last_line(path: Path) -> str:
    """The last line of a file that is not empty, at most 300 characters; empty where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        details = os.fstat(descriptor)
        if not stat.S_ISREG(details.st_mode):
            return ""
        raw = os.pread(descriptor, TAIL_BYTES, max(0, details.st_size - TAIL_BYTES))
    finally:
        os.close(descriptor)
    for line in reversed(raw.split(b"\n")):
        text = clean_line(line).strip()
        if text:
            return text[:REASON_CHARACTERS]
    return ""
