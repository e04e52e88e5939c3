"""The builder: what is packed, that the same input gives the same bytes, and what it refuses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import build

ROOT = Path(__file__).resolve().parents[1]
ENTRY = "fedml/fedml_experiments/distributed/fedavg_cross_silo/main_fedavg_cross_silo.py"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A user's own code."""
    folder = tmp_path / "my code"
    (folder / "lib").mkdir(parents=True)
    (folder / "train.py").write_text("print('hello')\n")
    (folder / "lib" / "net.py").write_text("layers = 3\n")
    return folder


def packed(folder: Path, kind: str = "server") -> dict[str, bytes]:
    with zipfile.ZipFile(folder / kind / "package.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def both_bytes(folder: Path) -> list[bytes]:
    return [(folder / kind / "package.zip").read_bytes() for kind in build.KINDS]


def test_the_script_packs_the_reference_library_with_a_bare_python(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(ROOT / "build.sh"), "--output", str(tmp_path)],
        env={"PATH": os.environ["PATH"], "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert re.fullmatch(r"server: .*package\.zip \(\d+ files, .* sha256 \w{64}\)", done.stdout.splitlines()[0])
    for kind in build.KINDS:
        files = packed(tmp_path, kind)
        expected = {"conf/fedml.yaml", "main.py", "roundtable.py", "requirements.txt", ENTRY, "fedml/server.py"}
        assert {f"package/{name}" for name in expected} <= files.keys()
        assert not [name for name in files if "__pycache__" in name or "tests" in name]
        config = yaml.safe_load(files["package/conf/fedml.yaml"])
        assert list(config) == list(build.SECTIONS)
        assert config["entry_config"] == {"entry_file": ENTRY}


def test_the_same_input_gives_the_same_bytes_whatever_the_times_and_the_umask(tmp_path: Path, source: Path) -> None:
    arguments = ["--source", str(source), "--entry", "train.py"]
    assert build.main([*arguments, "--output", str(tmp_path / "one")]) == 0
    other = tmp_path / "elsewhere"
    shutil.copytree(source, other)
    for path in other.rglob("*"):
        os.utime(path, (1, 1))
    (other / "train.py").chmod(0o600)
    (other / "__pycache__").mkdir()
    (other / "__pycache__" / "train.pyc").write_bytes(b"x")
    before = os.umask(0o077)
    try:
        assert build.main(["--source", str(other), "--entry", "train.py", "--output", str(tmp_path / "two")]) == 0
    finally:
        os.umask(before)
    assert both_bytes(tmp_path / "one") == both_bytes(tmp_path / "two")


def test_entries_are_sorted_and_plain(tmp_path: Path) -> None:
    assert build.main(["--output", str(tmp_path)]) == 0
    with zipfile.ZipFile(tmp_path / "client" / "package.zip") as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}


def test_own_code_is_packed_with_its_entry_and_the_sdk(tmp_path: Path, source: Path) -> None:
    (source / "requirements.txt").write_text("torch==2.0\npaho_mqtt==2.2.0\n")
    assert build.main(["--source", str(source), "--entry", "lib/net.py", "--output", str(tmp_path / "out")]) == 0
    files = packed(tmp_path / "out")
    assert sorted(files) == [
        "package/conf/fedml.yaml",
        "package/fedml/lib/net.py",
        "package/fedml/requirements.txt",
        "package/fedml/train.py",
        "package/main.py",
        "package/requirements.txt",
        "package/roundtable.py",
    ]
    assert files["package/requirements.txt"] == b"torch==2.0\npaho_mqtt==2.2.0\n"
    config = files["package/conf/fedml.yaml"].decode()
    assert yaml.safe_load(config)["entry_config"] == {"entry_file": "fedml/lib/net.py"}
    own = (ROOT / "mlops-core/fedml-server/package/conf/fedml.yaml").read_text()
    assert config == own.replace(ENTRY, "fedml/lib/net.py")


def test_own_code_without_requirements_gets_what_the_sdk_needs(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--source", str(source), "--entry", "train.py", "--output", str(tmp_path / "out")]
    assert build.main(arguments) == 0
    assert packed(tmp_path / "out")["package/requirements.txt"].startswith(b"paho-mqtt==2.2.0")
    assert capsys.readouterr().err == ""
    given = tmp_path / "needs.txt"
    given.write_text("numpy\n")
    assert build.main([*arguments, "--requirements", str(given)]) == 0
    assert packed(tmp_path / "out")["package/requirements.txt"] == b"numpy\n"
    assert "lacks paho-mqtt" in capsys.readouterr().err


def test_an_entry_may_be_named_from_here(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert build.main(["--source", "my code", "--entry", "my code/train.py", "--output", "out"]) == 0
    assert yaml.safe_load(packed(tmp_path / "out")["package/conf/fedml.yaml"])["entry_config"] == {
        "entry_file": "fedml/train.py"
    }


def test_what_does_not_belong_is_left_out(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (".git/HEAD", "__pycache__/a.pyc", "lib/b.pyc", ".venv/bin/python"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("x")
    (tmp_path / "secret").write_text("x")
    (source / "outside").symlink_to(tmp_path / "secret")
    (source / "up").symlink_to("..")
    (source / "loop").symlink_to(".")
    (source / "broken").symlink_to("nothing")
    (source / "inside.py").symlink_to("train.py")
    (source / "inside").symlink_to("lib")
    os.mkfifo(source / "pipe")
    output = source / "dist"
    for _ in range(2):  # the second time the output of the first lies in the source
        assert build.main(["--source", str(source), "--entry", "train.py", "--output", str(output)]) == 0
        assert [name for name in packed(output) if name.startswith("package/fedml/")] == [
            "package/fedml/inside.py",
            "package/fedml/inside/net.py",
            "package/fedml/lib/net.py",
            "package/fedml/train.py",
        ]
    notes = capsys.readouterr().err
    for name in ("outside", "up", "loop", "broken", "pipe"):
        assert f"note: left out {name}: " in notes


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--source", "{tmp}/nowhere", "--entry", "train.py"],
            "the source {tmp}/nowhere does not exist or is no folder",
        ),
        (["--source", "{source}", "--entry", "run.py"], "the source {source} has no entry file run.py"),
        (
            ["--source", "{source}", "--entry", "../secret.py"],
            "the entry file ../secret.py lies outside the source {source}: only the source is packed",
        ),
        (["--source", "{source}", "--entry", "lib"], "the source {source} has no entry file lib"),
        (["--config", "{tmp}/nowhere.yaml"], "{tmp}/nowhere.yaml cannot be read: No such file or directory"),
        (["--config", "{tmp}/tab.yaml"], "{tmp}/tab.yaml, line 2, column 1: found character '\\t'"),
        (["--config", "{tmp}/binary.yaml"], "{tmp}/binary.yaml is not UTF-8 text"),
        (["--config", "{tmp}/list.yaml"], "{tmp}/list.yaml must hold the sections model_config, "),
        (["--config", "{tmp}/half.yaml"], "{tmp}/half.yaml: the section hyperparameters_config is missing"),
        (["--config", "{tmp}/entry.yaml"], "{tmp}/entry.yaml, line 5: the package has no entry file fedml/gone.py"),
        (
            ["--config", "{tmp}/unknown.yaml"],
            "{tmp}/unknown.yaml, line 7: lr refers to ${{hyperparameters_config.lr}}, which is not a key of ",
        ),
        (
            ["--config", "{tmp}/internal.yaml"],
            "{tmp}/internal.yaml, line 7: n refers to ${{FEDSYS.CLIENTS}}, which is not one of RUN_ID, CLIENT_NUM",
        ),
        (["--requirements", "{tmp}/nowhere.txt"], "{tmp}/nowhere.txt cannot be read"),
    ],
)
def test_bad_input_is_refused_with_a_sentence_and_leaves_nothing(
    tmp_path: Path, source: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = "model_config: {m: lr}\nhyperparameters_config: {e: 1}\n\n"
    sections += "entry_config:\n  entry_file: ENTRY\nentry_arguments:\n"
    whole = sections.replace("ENTRY", ENTRY)
    for name, text in {
        "tab.yaml": "model_config:\n\tmodelName: lr\n",
        "list.yaml": "- 1\n",
        "half.yaml": "model_config: {m: lr}\n",
        "entry.yaml": sections.replace("ENTRY", "fedml/gone.py") + "  m: ${model_config.m}\n",
        "unknown.yaml": whole + "  lr: ${hyperparameters_config.lr}\n",
        "internal.yaml": whole + "  n: ${FEDSYS.CLIENTS}\n",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "secret.py").write_text("")

    def fill(text: str) -> str:
        return text.format(tmp=tmp_path, source=source)

    assert build.main([*map(fill, arguments), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"build.sh: {fill(sentence)}")
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_source_and_entry_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build.main(["--source", "."])
    assert caught.value.code == 2
    assert "--source and --entry go together" in capsys.readouterr().err


def test_without_pyyaml_the_entry_file_is_still_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert build.main(["--output", str(tmp_path / "out")]) == 0
    assert (
        capsys.readouterr().err
        == "build.sh: note: PyYAML is not installed: of fedml.yaml only the entry file is checked\n"
    )
    bad = tmp_path / "bad.yaml"
    for text, sentence in (
        ("entry_config:\n  entry_file: fedml/gone.py\n", "line 2: the package has no entry file fedml/gone.py"),
        ("entry_config:\n  - entry_file\n", "line 2: install PyYAML to read this"),
    ):
        bad.write_text(text)
        assert build.main(["--config", str(bad), "--output", str(tmp_path / "none")]) == 2
        assert sentence in capsys.readouterr().err


def test_the_two_packages_share_their_bootstrap() -> None:
    for name in ("main.py", "requirements.txt", "conf/fedml.yaml"):
        server, client = (ROOT / "mlops-core" / f"fedml-{kind}" / "package" / name for kind in build.KINDS)
        assert server.read_bytes() == client.read_bytes()
