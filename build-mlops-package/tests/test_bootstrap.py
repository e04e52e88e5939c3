"""main.py of a package: what it runs, where, with which arguments, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import build

CORE = Path(__file__).resolve().parents[1] / "mlops-core" / "fedml-client" / "package"
bootstrap: Any = build.load_module(CORE / "main.py")
SHOW = """
import json, os, sys, roundtable
print(json.dumps([sys.argv[1:], os.getcwd(), roundtable.__file__]), flush=True)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package whose entry file shows how it was run."""
    folder = tmp_path / "package"
    (folder / "fedml" / "deep").mkdir(parents=True)
    (folder / "conf").mkdir()
    (folder / "main.py").write_bytes((CORE / "main.py").read_bytes())
    (folder / "roundtable.py").write_bytes(build.SDK.read_bytes())
    (folder / "fedml" / "deep" / "entry.py").write_text(SHOW)
    config = {"entry_config": {"entry_file": "fedml/deep/entry.py"}}
    arguments = {"model": "lr", "rate": 0.1, "rounds": 8, "flag": True, "url": "", "none": None, "ids": "[3, 4]"}
    (folder / "conf" / "fedml.yaml").write_text(yaml.safe_dump({**config, "entry_arguments": arguments}))
    return folder


def run(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "main.py", *arguments], cwd=package, capture_output=True, text=True)


def test_it_runs_the_entry_file_in_its_folder_with_the_arguments_as_they_are(package: Path) -> None:
    given = ["--model", "a b; $(rm -rf /)", "--empty", "", "--", "-x"]
    options = ["--package_name", "p", "--package_url", "/u", "--config", str(package / "conf" / "fedml.yaml")]
    done = run(package, *options, "--", *given)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout.splitlines()[-1])
    assert shown == [given, str(package / "fedml" / "deep"), str(package / "roundtable.py")]
    assert done.stdout.splitlines()[0] == "main.py: p runs fedml/deep/entry.py"


def test_without_arguments_it_takes_those_of_the_configuration(package: Path) -> None:
    shown = json.loads(run(package).stdout.splitlines()[-1])
    assert dict(zip(shown[0][::2], shown[0][1::2], strict=True)) == {
        "--model": "lr", "--rate": "0.1", "--rounds": "8", "--flag": "true", "--ids": "[3, 4]",
        "--url": "", "--none": "",
    }  # fmt: skip
    assert json.loads(run(package, "--").stdout.splitlines()[-1])[0] == []
    assert bootstrap.render_arguments({"entry_arguments": {"low": -1, "dash": "-x"}}) == ["--low=-1", "--dash=-x"]


def test_the_exit_code_is_passed_on(package: Path) -> None:
    (package / "fedml" / "deep" / "entry.py").write_text("raise SystemExit(37)")
    assert run(package).returncode == 37
    (package / "fedml" / "deep" / "entry.py").write_text("import os\nos.kill(os.getpid(), 9)")
    assert run(package).returncode == 128 + 9


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ("import time\nprint('up', flush=True)\ntime.sleep(60)", 128 + signal.SIGTERM),
        (
            "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *a: sys.exit(5))\n"
            "print('up', flush=True)\ntime.sleep(60)",
            5,
        ),
    ],
)
def test_sigterm_reaches_the_entry_file(package: Path, entry: str, code: int) -> None:
    (package / "fedml" / "deep" / "entry.py").write_text(entry)
    with subprocess.Popen([sys.executable, "main.py"], cwd=package, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.stdout.readline() == b"up\n"
        process.terminate()
        start = time.monotonic()
        assert process.wait(10) == code
        assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("entry_config: {entry_file: fedml/gone.py}", "the package has no entry file fedml/gone.py"),
        ("entry_config: {entry_file: ../../etc/passwd}", "lies outside the package"),
        ("entry_config: {entry_file: 3}", "entry_config.entry_file is missing"),
        ("entry_config: []", "entry_config.entry_file is missing"),
        ("- 1", "must be a mapping"),
        ("a: [", "is not YAML"),
        (
            "{entry_config: {entry_file: fedml/deep/entry.py}, entry_arguments: {m: '${model_config.m}'}}",
            "entry_arguments.m is not rendered: ${model_config.m}",
        ),
    ],
)
def test_a_bad_configuration_is_refused_with_a_sentence(package: Path, config: str, sentence: str) -> None:
    (package / "conf" / "fedml.yaml").write_text(config)
    done = run(package)
    assert done.returncode == 2
    assert done.stderr.startswith("main.py: ")
    assert sentence in done.stderr
    (package / "conf" / "fedml.yaml").unlink()
    assert "cannot be read" in run(package).stderr


def test_the_plain_reader_agrees_with_yaml_on_what_it_reads() -> None:
    text = (CORE / "conf" / "fedml.yaml").read_text()
    full = yaml.safe_load(text)
    plain = bootstrap.read_plain_yaml(text, "fedml.yaml", list(full))
    assert {section: {key: str(value) for key, value in full[section].items()} for section in full} == plain
    dumped = {"entry_config": {"entry_file": "a b.py"}, "entry_arguments": {"x": "it's: #1", "y": '"q"', "z": ""}}
    assert bootstrap.read_plain_yaml(yaml.safe_dump(dumped), "dump", list(dumped)) == dumped
    assert bootstrap.read_plain_yaml(json.dumps(dumped, indent=1), "json", list(dumped)) == dumped


def test_the_plain_reader_skips_what_is_not_asked_for() -> None:
    config = {"a": {"list": [1, 2], "long": "word " * 50}, "entry_config": {"entry_file": "x.py"}, "z": [1]}
    text = yaml.safe_dump({**config, "z": {"deep": {"er": [1]}}})
    assert bootstrap.read_plain_yaml(text, "file", ["entry_config"])["entry_config"] == {"entry_file": "x.py"}


@pytest.mark.parametrize("line", ["  - 1", "a", "  b: 'c", "  b: |", "  b: {c: d}", "  b: &x 1", "entry_config: 3"])
def test_the_plain_reader_refuses_what_it_would_misread(line: str) -> None:
    with pytest.raises(bootstrap.BootstrapError, match="file, line 2: "):
        bootstrap.read_plain_yaml(f"entry_config:\n{line}\n", "file", ["entry_config"])


def test_it_runs_without_pyyaml(package: Path) -> None:
    (package / "yaml.py").write_text("raise ImportError\n")
    assert json.loads(run(package, "--", "x").stdout.splitlines()[-1])[0] == ["x"]
    (package / "conf" / "fedml.yaml").write_text("entry_config:\n  entry_file: fedml/deep/entry.py\n")
    assert json.loads(run(package).stdout.splitlines()[-1])[0] == []
