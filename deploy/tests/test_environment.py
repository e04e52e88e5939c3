"""``deploy/environment.py``: the file from which ``compose.yaml`` takes what is of one installation."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from deploy.environment import PASSWORDS, environment_read, environment_write


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    files = (tmp_path / "chain.pem", tmp_path / "key.pem")
    for file in files:
        file.touch()
    return files


def test_it_writes_what_compose_needs_for_its_owner_alone(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    file = tmp_path / ".env"
    environment_write(file, "platform.example.org", *certificate)
    values = environment_read(file)
    assert values["DOMAIN"] == "platform.example.org"
    assert values["CERTIFICATE"] == str(certificate[0])
    assert values["CERTIFICATE_KEY"] == str(certificate[1])
    assert len({values[name] for name in PASSWORDS}) == len(PASSWORDS)
    assert all(len(values[name]) == 32 for name in PASSWORDS)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", "chain.pem", "key.pem"]


def test_passwords_and_lines_of_ones_own_stay(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    file = tmp_path / ".env"
    environment_write(file, "old.example.org", *certificate)
    before = environment_read(file)
    file.write_text(file.read_text() + "BACKEND=process\n")
    environment_write(file, "new.example.org", *certificate)
    after = environment_read(file)
    assert after["DOMAIN"] == "new.example.org"
    assert after["BACKEND"] == "process"
    assert {name: after[name] for name in PASSWORDS} == {name: before[name] for name in PASSWORDS}


@pytest.mark.parametrize(
    "domain",
    ["", "localhost", "https://a.example", "a.example:443", "A.example", "a b.example", "-a.example", "$X.example"],
)
def test_what_is_no_domain_is_refused(tmp_path: Path, certificate: tuple[Path, Path], domain: str) -> None:
    with pytest.raises(ValueError, match="is no domain name"):
        environment_write(tmp_path / ".env", domain, *certificate)
    assert not (tmp_path / ".env").exists()


def test_a_certificate_has_to_be_there(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="is not there"):
        environment_write(tmp_path / ".env", "a.example", certificate[0], tmp_path / "missing.pem")
    odd = tmp_path / "a $HOME.pem"
    odd.touch()
    with pytest.raises(ValueError, match="has characters that compose would read"):
        environment_write(tmp_path / ".env", "a.example", odd, certificate[1])
