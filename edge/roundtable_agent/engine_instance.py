"""An instance that an engine runs, as its keeper sees it: its output, its end, and an engine that may go away."""

import contextlib
import logging
import os
import stat
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from . import containers
from .engine import Engine, EngineAway, EngineClient, EngineRefused, NotFound, hang_up
from .layout import InstanceFolder
from .runtime import Exit, Usage

AWAY_SECONDS = 180.0
LOOK_SECONDS = 0.3
RETRY_SECONDS = 0.5
FOLLOWED_SECONDS = 0.3
LAST_SECONDS = 2.0
LAST_ATTEMPTS = 5

log = logging.getLogger(__name__)


class EngineInstance(ABC):
    """What containers and services have in common.

    Parameters:
        engine: where it runs.
        folder: the instance's folder; how it ended is written there before the engine forgets it.
        identity: what the engine names it by; empty where it was not found yet.
    """

    def __init__(self, engine: Engine, folder: InstanceFolder, identity: str) -> None:
        self._engine = engine
        self._folder = folder
        self._id = identity
        self._exit = containers.ended_read(folder)
        self._removed = False
        self._copies: list[OutputCopy] = []
        self._next_look = 0.0
        self._away_since: float | None = None
        self._was_away = False

    @abstractmethod
    def _look(self) -> Exit | None:
        """How it ended, its output complete, or None while it runs; raises `EngineAway` or `EngineRefused`."""

    @abstractmethod
    def _logs(self, client: EngineClient, stream: str, follow: bool) -> Iterable[bytes]:
        """One stream of its output from the start."""

    @abstractmethod
    def _signal(self, client: EngineClient, name: str) -> None:
        """Send it a signal."""

    @abstractmethod
    def _remove(self) -> None:
        """Remove everything that the engine keeps of it."""

    @property
    def pid(self) -> int | None:
        """Its main process on this machine, where there is one."""
        return None

    def outputs(self) -> Mapping[str, Path]:
        """The files that its output is copied to."""
        return {"stdout": self._folder.stdout, "stderr": self._folder.stderr}

    def poll(self) -> Exit | None:
        """How it ended, or None while it runs or while nobody can tell."""
        if self._exit is None and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_SECONDS
            try:
                self._exit = self._look()
                self._away_since = None
            except (EngineAway, EngineRefused) as error:
                self._exit = self._away(error)
            if self._exit is not None:
                containers.ended_write(self._folder, self._exit)
        if self._exit is not None and not self._removed:
            self._removed = True
            containers.forgive(self._remove)
        return self._exit

    def terminate(self) -> None:
        """Ask it to end."""
        self._send("SIGTERM")

    def kill(self) -> None:
        """End it at once."""
        self._send("SIGKILL")

    def release(self) -> None:
        """Stop copying its output."""
        for copy in self._copies:
            copy.leave()
        self._copies = []

    def _send(self, name: str) -> None:
        with contextlib.suppress(EngineAway, EngineRefused), self._engine.client() as client:
            self._signal(client, name)

    def _copy_output(self) -> None:
        """Begin to copy its output, once."""
        if not self._copies:
            for stream, path in self.outputs().items():
                self._copies.append(OutputCopy(path, self._engine, stream, self._logs))

    def _finish_output(self) -> None:
        """Copy what is left of its output after it ended; raises `EngineAway` where that has to be tried again."""
        if not all(copy.finish() for copy in self._copies):
            raise _OutputIncomplete("the engine did not give the whole output")

    def _away(self, error: Exception) -> Exit | None:
        now = time.monotonic()
        if not isinstance(error, _OutputIncomplete):
            self._was_away = True
        self._away_since = self._away_since or now
        if now - self._away_since < AWAY_SECONDS:
            return None
        return Exit(note=f"for {AWAY_SECONDS:.0f} seconds {error}, and nobody knows what became of it")


class _OutputIncomplete(EngineAway):
    """The engine answers, but what the instance wrote has to be asked for again."""


class OutputCopy:
    """Copies one stream of an engine's log to a file while it grows, each byte once.

    The engine keeps the whole log until it is told to forget the instance, so whoever copies reads it from the start
    and skips as much as the file holds already: nothing else has to be remembered over a restart.

    Parameters:
        path: the file; made when missing.
        engine: whose log it is.
        stream: `stdout` or `stderr`.
        logs: reads the log from its start: (client, stream, follow) -> chunks; with `follow` it goes on to the end.
    """

    def __init__(
        self,
        path: Path,
        engine: Engine,
        stream: str,
        logs: Callable[[EngineClient, str, bool], Iterable[bytes]],
    ) -> None:
        self._path = path
        self._engine = engine
        self._stream = stream
        self._logs = logs
        self._client: EngineClient | None = None
        self._ended = threading.Event()
        self._left = False
        self._attempts = 0
        self._complete = False
        self._thread = self._begin()

    def finish(self) -> bool:
        """Copy what is left after the instance ended.

        Returns:
            Whether all of it is there, or nothing more of it is to be had; else it has to be called again.
        """
        self._ended.set()
        self._thread.join(FOLLOWED_SECONDS if self._attempts == 0 else LAST_SECONDS)
        if self._thread.is_alive():
            self._break_off()  # it waits for more, of which there will be none
            self._thread.join(LAST_SECONDS)
        if self._complete:
            return True
        self._attempts += 1
        if self._attempts >= LAST_ATTEMPTS:
            log.warning("the last lines of %s may be missing: the engine does not give them", self._path)
            return True
        if not self._thread.is_alive():
            self._thread = self._begin()
        return False

    def leave(self) -> None:
        """Stop copying."""
        self._left = True
        self._ended.set()
        self._break_off()

    def _begin(self) -> threading.Thread:
        thread = threading.Thread(target=self._work, name=f"copy {self._stream}", daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        while not self._ended.is_set():
            self._copy(follow=True)
            self._ended.wait(RETRY_SECONDS)
        if not self._left:
            self._complete = self._copy(follow=False)

    def _break_off(self) -> None:
        if self._client is not None:
            hang_up(self._client)

    def _read(self, follow: bool) -> Iterator[bytes]:
        with self._engine.client() as self._client:
            yield from self._logs(self._client, self._stream, follow)

    def _copy(self, *, follow: bool) -> bool:
        try:
            # The instance can write in this folder: follow no link, wait for no pipe.
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o644)
        except OSError as error:
            log.warning("the output cannot be written to %s: %s", self._path, error.strerror)
            return True  # it put something else in its place
        try:
            details = os.fstat(descriptor)
            if not stat.S_ISREG(details.st_mode):
                return True
            skip = details.st_size
            for chunk in self._read(follow):
                rest = memoryview(chunk)[min(skip, len(chunk)) :]
                skip -= len(chunk) - len(rest)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                if self._left:
                    break
        except (EngineAway, EngineRefused, NotFound, OSError) as error:
            log.debug("reading the output for %s broke off: %s", self._path, error)
            return False
        finally:
            os.close(descriptor)
        return True


def container_usage(client: EngineClient, container: str) -> Usage:
    """What a container uses. Its limits are the kernel's work, so this never passes them."""
    figures = client.stats(container, stream=False, one_shot=True)
    memory = figures.get("memory_stats") or {}
    details = memory.get("stats") or {}
    cache = int(details.get("total_inactive_file", details.get("inactive_file", 0)))
    spent = figures["cpu_stats"]["cpu_usage"]["total_usage"] / 10**9
    tasks = int((figures.get("pids_stats") or {}).get("current") or 0)
    return Usage(max(0, int(memory.get("usage") or 0) - cache), 1, tasks, {0: spent})


def container_kill(client: EngineClient, container: str, name: str) -> None:
    """Send a signal to a container's main process."""
    client.kill(container, signal=name)
