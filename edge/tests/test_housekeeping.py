"""Environments, caches, figures and files of a device."""

import fcntl
import json
import os
import threading
import time
from pathlib import Path

import pytest
import yaml
from roundtable_agent.cleaning import clean_runs, trim_cache
from roundtable_agent.durable import write_json
from roundtable_agent.environments import MARKER, EnvironmentCache
from roundtable_agent.figures import FigureSampler
from roundtable_agent.gpu import GpuReader
from roundtable_agent.home import Home
from roundtable_agent.layout import InstanceFolder, environment, write_conf
from roundtable_agent.locks import try_lock, unlock
from roundtable_agent.plan import Entry, InstancePlan, Limits, MqttLogin, S3Store
from roundtable_agent.record import RunRecord, State
from roundtable_agent.runtime import Failed, Steps, Stopped, Usage
from roundtable_agent.runtime_process import ProcessRuntime
from roundtable_agent.unpacking import unpack


def steps(said: list[str]) -> Steps:
    return Steps(lambda *_: None, lambda: None, said.append)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home", tmp_path / "cache")
    home.make()
    return home


def test_an_environment_wanted_twice_at_once_is_built_once(tmp_path: Path) -> None:
    cache = EnvironmentCache(tmp_path / "environments")
    said: list[str] = []
    found: list[tuple[Path, int, Path]] = []

    def want() -> None:
        found.append(cache.provide(None, tmp_path / "transcript", steps(said)))

    threads = [threading.Thread(target=want) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({python for python, _, _ in found}) == 1
    assert found[0][0].exists()
    assert [line for line in said if line.startswith("making")] == ["making a virtual environment"]
    assert try_lock(found[0][2]) is None
    for _, descriptor, _ in found:
        unlock(descriptor)


def test_who_waits_to_build_takes_what_another_has_built_and_uses(tmp_path: Path) -> None:
    cache = EnvironmentCache(tmp_path / "environments")
    python, descriptor, lock_file = cache.provide(None, tmp_path / "transcript", steps([]))
    unlock(descriptor)
    marker = python.parents[2] / MARKER
    hidden = marker.rename(marker.with_name("hidden"))
    builder = try_lock(lock_file)
    assert builder is not None
    found: list[tuple[Path, int, Path]] = []
    waiter = threading.Thread(target=lambda: found.append(cache.provide(None, tmp_path / "transcript", steps([]))))
    waiter.start()
    time.sleep(0.3)
    hidden.rename(marker)
    fcntl.flock(builder, fcntl.LOCK_SH)
    waiter.join(10)
    unlock(builder)
    assert [path for path, _, _ in found] == [python]
    unlock(found[0][1])


def test_a_half_made_environment_is_never_used(tmp_path: Path) -> None:
    cache = EnvironmentCache(tmp_path / "environments")
    python, descriptor, _ = cache.provide(None, tmp_path / "transcript", steps([]))
    unlock(descriptor)
    (python.parents[2] / MARKER).unlink()
    said: list[str] = []
    again, descriptor, _ = cache.provide(None, tmp_path / "transcript", steps(said))
    unlock(descriptor)
    assert again.exists()
    assert again != python
    assert said[0] == "making a virtual environment"


@pytest.mark.parametrize("line", ["-r other.txt", "--constraint c.txt", "./wheels/x.whl", "x @ file:///x.whl", "-e ."])
def test_requirements_that_lean_on_other_files_are_refused(line: str, tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"numpy==1.0\n{line}\n")
    with pytest.raises(Failed, match="refers to another file"):
        EnvironmentCache(tmp_path / "environments").provide(requirements, tmp_path / "transcript", steps([]))


def test_a_stop_ends_an_installation_at_once(tmp_path: Path) -> None:
    started = time.monotonic()

    def checkpoint() -> None:
        if time.monotonic() > started + 0.2:
            raise Stopped

    requirements = tmp_path / "requirements.txt"
    requirements.write_text("--index-url http://192.0.2.1/simple\nnothing==1\n")
    waiting = Steps(lambda *_: None, checkpoint, lambda _: None)
    with pytest.raises(Stopped):
        EnvironmentCache(tmp_path / "environments").provide(requirements, tmp_path / "transcript", waiting)
    assert time.monotonic() - started < 10
    assert [path for path in (tmp_path / "environments").iterdir() if path.is_dir()] == []


def test_the_cache_keeps_what_was_used_last_and_what_is_in_use(home: Home) -> None:
    packages = home.cache / "packages"
    environments = home.cache / "environments"
    packages.mkdir()
    for age, name in enumerate(["a", "b", "c", "d"], start=2):
        (packages / f"{name}.zip").write_bytes(bytes(1000))
        os.utime(packages / f"{name}.zip", (time.time() - 3600 * age,) * 2)
    (environments / "e").mkdir(parents=True)
    write_json(environments / "e" / MARKER, {"bytes": 5000})
    os.utime(environments / "e" / MARKER, (time.time() - 3600 * 9,) * 2)
    held = try_lock(environments / "e.lock", shared=True)
    assert held is not None
    trim_cache(home.cache, 7500)
    assert sorted(path.name for path in packages.glob("*.zip")) == ["a.zip", "b.zip"]
    assert (environments / "e").exists()
    unlock(held)
    trim_cache(home.cache, 2500)
    assert not (environments / "e").exists()
    assert sorted(path.name for path in packages.glob("*.zip")) == ["a.zip", "b.zip"]


def test_the_instances_of_old_runs_are_removed_and_their_records_kept(home: Home) -> None:
    for run_id in range(1, 9):
        home.instance(run_id).mkdir(parents=True)
        record = RunRecord(home.record(run_id), run_id, 3, Limits())
        record.change(state=State.FINISHED, ended=float(run_id), acknowledged=True, drained=run_id != 1)
    (home.instance(2) / "data").mkdir()
    (home.instance(2) / "data" / "f").touch()
    (home.instance(2) / "data").chmod(0o500)
    clean_runs(home, ProcessRuntime(fetch=None, environment=None, unpack=unpack), {3})
    assert sorted(int(path.parent.name) for path in home.runs.glob("*/instance")) == [1, 3, 4, 5, 6, 7, 8]
    assert len(list(home.runs.glob("*/run.json"))) == 8


def test_what_is_damaged_on_disk_is_told_from_what_is_there(home: Home) -> None:
    record = RunRecord(home.root / "run.json", 7, 3, Limits(memory_mb=99))
    record.change(state=State.STOPPING, stop={"reason": "by ada", "state": "KILLED"})
    loaded = RunRecord.load(record.path)
    assert loaded is not None
    assert (loaded.as_json()["limits"]["memory_mb"], loaded.state) == (99, State.STOPPING)
    for damaged in ("", "{", "[]", '{"run_id": 7}', '{"run_id": 7, "edge_id": 3, "limits": {}, "state": "X"}'):
        record.path.write_text(damaged)
        assert RunRecord.load(record.path) is None


def test_the_instances_files_hold_what_the_protocol_says(tmp_path: Path) -> None:
    plan = InstancePlan(
        run_id=7,
        edge_id=3,
        root=tmp_path,
        url="http://x",
        token="token-secret",
        mqtt=MqttLogin("broker", 1883, True, "instances-3", 'pass"word: #1'),
        entry=Entry("main.py", ()),
        config={"hyperparameters_config": {"lr": 1e-3, "name": "no", "epochs": 8}},
        limits=Limits(cpus=1.5),
        package=None,
        package_name="",
        package_url="",
        s3=S3Store("http://s3", "models", "eu", "key-id", "key-secret"),
    )
    folder = InstanceFolder(tmp_path)
    folder.make()
    write_conf(plan, folder)
    read = {name: yaml.safe_load((folder.conf / name).read_text()) for name in ("fedml.yaml", "mqtt_config.yaml")}
    assert read["fedml.yaml"] == plan.config
    expected = {"BROKER_HOST": "broker", "BROKER_PORT": 1883, "MQTT_USER": "instances-3", "MQTT_TLS": True}
    assert read["mqtt_config.yaml"] == {**expected, "MQTT_PWD": 'pass"word: #1'}
    store = yaml.safe_load((folder.conf / "s3_config.yaml").read_text())
    assert store["BUCKET_NAME"] == "models"
    assert (store["CN_S3_AKI"], store["CN_S3_SAK"], store["CN_REGION_NAME"]) == ("key-id", "key-secret", "eu")
    variables = environment(plan, tmp_path)
    assert variables["AWS_ENDPOINT_URL"] == "http://s3"
    assert variables["OMP_NUM_THREADS"] == "2"
    assert all(secret not in repr(plan) for secret in ("token-secret", "pass", "key-secret", "key-id"))


def test_figures_count_what_the_instance_used_since_the_last_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho '0, Tesla, 16000, 4000, 35, 61, [N/A]'\n")
    smi.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda _: str(smi))
    reader = GpuReader()
    assert reader.devices() == [{"name": "Tesla", "memory_bytes": 16000 * 2**20}]
    reader.figures()
    sampler = FigureSampler(tmp_path, Limits(memory_mb=100), reader)
    sampler.sample(Usage(50 * 2**20, 1, 4, {10: 5.0}))
    time.sleep(0.5)
    figures = sampler.sample(Usage(50 * 2**20, 2, 4, {10: 5.25, 11: 0.25}))
    assert 60 < figures["process_cpu_utilization"] <= 100
    assert figures["process_memory_in_use"] == 52.429
    assert figures["process_memory_available"] == 52.429
    assert figures["process_cpu_threads_in_use"] == 4
    assert 0 <= figures["cpu_utilization"] <= 100
    assert figures["gpu.0.memory_allocated"] == 25.0
    assert "gpu.0.power_usage" not in figures
    json.dumps(figures, allow_nan=False)
    assert "process_memory_in_use" not in sampler.sample(None)
