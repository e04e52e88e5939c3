"""The agent's folder on a device, and the identity in it."""

import hashlib
import secrets
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .durable import read_json, write_json
from .fields import Fields, Invalid
from .plan import EDGE_ID_HIGH, HOST_PATTERN, MqttLogin
from .record import RunRecord


@dataclass(frozen=True)
class Home:
    """The paths in an agent's folder.

    Parameters:
        root: the folder; everything that the agent writes lies in it, but for a shared cache.
        cache: fetched packages and built environments; several agents may share it.
    """

    root: Path
    cache: Path

    @property
    def identity(self) -> Path:
        """Who this device is, with its secrets: for the owner alone."""
        return self.root / "identity.json"

    @property
    def lock(self) -> Path:
        """Held by the agent that runs."""
        return self.root / "agent.lock"

    @property
    def state(self) -> Path:
        """What the running agent says of itself."""
        return self.root / "agent.json"

    @property
    def check(self) -> Path:
        """The result of the last check."""
        return self.root / "check.json"

    @property
    def images(self) -> Path:
        """Which container images were pulled, and when each was last used."""
        return self.root / "images.json"

    @property
    def log(self) -> Path:
        """The agent's log."""
        return self.root / "agent.log"

    @property
    def runs(self) -> Path:
        """One folder per run."""
        return self.root / "runs"

    def run(self, run_id: int) -> Path:
        """A run's folder."""
        return self.runs / str(run_id)

    def record(self, run_id: int) -> Path:
        """A run's record."""
        return self.run(run_id) / "run.json"

    def instance(self, run_id: int) -> Path:
        """The folder of a run's instance."""
        return self.run(run_id) / "instance"

    def make(self) -> None:
        """Make the folders, for the owner alone."""
        for folder in (self.root, self.runs, self.cache):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def run_ids(self) -> list[int]:
        """The runs that have a folder here."""
        if not self.runs.is_dir():
            return []
        return sorted(int(path.name) for path in self.runs.iterdir() if path.name.isdecimal() and path.is_dir())

    def open_runs(self) -> list[int]:
        """The runs whose instance has not ended, as far as the records say."""
        records = ((run_id, RunRecord.load(self.record(run_id))) for run_id in self.run_ids())
        return [run_id for run_id, record in records if record is not None and not record.state.ended]

    def forget_runs(self) -> None:
        """Remove all runs; for a device that becomes another one."""
        shutil.rmtree(self.runs, ignore_errors=True)
        self.runs.mkdir(mode=0o700)


@dataclass(frozen=True)
class Identity:
    """Who a device is.

    Parameters:
        server: the platform's URL.
        name: what the device was called when it was bound.
        agent: the agent's own login at the broker.
        instances: the login that this device's instances are given.
        registry: how to log in to the image registry, as the platform said it; None without one.
        code_sha256: digest of the one-time code that was used, to recognise the same command typed again.
        data: the only folder from which instances may be given private data.
        session: random; the end of the agent's client id at the broker. Whoever connects with the id of another takes
            over its session, whatever the credential, so that it must not be guessed.
    """

    server: str
    name: str
    edge_id: int
    device_token: str = field(repr=False)
    agent: MqttLogin
    instances: MqttLogin
    registry: dict[str, Any] | None = field(repr=False)
    code_sha256: str = field(repr=False)
    data: str = ""
    session: str = field(default="", repr=False)

    @property
    def client_id(self) -> str:
        """The agent's client id at the broker, the same at every start."""
        return f"agent-{self.edge_id}-{self.session}"

    def save(self, home: Home) -> None:
        """Write the identity file, 0600."""
        write_json(home.identity, asdict(self), mode=0o600, sync=True)

    @classmethod
    def load(cls, home: Home) -> "Identity | None":
        """Read the identity file; None where there is none. One of an earlier version is given what it lacks.

        Raises:
            Invalid: there is one that cannot be understood.
        """
        value = read_json(home.identity)
        if value is None:
            if home.identity.exists():
                raise Invalid(f"{home.identity} is damaged: remove it and bind the device again with a new code")
            return None
        fields = Fields(value, home.identity.name)
        identity = cls(
            server=fields.text("server", most=2_000),
            name=fields.text("name", most=200),
            edge_id=fields.integer("edge_id", low=1, high=EDGE_ID_HIGH),
            device_token=fields.text("device_token", most=1_000),
            agent=_login(fields.object("agent"), fields.object("agent")),
            instances=_login(fields.object("instances"), fields.object("instances")),
            registry=fields.tree("registry") if "registry" in fields else None,
            code_sha256=fields.text("code_sha256", most=64),
            data=fields.text("data", most=4_000, default=""),
            session=fields.text("session", most=64, pattern=r"[0-9a-f]*", default=""),
        )
        if not identity.session:
            identity = replace(identity, session=secrets.token_hex(16))
            identity.save(home)
        return identity

    @classmethod
    def from_answer(cls, value: Any, *, server: str, name: str, code: str, data: str) -> "Identity":
        """Make an identity from the platform's answer to `enrol`.

        Raises:
            Invalid: the answer is not as docs/protocol.md says.
        """
        fields = Fields(value, "the platform's answer")
        mqtt = fields.object("mqtt")
        return cls(
            server=server,
            name=name,
            edge_id=fields.integer("edge_id", low=1, high=EDGE_ID_HIGH),
            device_token=fields.text("device_token", most=1_000, pattern=r"[!-~]+"),
            agent=_login(mqtt, fields.object("agent_mqtt")),
            instances=_login(mqtt, fields.object("instance_mqtt")),
            registry=fields.tree("registry") if isinstance(value.get("registry"), dict) else None,
            code_sha256=code_digest(code),
            data=data,
            session=secrets.token_hex(16),
        )

    def rotated(self, value: Any) -> "Identity":
        """The identity with the new secrets of the platform's answer to `rotate`; raises `Invalid`."""
        renewed = Identity.from_answer(value, server=self.server, name=self.name, code="", data=self.data)
        if renewed.edge_id != self.edge_id:
            raise Invalid("the platform answered with the identity of another device")
        return replace(renewed, code_sha256=self.code_sha256, session=self.session)


def code_digest(code: str) -> str:
    """What is kept of a one-time code."""
    return hashlib.sha256(code.encode()).hexdigest()


def _login(mqtt: Fields, login: Fields) -> MqttLogin:
    return MqttLogin(
        host=mqtt.text("host", most=255, pattern=HOST_PATTERN),
        port=mqtt.integer("port", low=1, high=65_535),
        tls=mqtt.boolean("tls", default=False),
        username=login.text("username", most=200),
        password=login.text("password", most=1_000),
    )
