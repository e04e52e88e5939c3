"""The small interface behind which instances are opened; one module per kind of runtime.

A runtime must leave behind, in the instance's folder, what `adopt` needs to find a living instance again after its
keeper was killed. Instances write their output to the files that `outputs` names; a runtime whose engine keeps the
output elsewhere copies it there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .plan import InstancePlan


class Failed(Exception):
    """The instance cannot be opened; the message is a sentence for people."""


class Stopped(Exception):
    """Somebody asked to stop while the instance was being opened."""


@dataclass(frozen=True)
class Steps:
    """What a runtime tells and asks its keeper while it opens an instance.

    Parameters:
        phase: called with the phase (`fetch`, `install`, `open`) and its progress from 0 to 1, or None.
        checkpoint: raises `Stopped` when the instance is no longer wanted; called at least every second.
        say: writes a line to the instance's log.
    """

    phase: Callable[[str, float | None], None]
    checkpoint: Callable[[], None]
    say: Callable[[str], None]


@dataclass(frozen=True)
class Exit:
    """How an instance ended.

    Parameters:
        code: what it exited with; None where a signal ended it or nobody knows.
        signal: the number of the signal that ended it.
        note: a sentence that says more, where the runtime knows more.
        out_of_memory: the kernel killed it at its memory limit.
    """

    code: int | None = None
    signal: int | None = None
    note: str = ""
    out_of_memory: bool = False


@dataclass(frozen=True)
class Usage:
    """What an instance uses at this moment, all its processes together.

    Parameters:
        memory_bytes: resident memory.
        processes: how many.
        threads: how many.
        cpu_seconds: CPU time used so far, by pid.
    """

    memory_bytes: int
    processes: int
    threads: int
    cpu_seconds: Mapping[int, float] = field(default_factory=dict)


class Opened(Protocol):
    """An instance that was opened."""

    @property
    def pid(self) -> int | None:
        """Its main process on this machine, where there is one."""

    @property
    def described(self) -> str:
        """What it is, for the instance's log."""

    def outputs(self) -> Mapping[str, Path]:
        """The files that hold its output, by stream name."""

    def poll(self) -> Exit | None:
        """How it ended, or None while it runs."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it and everything that it started, at once."""

    def usage(self) -> Usage | None:
        """What it uses, or None where that cannot be told now."""

    def release(self) -> None:
        """Give up what was held for it; called once, after it ended or when its keeper leaves."""


class Runtime(Protocol):
    """A way to run instances."""

    @property
    def name(self) -> str:
        """What people call it."""

    def open(self, plan: InstancePlan, steps: Steps) -> Opened:
        """Fetch, install and open; raises `Failed` with a sentence, or `Stopped`."""

    def adopt(self, root: Path) -> Opened | None:
        """Find the instance of this folder again, alive or ended; None where none was opened."""

    def clean(self, root: Path) -> None:
        """Remove everything of an ended instance but its folder."""
