"""The process backend: folders, environments and publishing. pip is real; its index is a folder of the test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from configurations.models import Package, PackageKind
from configurations.services import package_path
from runs.models import Run
from runs.pipeline.backends.interface import StageCancelled, StageFailed, StageResult, StageTimedOut
from runs.pipeline.backends.process import ProcessBackend
from runs.pipeline.processes import process_identity, process_runs
from runs.pipeline.venvs import venv_digest
from runs.tests.flow import Flow, flow_make, package_real
from runs.tests.pip_index import index_mute, pip_of, wheel_write
from runs.tests.stage_context import TestContext

pytestmark = pytest.mark.django_db

SERVER = PackageKind.SERVER


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, settings: Settings) -> None:
    settings.RUNS_DIR = tmp_path / "runs"
    settings.VENVS_DIR = tmp_path / "venvs"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one package, ``roundtable-sample`` 1.0, which is all that pip finds."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel_write(folder, "roundtable-sample")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def run_of(requirements: str | None, flow: Flow | None = None) -> Run:
    """A run of real packages with these requirements."""
    owner = (flow or flow_make()).user
    packages = tuple(package_real(kind, owner, requirements=requirements) for kind in PackageKind)
    return flow_make(packages=(packages[0], packages[1])).run()


def build(run: Run, context: TestContext | None = None) -> StageResult:
    return ProcessBackend().build(context or TestContext(run), SERVER)


def test_a_package_without_requirements_is_unpacked_once(settings: Settings) -> None:
    run = run_of(None)
    first = build(run)
    folder = Path(first.data["package_dir"])
    assert folder == settings.RUNS_DIR / "packages" / run.server_package.sha256
    assert (folder / "conf" / "fedml.yaml").is_file()
    assert first.unchanged == ""
    again = build(run)
    assert again.data == first.data
    assert again.unchanged == "unchanged: this package was unpacked, and its requirements installed, before"


def test_requirements_become_an_environment_that_is_made_once(wheels: Path) -> None:
    run = run_of("roundtable-sample==1.0\n")
    context = TestContext(run)
    result = build(run, context)
    python = result.data["python"]
    output = subprocess.run([python, "-c", "import roundtable_sample; print(roundtable_sample.VALUE)"],
                            capture_output=True, text=True, check=True)  # fmt: skip
    assert output.stdout == "42\n"
    assert any("Successfully installed roundtable-sample-1.0" in line for line in context.lines)
    other = TestContext(run)
    again = ProcessBackend().build(other, PackageKind.CLIENT)  # other package, same requirements
    assert again.data["python"] == python
    assert not any("install" in line for line in other.lines)
    assert build(run).unchanged != ""


def test_a_requirement_that_does_not_resolve_is_named(wheels: Path, settings: Settings) -> None:
    run = run_of("roundtable-sample==9.9\n")
    context = TestContext(run)
    with pytest.raises(StageFailed) as error:
        build(run, context)
    assert str(error.value) == (
        "The requirement roundtable-sample==9.9 cannot be found. Correct requirements.txt of the server package and "
        "upload it again."
    )
    assert any("ERROR: No matching distribution found" in line for line in context.lines)
    assert [path.suffix for path in settings.VENVS_DIR.iterdir()] == [".lock"]


def test_requirements_that_contradict_each_other_are_named(wheels: Path) -> None:
    with pytest.raises(
        StageFailed, match=r"^The requirements? roundtable-sample.* (contradict each other|cannot be found)"
    ):
        build(run_of("roundtable-sample==1.0\nroundtable-sample==2.0\n"))


def test_a_line_that_is_no_requirement_is_named(wheels: Path) -> None:
    with pytest.raises(StageFailed, match="not!a!requirement"):
        build(run_of("not!a!requirement\n"))


def test_an_index_that_cannot_be_reached_is_not_blamed_on_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(StageFailed, match=r"^The package index cannot be reached"):
        build(run_of("roundtable-sample\n"))


@pytest.fixture
def mute_index(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with index_mute() as url:
        monkeypatch.setenv("PIP_INDEX_URL", url)
        yield


def wait_for_pip(settings: Settings) -> tuple[int, str]:
    """The pip that works on the one environment."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for folder in settings.VENVS_DIR.glob("*/"):
            if pip := pip_of(folder):
                return pip
        time.sleep(0.05)
    raise AssertionError("pip did not start")


def test_cancelling_ends_pip(mute_index: None, settings: Settings) -> None:
    run = run_of("roundtable-sample\n")
    context = TestContext(run)
    seen: list[tuple[int, str]] = []

    def cancel() -> None:
        seen.append(wait_for_pip(settings))
        context.unwanted = True

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(StageCancelled):
        build(run, context)
    thread.join()
    assert not process_runs(*seen[0])


def test_the_time_out_ends_pip(mute_index: None) -> None:
    run = run_of("roundtable-sample\n")
    with pytest.raises(StageTimedOut):
        build(run, TestContext(run, seconds=0.5))


def test_pip_is_not_given_the_platforms_secrets(
    wheels: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDTABLE_SECRET_KEY", "very secret")
    given: list[dict[str, str]] = []
    popen = subprocess.Popen

    class Recorded(popen):  # type: ignore[misc, valid-type]
        def __init__(self, *args: object, **options: object) -> None:
            given.append(options["env"])  # type: ignore[arg-type]
            super().__init__(*args, **options)

    monkeypatch.setattr("runs.pipeline.venvs.subprocess.Popen", Recorded)
    build(run_of("roundtable-sample==1.0\n"))
    assert len(given) == 2
    assert all("ROUNDTABLE_SECRET_KEY" not in environment for environment in given)
    assert all("PIP_FIND_LINKS" in environment for environment in given)


def test_what_a_killed_worker_left_is_ended_and_made_anew(wheels: Path, settings: Settings) -> None:
    run = run_of("roundtable-sample==1.0\n")
    target = settings.VENVS_DIR / venv_digest(b"roundtable-sample==1.0\n")
    target.mkdir(parents=True)
    (target / "half-written").touch()
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as orphan:
        left = {"pid": orphan.pid, "identity": process_identity(orphan.pid)}
        (target / "pip.json").write_text(json.dumps(left))
        result = build(run)
        assert orphan.wait(5) == -signal.SIGKILL
    assert result.unchanged == ""
    assert not (target / "half-written").exists()
    assert (target / "ready.json").exists()


@pytest.mark.django_db(transaction=True)
def test_two_workers_make_one_environment(wheels: Path, settings: Settings) -> None:
    run = run_of("roundtable-sample==1.0\n")
    contexts = [TestContext(run), TestContext(run)]
    threads = [threading.Thread(target=build, args=(run, context)) for context in contexts]
    _ = run.server_package  # read before the threads share it
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    installs = [line for context in contexts for line in context.lines if line.startswith("Successfully installed")]
    assert len(installs) == 1


def test_a_damaged_package_is_not_published() -> None:
    run = run_of(None)
    path = package_path(run.server_package)
    path.chmod(0o600)
    path.write_bytes(b"damaged")
    try:
        with pytest.raises(StageFailed, match=r"^The server package in the store is damaged"):
            ProcessBackend().push(TestContext(run), SERVER, {})
    finally:
        path.unlink()


def test_a_package_that_is_gone_is_not_published() -> None:
    run = run_of(None)
    Package.objects.filter(pk=run.server_package_id).update(storage_name="packages/gone.zip")
    run = Run.objects.get(pk=run.pk)
    with pytest.raises(StageFailed, match=r"is not in the store any more\. Upload it again\.$"):
        ProcessBackend().push(TestContext(run), SERVER, {})


def test_a_package_is_published_once() -> None:
    run = run_of(None)
    package = run.server_package
    result = ProcessBackend().push(TestContext(run), SERVER, {})
    assert result == StageResult(
        {"url": f"/api/edge/packages/{package.sha256}", "sha256": package.sha256, "size": package.size}
    )
    again = ProcessBackend().push(TestContext(run), SERVER, {})
    assert again.data == result.data
    assert again.unchanged == f"unchanged: package {package.sha256[:12]} was published before"
    os.utime(package_path(package), (1, 1))
    assert ProcessBackend().push(TestContext(run), SERVER, {}).unchanged == ""


def test_it_is_available_here() -> None:
    works, why = ProcessBackend().available()
    assert (works, why.startswith("Aggregators run as processes of Python ")) == (True, True)
