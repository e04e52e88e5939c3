"""Packages that an agent must not unpack, and the one that it must."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_harness import make_zip, package_files
from roundtable_agent import unpacking
from roundtable_agent.runtime import Failed, Steps

NO_STEPS = Steps(lambda *_: None, lambda: None, lambda _: None)
Build = Callable[[], bytes]


def written(*members: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members:
            archive.writestr(member, content)
    return buffer.getvalue()


def special(name: str, mode: int, content: bytes = b"/etc/passwd") -> bytes:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return written((info, content))


def renamed(old: bytes, new: bytes) -> bytes:
    return written((old.decode(), b"x")).replace(old, new)


def bomb() -> bytes:
    return written(("package/zeros", bytes(64 * 2**20)))


def lying() -> bytes:
    """A member whose header says that it is smaller than it is."""
    raw = bytearray(written(("package/zeros", bytes(100_000))))
    at = raw.rindex(b"PK\x01\x02")
    raw[at + 24 : at + 28] = struct.pack("<I", 10)
    return bytes(raw)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: renamed(b"aa/bb", b"../bb"), "would leave the package's folder"),
        (lambda: renamed(b"aa/bb", b"/a/bb"), "has an absolute or a foreign path"),
        (lambda: renamed(b"aa/bb", b"a\\..b"), "has an absolute or a foreign path"),
        (lambda: renamed(b"aa/bb", b"C:/bb"), "has an absolute or a foreign path"),
        (lambda: renamed(b"aa/bb", b"aa\x00bb"), "has an absolute or a foreign path"),
        (lambda: special("package/link", stat.S_IFLNK | 0o777), "is a link or a device, not a file"),
        (lambda: special("package/fifo", stat.S_IFIFO | 0o644, b""), "is a link or a device, not a file"),
        (lambda: special("package/disk", stat.S_IFBLK | 0o644, b""), "is a link or a device, not a file"),
        (lambda: written(("package/Main.py", b""), ("package/main.py", b"")), "holds 'package/main.py' twice"),
        (lambda: written(("a/" * 60 + "b", b"")), "lies too deep or has too long a name"),
        (lambda: written(("x" * 300, b"")), "lies too deep or has too long a name"),
        (bomb, "unpacks to more bytes than a package of its size may"),
        (lying, "is not a sound zip archive"),
        (lambda: make_zip({"main.py": "x = 1\n" * 500})[:-40], "is not a sound zip archive"),
        (lambda: b"PK\x05\x06", "is not a sound zip archive"),
        (lambda: b"", "is not a sound zip archive"),
    ],
)
def test_it_refuses_what_is_not_a_plain_package(
    build: Build, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "MAX_RATIO", 100)
    source = tmp_path / "package.zip"
    source.write_bytes(build())
    place = tmp_path / "instance"
    place.mkdir()
    with pytest.raises(Failed, match=sentence):
        unpacking.unpack(source, place / "fedml-package", NO_STEPS)
    assert list(place.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["instance", "package.zip"]


def test_it_refuses_more_members_than_a_package_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_MEMBERS", 3)
    source = tmp_path / "package.zip"
    source.write_bytes(make_zip({f"{i}.py": "" for i in range(4)}))
    with pytest.raises(Failed, match="has 4 members; at most 3 are unpacked"):
        unpacking.unpack(source, tmp_path / "out", NO_STEPS)


@pytest.mark.parametrize("top", ["package", "another-name", ""])
def test_it_leaves_the_top_folder_out_whatever_its_name(top: str, tmp_path: Path) -> None:
    source = tmp_path / "package.zip"
    source.write_bytes(make_zip(package_files("print(1)\n"), top))
    unpacking.unpack(source, tmp_path / "out", NO_STEPS)
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert found == ["conf/fedml.yaml", "fedml/entry.py"]
    assert (tmp_path / "out" / "fedml" / "entry.py").read_text() == "print(1)\n"


def test_a_link_in_an_unpacked_package_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "built"
    (source / "conf").mkdir(parents=True)
    (source / "conf" / "fedml.yaml").write_text("{}")
    (source / "secrets").symlink_to("/etc")
    with pytest.raises(Failed, match="'secrets' is a link or a device"):
        unpacking.unpack(source, tmp_path / "out", NO_STEPS)
