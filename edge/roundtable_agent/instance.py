"""The keeper of one instance: opens it, watches it, reports on it, ends it. Agents and supervisors share it."""

import contextlib
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .deliveries import Delivery
from .endings import ending_sentence
from .figures import FigureSampler
from .gpu import GpuReader
from .layout import InstanceFolder
from .link import Link
from .outputs import OutputFollower, last_line
from .plan import InstancePlan
from .record import RunRecord, State
from .runtime import Exit, Failed, Opened, Runtime, Steps, Stopped, Usage

WATCH_SECONDS = 0.2
USAGE_SECONDS = 0.5
FIRST_FIGURES_SECONDS = 1.0
GRACE_SECONDS = 10.0
DRAIN_SECONDS = 15.0
UNHEARD_SECONDS = 3.0  # the same where nobody ever heard anything
PROGRESS_SECONDS = 1.0
MAX_LOG_BYTES = 2 * 2**30
MAX_REASON_CHARACTERS = 1_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Topics:
    """Where the reports on one instance go."""

    status: str
    log: str
    system: str


class Instance:
    """One instance, from its plan to the broker's acknowledgement of its final status, on a thread of its own.

    1. Adopt the instance that the folder holds, or open it by the plan (INITIALIZING, with phase and progress).
    2. TRAINING: watch for its end, for a stop, for its limits; send figures and, on another thread, its output.
    3. STOPPING: SIGTERM, ten seconds later SIGKILL.
    4. Deliver the rest of the output, report the end, wait for the broker to take the report.

    Parameters:
        record: what is remembered on disk.
        root: the instance's folder.
        runtime: how to open it.
        link: the broker.
        topics: where reports go.
        subject: what to call it in sentences: `the client`, `the aggregator`.
        plan: makes the plan; raises `Failed`. None where the instance can only be adopted.
        gpu: the machine's GPUs.
        system_seconds: time between two messages of figures.
    """

    def __init__(
        self,
        *,
        record: RunRecord,
        root: Path,
        runtime: Runtime,
        link: Link,
        topics: Topics,
        subject: str,
        plan: Callable[[], InstancePlan] | None,
        gpu: GpuReader,
        system_seconds: float,
    ) -> None:
        self.record = record
        self._folder = InstanceFolder(root)
        self._runtime = runtime
        self._link = link
        self._topics = topics
        self._subject = subject
        self._plan = plan
        self._gpu = gpu
        self._system_seconds = system_seconds
        self._status_sender = secrets.token_hex(8)
        self._system_sender = secrets.token_hex(8)
        self._status_seq = 0
        self._system_seq = 0
        self._progress_sent = 0.0
        self._status_lock = threading.Lock()
        self._final: Delivery | None = None
        self._wake = threading.Event()
        self._detach = False
        self._holding = False
        self._thread = threading.Thread(target=self._run, name=f"run {record.run_id}", daemon=True)

    @property
    def over(self) -> bool:
        """Whether it has ended, as far as its keeper knows."""
        return self.record.state.ended

    @property
    def alive(self) -> bool:
        """Whether its keeper's thread still has something to do."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """Wait until nothing is left to do; returns whether that is so."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def stop(self, reason: str, *, final: State = State.KILLED) -> None:
        """Ask it to end; the first reason given is kept.

        Parameters:
            reason: a sentence for people.
            final: the state to report, unless it ends by itself before.
        """
        if self.record.stop is None and not self.over:
            self._save(stop={"reason": reason, "state": final.value})
        self._wake.set()

    def detach(self) -> None:
        """Leave it as it is: a later keeper adopts it, or delivers what this one could not."""
        self._detach = True
        self._wake.set()

    def repeat_status(self) -> None:
        """Send the last status again, word for word; the final one only once the output had its chance."""
        with self._status_lock:
            if self.record.status is not None:
                self._publish_status(self.record.status)

    def _run(self) -> None:
        follower = OutputFollower(
            {"agent": self._folder.keeper_log, "stdout": self._folder.stdout, "stderr": self._folder.stderr},
            self._folder.log_cursor,
            self._link,
            self._topics.log,
        )
        opened: Opened | None = None
        try:
            self._folder.make()
            follower.start()
            if not self.over:
                opened = self._open()
                state, reason, code = self._watch(opened)
                self._end(follower, state, reason, code)
            self._deliver_rest(follower)
        except _Detached:
            pass
        except Stopped:
            self._end_unopened(follower, *self._stop_verdict())
        except Failed as error:
            self._end_unopened(follower, State.FAILED, str(error))
        except Exception as error:
            log.exception("run %d: the keeper of the instance failed", self.record.run_id)
            if opened is not None:
                opened.kill()
            detail = f"{type(error).__name__}: {error}"
            self._end_unopened(follower, State.FAILED, f"the agent met an unexpected error ({detail}); see its log")
        finally:
            follower.leave()
            if opened is not None:
                opened.release()

    def _open(self) -> Opened:
        opened = self._runtime.adopt(self._folder.root)
        if opened is not None:
            self._say(f"found again after a restart: {opened.described}")
        else:
            self._checkpoint()
            if self.record.opened is not None or self._plan is None:
                raise Failed("the instance was lost: nothing is known of its process after the restart")
            self._report(State.INITIALIZING, phase="fetch")
            opened = self._runtime.open(self._plan(), Steps(self._progress, self._checkpoint, self._say))
            self._say(f"opened: {opened.described}")
        self._save(opened=self.record.opened or time.time(), instance_pid=opened.pid, command=None)
        return opened

    def _watch(self, opened: Opened) -> tuple[State, str, int | None]:
        """Wait for the end; returns the final state, its reason and the exit code."""
        sampler = FigureSampler(self._folder.root, self.record.limits, self._gpu)
        if self.record.stop is None and self.record.state is not State.TRAINING:
            self._report(State.TRAINING, phase="run")
        verdict = ""
        kill_at: float | None = None
        next_usage = time.monotonic()
        next_figures = next_usage + FIRST_FIGURES_SECONDS
        while (ended := opened.poll()) is None:
            now = time.monotonic()
            if self._detach:
                raise _Detached
            if self.record.stop is not None and kill_at is None:
                self._report(State.STOPPING, reason=self.record.stop["reason"], phase="run")
                opened.terminate()
                kill_at = now + GRACE_SECONDS
            if kill_at is not None and now >= kill_at:
                opened.kill()
            if now >= next_usage:
                usage = opened.usage()
                next_usage = now + USAGE_SECONDS
                if not verdict and (verdict := self._breach(usage)):
                    self._say(verdict)
                if verdict:
                    opened.kill()
                if now >= next_figures:
                    next_figures = now + self._system_seconds
                    self._send_figures(sampler.sample(usage))
            self._wake.wait(WATCH_SECONDS)
            self._wake.clear()
        return self._judge(ended, verdict, stopping=kill_at is not None)

    def _judge(self, ended: Exit, verdict: str, *, stopping: bool) -> tuple[State, str, int | None]:
        if verdict:
            return State.FAILED, verdict, ended.code
        if stopping:
            return *self._stop_verdict(), ended.code
        if ended.code == 0:
            return State.FINISHED, "", 0
        error = last_line(self._folder.stderr)
        return State.FAILED, ending_sentence(ended, self._subject, self.record.limits.memory_mb, error), ended.code

    def _breach(self, usage: Usage | None) -> str:
        """The sentence for a limit that the instance has passed, or nothing."""
        limits = self.record.limits
        if usage is not None and usage.memory_bytes > limits.memory_mb * 2**20:
            return f"killed: the {limits.memory_mb} MiB memory limit was reached"
        if usage is not None and usage.processes > limits.pids:
            return f"killed: the limit of {limits.pids} processes was reached"
        for path in (self._folder.stdout, self._folder.stderr):
            with contextlib.suppress(OSError):
                if path.stat(follow_symlinks=False).st_blocks * 512 > MAX_LOG_BYTES:
                    return f"killed: it wrote more than {MAX_LOG_BYTES // 2**20} MiB of output"
        return ""

    def _end_unopened(self, follower: OutputFollower, state: State, reason: str) -> None:
        try:
            self._end(follower, state, reason, None)
            self._deliver_rest(follower)
        except _Detached:
            pass

    def _end(self, follower: OutputFollower, state: State, reason: str, code: int | None) -> None:
        """Write the end down; report it after the output, unless that takes long with the broker there."""
        self._say(f"ended: {state}" + (f": {reason}" if reason else ""))
        self._holding = True
        self._save(ended=time.time(), command=None)
        self._report(state, reason=reason, phase="", exit_code=code)
        connected_seconds = 0.0
        while not follower.finish(WATCH_SECONDS) and not self._detach:
            connected_seconds += WATCH_SECONDS if self._link.connected else 0.0
            if connected_seconds >= (UNHEARD_SECONDS if self._link.nobody_listens else DRAIN_SECONDS):
                break
        self._holding = False

    def _deliver_rest(self, follower: OutputFollower) -> None:
        """Wait until the broker has the final status and the whole output."""
        if self._detach:
            raise _Detached
        if self._final is None and not self.record.acknowledged:
            self.repeat_status()
        while not (self.record.acknowledged and follower.finish(WATCH_SECONDS)):
            if self._final is not None and self._final.acknowledged and not self.record.acknowledged:
                self._save(acknowledged=True)
            elif self._final is not None and self._final.settled and not self._final.acknowledged:
                log.warning("run %d: the broker refused the status: %s", self.record.run_id, self._final.refused)
                self._wake.wait(GRACE_SECONDS)
                self.repeat_status()
            if self._detach:
                raise _Detached
            self._wake.wait(WATCH_SECONDS)
            self._wake.clear()
        self._save(drained=True)

    def _stop_verdict(self) -> tuple[State, str]:
        stop = self.record.stop or {}
        return State(stop.get("state") or State.KILLED), stop.get("reason") or "stopped"

    def _checkpoint(self) -> None:
        if self._detach:
            raise _Detached
        if self.record.stop is not None:
            raise Stopped

    def _progress(self, phase: str, progress: float | None) -> None:
        """Report how far the opening is: each new phase at once, progress within it once a second."""
        now = time.monotonic()
        if phase == self.record.phase and now - self._progress_sent < PROGRESS_SECONDS:
            return
        self._progress_sent = now
        self._report(State.INITIALIZING, phase=phase, progress=progress)

    def _report(
        self,
        state: State,
        *,
        reason: str = "",
        phase: str,
        progress: float | None = None,
        exit_code: int | None = None,
    ) -> None:
        reason = "".join(c if c.isprintable() else " " for c in reason[:MAX_REASON_CHARACTERS])
        changed = (state, reason) != (self.record.state, self.record.reason) or self.record.status is None
        with self._status_lock:
            self._status_seq += 1
            status = {
                "run_id": self.record.run_id,
                "status": state.value,
                "reason": reason,
                "phase": phase,
                "progress": None if progress is None else round(min(max(progress, 0.0), 1.0), 3),
                "exit_code": exit_code,
                "time": round(time.time(), 3),
                "instance": self._status_sender,
                "seq": self._status_seq,
            }
            if changed:
                log.info("run %d: %s%s", self.record.run_id, state, f": {reason}" if reason else "")
                self._save(state=state, reason=reason, phase=phase, exit_code=exit_code, status=status)
            else:
                self.record.phase, self.record.status = phase, status  # progress alone is not worth a disk write
            if changed or self._link.connected:
                self._publish_status(status)

    def _publish_status(self, status: dict[str, Any]) -> None:
        if self._holding:
            return
        payload = json.dumps(status, ensure_ascii=False).encode()
        delivery = self._link.publish(self._topics.status, payload, report=(status["instance"], status["seq"]))
        if State(status["status"]).ended:
            self._final = delivery

    def _send_figures(self, figures: dict[str, float]) -> None:
        if not self._link.connected:
            return  # figures of long ago help nobody
        self._system_seq += 1
        message = {"instance": self._system_sender, "seq": self._system_seq, "time": round(time.time(), 3), **figures}
        report = (self._system_sender, self._system_seq)
        self._link.publish(self._topics.system, json.dumps(message).encode(), report=report)

    def _say(self, line: str) -> None:
        """Append a line of the keeper to the instance's log."""
        with contextlib.suppress(OSError), self._folder.keeper_log.open("a", encoding="utf-8") as file:
            file.write(line.replace("\n", " ") + "\n")

    def _save(self, **values: Any) -> None:
        try:
            self.record.change(**values)
        except OSError as error:
            log.error("run %d: cannot save its record: %s", self.record.run_id, error)


class _Detached(Exception):
    """The keeper leaves while the instance goes on."""
