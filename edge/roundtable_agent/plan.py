"""What is to be opened: the plan of one instance, from a command or a spec that was checked."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .fields import Fields, Invalid

RUN_ID_HIGH = 2**63 - 1
EDGE_ID_HIGH = 2**63 - 1
HOST_PATTERN = r"[A-Za-z0-9._:\[\]-]+"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True)
class MqttLogin:
    """Where the broker is and how to log in."""

    host: str
    port: int
    tls: bool
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Limits:
    """What an instance may use.

    Parameters:
        memory_mb: MiB of resident memory of all its processes together.
        cpus: CPUs' worth of threads.
        pids: processes at one time.
    """

    memory_mb: int = 4096
    cpus: float = 2.0
    pids: int = 256


@dataclass(frozen=True)
class S3Store:
    """An object store that instances may use."""

    endpoint_url: str
    bucket: str
    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


@dataclass(frozen=True)
class Entry:
    """The entry file, relative to the package, and its arguments."""

    file: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class LocalPackage:
    """A package on this machine: an unpacked folder or a zip file."""

    path: Path


@dataclass(frozen=True)
class RemotePackage:
    """A package to fetch from the platform.

    Parameters:
        url: absolute.
        sha256: what its bytes must hash to.
        size: its bytes, or 0 where not known.
        bearer: the token that fetches it.
    """

    url: str
    sha256: str
    size: int
    bearer: str = field(repr=False)


@dataclass(frozen=True)
class RegistryLogin:
    """How to log in to an image registry."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class ImageReference:
    """A container image, named by digest.

    Parameters:
        main: the package in it has a `main.py` that starts its entry file.
        login: for its registry; None where that asks for none.
    """

    reference: str
    main: bool = True
    login: RegistryLogin | None = field(default=None, repr=False)


@dataclass(frozen=True)
class InstancePlan:
    """Everything needed to open one instance.

    Parameters:
        root: the instance's own folder (`/fedml` in a container).
        python: the interpreter to use; None lets the runtime make one from the package's requirements.
        private_data: the device's data that the instance may read, as an absolute path, or None.
    """

    run_id: int
    edge_id: int
    root: Path
    url: str
    token: str = field(repr=False)
    mqtt: MqttLogin
    entry: Entry
    config: dict[str, Any]
    limits: Limits
    package: LocalPackage | RemotePackage | None
    package_name: str
    package_url: str
    image: ImageReference | None = None
    python: Path | None = None
    s3: S3Store | None = field(default=None, repr=False)
    private_data: Path | None = None
    log_level: str = "INFO"


def read_mqtt_login(fields: Fields) -> MqttLogin:
    """Read `{host, port, tls, username, password}`; raises `Invalid`."""
    return MqttLogin(
        host=fields.text("host", most=255, pattern=HOST_PATTERN),
        port=fields.integer("port", low=1, high=65_535),
        tls=fields.boolean("tls", default=False),
        username=fields.text("username", most=200),
        password=fields.text("password", most=1_000),
    )


def read_limits(fields: Fields) -> Limits:
    """Read `{memory_mb, cpus, pids}`, each of which may be missing; raises `Invalid`."""
    usual = Limits()
    return Limits(
        memory_mb=fields.integer("memory_mb", low=16, high=2**24, default=usual.memory_mb),
        cpus=fields.number("cpus", low=0.01, high=4096, default=usual.cpus),
        pids=fields.integer("pids", low=1, high=2**20, default=usual.pids),
    )


def read_s3(fields: Fields) -> S3Store:
    """Read `{endpoint_url, bucket, access_key, secret_key, region}`; raises `Invalid`."""
    return S3Store(
        endpoint_url=fields.text("endpoint_url", most=2_000, default=""),
        bucket=fields.text("bucket", most=255),
        region=fields.text("region", most=100, default=""),
        access_key=fields.text("access_key", most=1_000),
        secret_key=fields.text("secret_key", most=1_000),
    )


def read_image(fields: Fields) -> ImageReference:
    """Read `{reference, main, login}`; raises `Invalid`."""
    return ImageReference(
        reference=fields.text("reference", most=500, pattern=r"[A-Za-z0-9._:/@-]+"),
        main=fields.boolean("main", default=True),
        login=read_registry_login(fields.object("login")) if "login" in fields else None,
    )


def read_registry_login(fields: Fields) -> RegistryLogin:
    """Read `{username, password}`; raises `Invalid`."""
    return RegistryLogin(fields.text("username", most=1_000), fields.text("password", most=10_000))


def read_entry(fields: Fields) -> Entry:
    """Read `{file, arguments}`; the file must stay inside the package. Raises `Invalid`."""
    file = fields.text("file", most=1_000)
    parts = file.split("/")
    if not file or file.startswith("/") or "\\" in file or any(part in ("", ".", "..") for part in parts):
        raise Invalid(f"the entry file {file!r} is not a plain path inside the package")
    return Entry(file, fields.texts("arguments", most=2_000, each=65_536))
