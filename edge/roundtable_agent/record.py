"""What the keeper of an instance remembers of it on disk, and the states that it reports."""

import os
import threading
import time
from enum import StrEnum
from pathlib import Path
from typing import Any

from .durable import read_json, write_json
from .fields import Fields, Invalid
from .plan import EDGE_ID_HIGH, RUN_ID_HIGH, Limits, read_limits
from .processes import identity


class State(StrEnum):
    """The states of an instance (docs/protocol.md, section 3)."""

    INITIALIZING = "INITIALIZING"
    TRAINING = "TRAINING"
    STOPPING = "STOPPING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self in (State.FINISHED, State.FAILED, State.KILLED)


KEEPER_STARTED = time.time()


class RunRecord:
    """One instance's record: a JSON file that is replaced at each change.

    Keys of the file: `run_id`, `edge_id`; `pid`, `process` and `start_time` of the keeper (agent or supervisor);
    `state`, `reason`, `phase`, `exit_code`; `instance_pid`; `created`, `opened`, `ended` (seconds since the epoch or
    null); `acknowledged` (the broker has taken the final status), `drained` (and the whole output); `runtime` (by
    which it was opened); `status` (the last status message); `stop`
    (`{reason, state}` once a stop was asked for); `limits`; `command` (what to open, until it is open); `command_id`
    (of the command that it was opened by).

    Attributes are written by one thread at a time under `change`.
    """

    def __init__(self, path: Path, run_id: int, edge_id: int, limits: Limits) -> None:
        self.path = path
        self.run_id = run_id
        self.edge_id = edge_id
        self.limits = limits
        self.state = State.INITIALIZING
        self.reason = ""
        self.phase = ""
        self.exit_code: int | None = None
        self.instance_pid: int | None = None
        self.created = time.time()
        self.opened: float | None = None
        self.ended: float | None = None
        self.acknowledged = False
        self.drained = False
        self.runtime = "process"
        self.status: dict[str, Any] | None = None
        self.stop: dict[str, str] | None = None
        self.command: dict[str, Any] | None = None
        self.command_id = ""
        self._lock = threading.RLock()

    @classmethod
    def load(cls, path: Path) -> "RunRecord | None":
        """Read a record; None where there is none that can be understood."""
        value = read_json(path)
        if value is None:
            return None
        try:
            fields = Fields(value, path.name)
            record = cls(
                path,
                fields.integer("run_id", low=1, high=RUN_ID_HIGH),
                fields.integer("edge_id", low=0, high=EDGE_ID_HIGH),
                read_limits(fields.object("limits")),
            )
            record.state = State(fields.choice("state", tuple(State)))
        except Invalid:
            return None
        record.reason = str(value.get("reason") or "")
        record.phase = str(value.get("phase") or "")
        record.exit_code = value.get("exit_code")
        record.instance_pid = value.get("instance_pid")
        record.created = float(value.get("created") or 0)
        record.opened = value.get("opened")
        record.ended = value.get("ended")
        record.acknowledged = value.get("acknowledged") is True
        record.drained = value.get("drained") is True
        record.runtime = str(value.get("runtime") or "process")
        record.status = value.get("status")
        record.stop = value.get("stop")
        record.command = value.get("command")
        record.command_id = str(value.get("command_id") or "")
        return record

    def change(self, **values: Any) -> None:
        """Set attributes and save the record.

        Raises:
            OSError: the disk is full; the attributes are set all the same.
        """
        with self._lock:
            for name, value in values.items():
                setattr(self, name, value)
            self.save()

    def save(self) -> None:
        """Write the file; errors as `change`."""
        with self._lock:
            write_json(self.path, self.as_json(), sync=True)

    def as_json(self) -> dict[str, Any]:
        """The file's content."""
        return {
            "run_id": self.run_id,
            "edge_id": self.edge_id,
            "pid": os.getpid(),
            "process": identity(os.getpid()),
            "start_time": KEEPER_STARTED,
            "state": self.state.value,
            "reason": self.reason,
            "phase": self.phase,
            "exit_code": self.exit_code,
            "instance_pid": self.instance_pid,
            "created": self.created,
            "opened": self.opened,
            "ended": self.ended,
            "acknowledged": self.acknowledged,
            "drained": self.drained,
            "runtime": self.runtime,
            "status": self.status,
            "stop": self.stop,
            "limits": {
                "memory_mb": self.limits.memory_mb,
                "cpus": self.limits.cpus,
                "pids": self.limits.pids,
            },
            "command": self.command,
            "command_id": self.command_id,
        }
