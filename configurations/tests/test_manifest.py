"""What is read from a whole package."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from django.conf import settings

from configurations.archive import unpack
from configurations.expressions import render_entry
from configurations.manifest import example_variables, manifest_read
from configurations.problems import Refused
from configurations.tests.packages import FEDML_YAML, package_bytes, package_files, zip_of


def _package(folder: Path, content: bytes) -> Path:
    path = folder / "package.zip"
    path.write_bytes(content)
    return path


def test_it_reads_rows_entry_and_sizes(tmp_path: Path) -> None:
    manifest = manifest_read(_package(tmp_path, package_bytes()), "client")
    assert manifest == {
        "kind": "client",
        "root": "package",
        "entry_file": "fedml/main.py",
        "model_config": [{"name": "modelName", "type": "string", "value": "lr", "line": 2}],
        "hyperparameters_config": [
            {"name": "lr", "type": "float", "value": 0.03, "line": 4},
            {"name": "comm_round", "type": "integer", "value": 10, "line": 5},
            {"name": "client_num_per_round", "type": "string", "value": "${FEDSYS.CLIENT_NUM}", "line": 6},
        ],
        "entry_arguments": [
            {"name": "model", "value": "${model_config.modelName}", "line": 10},
            {"name": "lr", "value": "${hyperparameters_config.lr}", "line": 11},
            {"name": "rounds", "value": "${hyperparameters_config.comm_round}", "line": 12},
            {"name": "clients", "value": "${FEDSYS_CLIENT_ID_LIST}", "line": 13},
            {"name": "per_round", "value": "${hyperparameters_config.client_num_per_round}", "line": 14},
        ],
        "has_main": True,
        "requirements": [],
        "requirements_sha256": "",
        "files": 3,
        "unpacked_bytes": sum(len(str(content)) for content in package_files().values()),
        "warnings": [],
    }


def test_requirements_are_read_without_comments(tmp_path: Path) -> None:
    text = "# what it needs\nnumpy==2.4.6   # arrays\n\n  PyYAML\npkg @ https://host/pkg.zip#sha256=ab\n"
    manifest = manifest_read(
        _package(tmp_path, zip_of({**package_files(), "package/requirements.txt": text})), "server"
    )
    assert manifest["requirements"] == ["numpy==2.4.6", "PyYAML", "pkg @ https://host/pkg.zip#sha256=ab"]
    assert manifest["requirements_sha256"] == hashlib.sha256(text.encode()).hexdigest()


def test_a_package_without_main_is_one_too(tmp_path: Path) -> None:
    files = {name: content for name, content in package_files().items() if name != "package/main.py"}
    assert manifest_read(_package(tmp_path, zip_of(files)), "server")["has_main"] is False


def test_warnings_do_not_refuse_the_package(tmp_path: Path) -> None:
    manifest = manifest_read(_package(tmp_path, package_bytes(FEDML_YAML + "extra: {a: 1}\n")), "server")
    assert manifest["warnings"] == [
        {
            "file": "package/conf/fedml.yaml",
            "line": 15,
            "message": "The section extra is not known and is ignored.",
            "fix": "The sections are model_config, hyperparameters_config, entry_config, entry_arguments.",
        }
    ]


def test_every_problem_is_reported_in_the_order_of_the_file(tmp_path: Path) -> None:
    yaml = FEDML_YAML.replace("lr: 0.03", "lr: 3e-2").replace("main.py", "mian.py").replace("comm_round}", "rounds}")
    with pytest.raises(Refused) as refusal:
        manifest_read(_package(tmp_path, package_bytes(yaml)), "server")
    assert [problem.line for problem in refusal.value.problems] == [4, 8, 12]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of the repository's own builder."""
    output = tmp_path_factory.mktemp("dist-package")
    script = Path(settings.BASE_DIR) / "build-mlops-package" / "build.sh"
    subprocess.run([script, "--output", output], check=True, capture_output=True, timeout=60)
    return output


@pytest.mark.parametrize("kind", ["server", "client"])
def test_what_the_builder_writes_is_accepted_and_renders(built: Path, kind: str, tmp_path: Path) -> None:
    path = built / kind / "package.zip"
    manifest = manifest_read(path, kind)
    assert (manifest["root"], manifest["has_main"], manifest["warnings"]) == ("package", True, [])
    rendered = render_entry(
        manifest, manifest["model_config"], manifest["hyperparameters_config"], example_variables(kind)
    )
    unpack(path, tmp_path / "package")
    assert (tmp_path / "package" / rendered.file).is_file()
    assert "${" not in " ".join(rendered.arguments)
    index = rendered.arguments.index("--client_index")
    assert rendered.arguments[index + 1] == ("0" if kind == "server" else "1")
