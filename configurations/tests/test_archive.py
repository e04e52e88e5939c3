"""Archives: what is accepted, how it is unpacked, and that damage never raises anything but a refusal."""

from __future__ import annotations

import threading
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configurations.archive import (
    ArchiveRefused,
    Limits,
    archive_open,
    inner_package,
    package_root,
    unpack,
)
from configurations.manifest import manifest_read
from configurations.problems import Refused
from configurations.tests.packages import RawMember, package_bytes, package_files, raw_package, raw_zip, zip_of

SMALL = Limits(members=100, unpacked_bytes=1024 * 1024, ratio=200, depth=8)


def _written(folder: Path, content: bytes, name: str = "package.zip") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_it_unpacks_without_the_top_folder_and_with_modes_of_its_own(tmp_path: Path) -> None:
    members = [
        *raw_package(),
        RawMember(b"package/run.sh", b"#!/bin/sh\n", mode=0o100777),
        RawMember(b"package/private", b"x", mode=0o100600),
        RawMember(b"package/no_mode", b"x", mode=0),
        RawMember(b"package/empty/", mode=0o040777),
    ]
    target = tmp_path / "out" / "package"
    unpack(_written(tmp_path, raw_zip(members)), target)
    modes = {path.name: oct(path.stat().st_mode & 0o7777) for path in target.rglob("*")}
    assert modes == {
        "conf": "0o755",
        "empty": "0o755",
        "fedml": "0o755",
        "fedml.yaml": "0o644",
        "main.py": "0o644",
        "no_mode": "0o644",
        "private": "0o644",
        "run.sh": "0o755",
    }
    assert (target / "fedml" / "main.py").read_text() == "print('trains')\n"
    assert [path.name for path in target.parent.iterdir()] == ["package"]


def test_a_refused_archive_leaves_no_folder_behind(tmp_path: Path) -> None:
    damaged = raw_zip(raw_package(RawMember(b"package/z", b"x" * 10, crc=1)))
    with pytest.raises(ArchiveRefused, match="their checksum is wrong"):
        unpack(_written(tmp_path, damaged), tmp_path / "out" / "package")
    assert list((tmp_path / "out").iterdir()) == []


def test_unpacking_again_leaves_what_is_there(tmp_path: Path) -> None:
    archive, target = _written(tmp_path, package_bytes()), tmp_path / "out" / "package"
    unpack(archive, target)
    (target / "kept").write_text("by the first")
    unpack(archive, target)
    assert (target / "kept").read_text() == "by the first"
    assert [path.name for path in target.parent.iterdir()] == ["package"]


def test_two_processes_may_unpack_the_same_package_at_once(tmp_path: Path) -> None:
    archive, target = _written(tmp_path, package_bytes()), tmp_path / "out" / "package"
    barrier, errors = threading.Barrier(4), []

    def work() -> None:
        barrier.wait()
        try:
            unpack(archive, target)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(_tree(target)) == ["conf/fedml.yaml", "fedml/main.py", "main.py"]
    assert [path.name for path in target.parent.iterdir()] == ["package"]


def test_the_top_folder_may_have_any_name(tmp_path: Path) -> None:
    path = _written(tmp_path, zip_of(package_files(top="client-package")))
    with archive_open(path) as archive:
        assert package_root(archive) == "client-package"


@pytest.mark.parametrize("kind", ["server", "client"])
@pytest.mark.parametrize("top", ["", "dist-package/", "dist-packages/", "build/dist-package/"])
def test_the_builders_output_folder_wraps_one_package_of_each_kind(tmp_path: Path, top: str, kind: str) -> None:
    path = _written(tmp_path, zip_of({f"{top}{k}/package.zip": package_bytes() for k in ("server", "client")}))
    with archive_open(path) as archive:
        assert inner_package(archive, kind) == f"{top}{kind}/package.zip"


def test_what_numpy_writes_with_zip64_fields_is_read(tmp_path: Path) -> None:
    path = tmp_path / "package.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open("package/x", "w", force_zip64=True) as file:
        file.write(b"content")
    with archive_open(path) as read:
        assert read.read("package/x", 100) == b"content"


def test_what_a_streaming_zip_program_writes_is_read(tmp_path: Path) -> None:
    """Sizes behind the data instead of in front of them, as ``zip -`` and Go write it."""

    class Pipe:
        def __init__(self) -> None:
            self.data = bytearray()

        def write(self, data: bytes) -> int:
            self.data += data
            return len(data)

        def flush(self) -> None:
            pass

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        for name, content in package_files().items():
            archive.writestr(name, content)
    path = _written(tmp_path, bytes(pipe.data))
    assert manifest_read(path, "server")["files"] == 3


def test_a_comment_behind_the_end_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "package.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("package/x", "y")
        archive.comment = b"made by hand"
    with archive_open(path) as read:
        assert list(read.files) == ["package/x"]


def test_it_reads_as_zipfile_does(tmp_path: Path) -> None:
    path = _written(tmp_path, package_bytes())
    with archive_open(path) as ours, zipfile.ZipFile(path) as theirs:
        assert {name: ours.read(name, 10_000) for name in ours.files} == {
            name: theirs.read(name) for name in theirs.namelist()
        }


def test_a_small_archive_may_be_as_dense_as_it_likes(tmp_path: Path) -> None:
    path = _written(tmp_path, raw_zip(raw_package(RawMember(b"package/x", bytes(1024 * 1024), deflate=True))))
    assert manifest_read(path, "server")["unpacked_bytes"] > 1024 * 1024


_names = st.text(st.sampled_from("ab./\\\0\u00e9A:"), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(_names, st.binary(max_size=40), max_size=6))
def test_whatever_unpacks_stays_in_its_folder(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    members = [RawMember(b"top/" + name.encode(), content) for name, content in files.items()]
    path = _written(folder, raw_zip(members))
    try:
        unpack(path, folder / "out", SMALL)
    except ArchiveRefused:
        assert sorted(entry.name for entry in folder.iterdir()) == ["package.zip"]
    else:
        assert sorted(entry.name for entry in folder.iterdir()) == ["out", "package.zip"]
        expected = {name: content for name, content in files.items() if not name.endswith("/")}
        assert _tree(folder / "out") == expected


_WHOLE = raw_zip(raw_package(RawMember(b"package/data", bytes(range(256)) * 4, deflate=True)))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(_WHOLE) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(_WHOLE)),
    st.binary(max_size=8),
)
def test_a_mutated_archive_raises_nothing_but_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int, tail: bytes
) -> None:
    content = bytearray(_WHOLE)
    for position, value in changes:
        content[position] = value
    path = _written(tmp_path_factory.mktemp("mutated"), bytes(content[: cut or None]) + tail)
    with suppress(Refused):
        manifest_read(path, "server")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_raise_nothing_but_a_refusal(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = _written(tmp_path_factory.mktemp("bytes"), content)
    with pytest.raises(Refused):
        manifest_read(path, "server")
