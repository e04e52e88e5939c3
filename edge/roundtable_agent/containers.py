"""What the runtimes with containers have in common: paths, labels, variables, output, and how a container ended."""

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from . import layout
from .durable import read_json, write_json
from .engine import EngineAway, EngineRefused, NotFound
from .layout import InstanceFolder
from .plan import InstancePlan
from .runtime import Exit, Failed

ROOT = PurePosixPath("/fedml")
INSTANCE_UID = 10001  # as the platform's images have it
OWN_NETWORK = "roundtable"
NETWORK_LABELS = {"roundtable.network": "1"}
TMP_BYTES = 256 * 2**20
ULIMITS = {"nofile": 4096, "core": 0}
# No rotation: the keeper copies the output, and ends who writes too much of it.
LOG_DRIVER = "json-file"
LOG_OPTIONS = {"max-size": "1t", "max-file": "1"}
CERTIFICATES = "certificates.pem"
PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
# Private data may not stand in for what a container needs of its own.
RESERVED = ("/", "/bin", "/dev", "/etc", "/lib", "/lib64", "/opt", "/proc", "/run", "/sbin", "/sys", "/tmp", "/usr")  # noqa: S108
RESERVED_BELOW = ("/dev", "/fedml", "/proc", "/sys")
ENGINE_ENDED = "the container engine stopped or was restarted, and the container ended with it"


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


def home_filter(root: Path) -> dict[str, list[str]]:
    """The filter by which the engine lists what was made for an instance's folder."""
    return {"label": [f"roundtable.home={home_label(root)}"]}


def one_stream(stream: str) -> dict[str, bool]:
    """What asks for one stream of a log."""
    return {name: name == stream for name in ("stdout", "stderr")}


def usual_network(plan: InstancePlan) -> str:
    """The host's network where the broker or the platform is reached by loopback, else one of our own."""
    near = {plan.mqtt.host, urlsplit(plan.url).hostname} & set(LOOPBACK)
    return "host" if near else OWN_NETWORK


def tmp_bytes(plan: InstancePlan) -> int:
    """The size of `/tmp`; what lies in it counts as memory of the container."""
    return min(TMP_BYTES, plan.limits.memory_mb * 2**20)


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


def forgive(action: Callable[[], Any]) -> None:
    """Do something that may be done, or impossible, already."""
    with contextlib.suppress(EngineAway, EngineRefused, NotFound):
        action()
