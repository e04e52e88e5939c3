"""What the runtimes with containers have in common: paths, labels, variables, output, and how a container ended."""

import contextlib
import hashlib
import logging
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from . import layout
from .durable import read_json, write_json
from .engine import EngineAway, EngineRefused, NotFound
from .layout import InstanceFolder
from .plan import InstancePlan
from .runtime import Exit, Failed

ROOT = PurePosixPath("/fedml")
INSTANCE_UID = 10001  # as the platform's images have it
RETRY_SECONDS = 0.5
JOIN_SECONDS = 5.0
CERTIFICATES = "certificates.pem"
PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
# Private data may not stand in for what a container needs of its own.
RESERVED = ("/", "/bin", "/dev", "/etc", "/lib", "/lib64", "/opt", "/proc", "/run", "/sbin", "/sys", "/tmp", "/usr")
RESERVED_BELOW = ("/dev", "/fedml", "/proc", "/sys")
ENGINE_ENDED = "the container engine stopped or was restarted, and the container ended with it"

log = logging.getLogger(__name__)


def home_label(root: Path) -> str:
    """The value of `roundtable.home`, by which the container of an instance's folder is found again."""
    return hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]


def labels(plan: InstancePlan, more: Mapping[str, str]) -> dict[str, str]:
    """The labels of an instance's container."""
    return {
        "roundtable.run": str(plan.run_id),
        "roundtable.edge": str(plan.edge_id),
        "roundtable.home": home_label(plan.root),
        **more,
    }


def container_name(plan: InstancePlan) -> str:
    """A name that no second container for the same folder can have."""
    return f"roundtable-{plan.run_id}-{plan.edge_id}-{home_label(plan.root)[:8]}"


def command(plan: InstancePlan) -> tuple[list[str], str]:
    """The command in the container, and its working folder."""
    main = plan.image is not None and plan.image.main
    argv, folder = layout.command(plan, "python", ROOT, main=main)
    return argv, str(folder)


def environment(plan: InstancePlan, *, certificates: bool) -> dict[str, str]:
    """The variables of the container."""
    passed = {name: os.environ[name] for name in PROXY_VARIABLES if name in os.environ}
    if certificates:
        passed["SSL_CERT_FILE"] = str(ROOT / "conf" / CERTIFICATES)
    return passed | layout.environment(plan, ROOT)


def user() -> str:
    """Whom the container runs as: never root; this user where that is somebody else, so that files stay removable."""
    if os.geteuid() == 0:
        return f"{INSTANCE_UID}:{INSTANCE_UID}"
    return f"{os.geteuid()}:{os.getegid()}"


def conf_write(plan: InstancePlan, folder: InstanceFolder) -> bool:
    """Write the configuration, and let the container's user read it and write in `data`.

    The folders above are for this user alone, so the wide permissions reach nobody but the container.

    Returns:
        Whether the machine's own certificate authorities are among it.
    """
    layout.write_conf(plan, folder)
    authorities = os.environ.get("SSL_CERT_FILE", "")
    given = bool(authorities) and Path(authorities).is_file()
    if given:
        shutil.copyfile(authorities, folder.conf / CERTIFICATES)
    folder.root.chmod(0o700)
    folder.conf.chmod(0o755)
    for path in folder.conf.iterdir():
        path.chmod(0o444)
    for path in (folder.data, folder.data / "tmp"):
        path.chmod(0o777)
    return given


def private_mount_check(path: Path, socket: Path | None) -> None:
    """Refuse private data that cannot be mounted at its own path.

    Parameters:
        path: absolute, links resolved.
        socket: the engine's socket, which no container may see.

    Raises:
        Failed: with a sentence.
    """
    within = any(path.is_relative_to(folder) for folder in RESERVED_BELOW)
    if str(path) in RESERVED or within:
        raise Failed(f"the private data at {path} would cover a folder that every container needs: move it elsewhere")
    if socket is not None and socket.resolve().is_relative_to(path):
        raise Failed(f"the private data at {path} holds the container engine's socket: move the data elsewhere")
    if os.geteuid() == 0 and not _others_can_read(path):
        raise Failed(
            f"the private data at {path} cannot be read by the container's user {INSTANCE_UID}: give others the right "
            "to read it, or run the agent as the user who owns it"
        )


def _others_can_read(path: Path) -> bool:
    details = path.stat()
    owner = (details.st_uid, details.st_gid)
    bits = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(details.st_mode) else 0)
    return INSTANCE_UID in owner or details.st_mode & bits == bits


def ended_read(folder: InstanceFolder) -> Exit | None:
    """How the folder's instance ended, where that was written down."""
    value = read_json(folder.exit)
    if value is None:
        return None
    code = value.get("exit_code")
    note, out_of_memory = str(value.get("note") or ""), value.get("out_of_memory") is True
    return Exit(code if isinstance(code, int) else None, value.get("signal"), note, out_of_memory)


def ended_write(folder: InstanceFolder, ended: Exit) -> None:
    """Write down how the folder's instance ended, before the container that knows it is removed."""
    value = {"exit_code": ended.code, "signal": ended.signal, "note": ended.note, "out_of_memory": ended.out_of_memory}
    write_json(folder.exit, value, sync=True)


class OutputCopy:
    """Copies one stream of an engine's log to a file while it grows, each byte once.

    The engine keeps the whole log until its container is removed, so whoever copies reads it from the start and skips
    as much as the file holds already: nothing else has to be remembered over a restart.

    Parameters:
        path: the file; made when missing.
        read: reads the log from its start: (follow) -> chunks; with `follow` it goes on until the container ends.
        leave: breaks off what `read` is waiting for.
    """

    def __init__(self, path: Path, read: Callable[[bool], Iterable[bytes]], leave: Callable[[], None]) -> None:
        self._path = path
        self._read = read
        self._break_off = leave
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"copy {path.name}", daemon=True)
        self._thread.start()

    def finish(self) -> bool:
        """Copy what is left after the container ended; returns whether all of it is there."""
        self._ended.set()
        self._thread.join(JOIN_SECONDS)
        if self._thread.is_alive():
            self._break_off()
            self._thread.join(JOIN_SECONDS)
        return not self._thread.is_alive() and self._copy(follow=False)

    def leave(self) -> None:
        """Stop copying."""
        self._ended.set()
        self._break_off()

    def _follow(self) -> None:
        while not self._ended.is_set():
            self._copy(follow=True)
            self._ended.wait(RETRY_SECONDS)

    def _copy(self, *, follow: bool) -> bool:
        try:
            # The container can write in this folder: follow no link, wait for no pipe.
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o644)
        except OSError as error:
            log.warning("the output cannot be written to %s: %s", self._path.name, error)
            return True  # the container put something else in its place: there is nothing left to copy to
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
                if follow and self._ended.is_set():
                    break
        except (EngineAway, EngineRefused, NotFound, OSError) as error:
            log.debug("the output of %s broke off: %s", self._path, error)
            return False
        finally:
            os.close(descriptor)
        return True


def forgive(action: Callable[[], Any]) -> None:
    """Do something that may be done, or impossible, already."""
    with contextlib.suppress(EngineAway, EngineRefused, NotFound):
        action()
