"""The folders, files, command and environment that every instance finds (docs/protocol.md, section 4)."""

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml

from .durable import write_text
from .fields import Invalid
from .plan import InstancePlan


@dataclass(frozen=True)
class InstanceFolder:
    """The paths in an instance's folder.

    What the instance itself sees are `conf`, `package` and `data`; the files beside them belong to its keeper, so that
    a container which mounts the three alone can neither read nor forge them.
    """

    root: Path

    @property
    def conf(self) -> Path:
        """The rendered configuration and logins."""
        return self.root / "conf"

    @property
    def package(self) -> Path:
        """The unpacked package."""
        return self.root / "fedml-package"

    @property
    def data(self) -> Path:
        """Logs and downloads; also the instance's HOME."""
        return self.root / "data"

    @property
    def stdout(self) -> Path:
        """What the instance printed."""
        return self.data / "stdout.log"

    @property
    def stderr(self) -> Path:
        """What the instance printed to its error stream."""
        return self.data / "stderr.log"

    @property
    def keeper_log(self) -> Path:
        """Lines of the agent about this instance, pip's among them."""
        return self.root / "keeper.log"

    @property
    def log_cursor(self) -> Path:
        """How far the three logs above were delivered."""
        return self.root / "log.json"

    @property
    def launch(self) -> Path:
        """Which processes were started for it."""
        return self.root / "launch.json"

    @property
    def launch_lock(self) -> Path:
        """Held by the launcher as long as it lives."""
        return self.root / "launch.lock"

    @property
    def container(self) -> Path:
        """Which container was made for it."""
        return self.root / "container.json"

    @property
    def exit(self) -> Path:
        """How it ended."""
        return self.root / "exit.json"

    def make(self) -> None:
        """Make the folders; `conf` and `data` are for the owner alone."""
        for folder in (self.root, self.conf, self.data, self.data / "tmp"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def empty(self) -> None:
        """Remove what an earlier, unfinished preparation left."""
        for folder in (self.conf, self.package, self.data):
            shutil.rmtree(folder, ignore_errors=True)


def write_conf(plan: InstancePlan, folder: InstanceFolder) -> None:
    """Write `fedml.yaml`, `mqtt_config.yaml` and, where there is a store, `s3_config.yaml`."""
    text = yaml.safe_dump(plan.config, sort_keys=False, allow_unicode=True, default_flow_style=False)
    write_text(folder.conf / "fedml.yaml", text)
    _write_flat(
        folder.conf / "mqtt_config.yaml",
        {
            "BROKER_HOST": plan.mqtt.host,
            "BROKER_PORT": plan.mqtt.port,
            "MQTT_USER": plan.mqtt.username,
            "MQTT_PWD": plan.mqtt.password,
            "MQTT_TLS": plan.mqtt.tls,
        },
    )
    if plan.s3 is not None:
        _write_flat(
            folder.conf / "s3_config.yaml",
            {
                "BUCKET_NAME": plan.s3.bucket,
                "CN_S3_AKI": plan.s3.access_key,
                "CN_S3_SAK": plan.s3.secret_key,
                "CN_REGION_NAME": plan.s3.region,
                "ENDPOINT_URL": plan.s3.endpoint_url,
            },
        )


def has_main(plan: InstancePlan, package: Path) -> bool:
    """Whether a package on this machine has a `main.py` that starts its entry file.

    Raises:
        Invalid: it lacks its entry file.
    """
    entry = package / plan.entry.file
    if not entry.is_file() or entry.is_symlink():
        raise Invalid(f"the package has no entry file {plan.entry.file}")
    return (package / "main.py").is_file()


def command(plan: InstancePlan, python: str, root: PurePath, *, main: bool) -> tuple[list[str], PurePath]:
    """The instance's command and working folder.

    Parameters:
        python: the interpreter, as the instance sees it.
        root: the instance's folder, as the instance sees it.
        main: the package has a `main.py`.
    """
    inside = root / "fedml-package"
    if main and plan.entry.file != "main.py":
        arguments = ["--package_name", plan.package_name, "--package_url", plan.package_url]
        arguments += ["--config", str(root / "conf" / "fedml.yaml"), "--", *plan.entry.arguments]
        return [python, "main.py", *arguments], inside
    path = PurePath(plan.entry.file)
    return [python, path.name, *plan.entry.arguments], inside / path.parent


def environment(plan: InstancePlan, root: PurePath) -> dict[str, str]:
    """The variables that every instance is given, whatever its runtime."""
    threads = str(max(1, math.ceil(plan.limits.cpus)))
    variables = {
        "ROUNDTABLE_URL": plan.url,
        "ROUNDTABLE_RUN_ID": str(plan.run_id),
        "ROUNDTABLE_EDGE_ID": str(plan.edge_id),
        "ROUNDTABLE_TOKEN": plan.token,
        "ROUNDTABLE_HOME": str(root),
        "ROUNDTABLE_LOG_LEVEL": plan.log_level,
        "HOME": str(root / "data"),
        "TMPDIR": str(root / "data" / "tmp"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
    }
    if plan.s3 is not None:
        variables |= {
            "AWS_ACCESS_KEY_ID": plan.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": plan.s3.secret_key,
        }
        if plan.s3.region:
            variables["AWS_DEFAULT_REGION"] = plan.s3.region
        if plan.s3.endpoint_url:
            variables["AWS_ENDPOINT_URL"] = plan.s3.endpoint_url
    return variables


def _write_flat(path: Path, values: Mapping[str, Any]) -> None:
    """One `KEY: value` a line, values as JSON: valid YAML that is read without a YAML library."""
    write_text(path, "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()))
