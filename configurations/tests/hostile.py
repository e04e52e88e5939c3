"""Hostile and broken packages, each made on the spot, with the sentence that has to answer it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from configurations.tests.hostile_yaml import FEDML_YAMLS, HostilePackage
from configurations.tests.packages import (
    RawMember,
    package_bytes,
    package_files,
    raw_package,
    raw_zip,
    zip_of,
)

MIB = 1024 * 1024


def _named(name: bytes) -> Callable[[], bytes]:
    return lambda: raw_zip(raw_package(RawMember(name, b"x")))


def _of_mode(mode: int) -> Callable[[], bytes]:
    return lambda: raw_zip(raw_package(RawMember(b"package/x", b"/etc/passwd", mode=mode)))


def _with(**changes: Any) -> Callable[[], bytes]:
    return lambda: raw_zip(raw_package(RawMember(b"package/x", b"x" * 100, **changes)))


def _without_top_folder() -> bytes:
    return zip_of({name.removeprefix("package/"): content for name, content in package_files().items()})


def _bomb() -> bytes:
    return raw_zip(raw_package(RawMember(b"package/zeros", bytes(40 * MIB), deflate=True)))


def _quoted_overlap_bomb() -> bytes:
    """Many entries of the directory that point at one and the same local header."""
    members = raw_package(RawMember(b"package/a", bytes(MIB), deflate=True))
    start = len(raw_zip(members[:-1])) - sum(46 + len(m.name) for m in members[:-1]) - 22
    kernel = members[-1]
    copies = [
        RawMember(b"package/a%d" % number, kernel.content, deflate=True, offset=start, local_name=b"package/a")
        for number in range(50)
    ]
    return raw_zip([*members, *copies])


def _cut_off() -> bytes:
    return package_bytes()[:-60]


def _cut_in_the_middle() -> bytes:
    whole = package_bytes()
    return whole[:200] + whole[260:]


def _damaged() -> bytes:
    whole = bytearray(raw_zip(raw_package(RawMember(b"package/x", b"A" * 5000))))
    position = whole.index(b"A" * 5000)
    whole[position + 10] ^= 0xFF
    return bytes(whole)


def _broken_deflate() -> bytes:
    return raw_zip(raw_package(RawMember(b"package/x", b"\xff" * 300, method=8)))


def _zip64_lie() -> bytes:
    """A zip64 end record that contradicts the ordinary one."""
    whole = raw_zip(raw_package())
    end = whole[-22:]
    count, size, start = struct.unpack("<H2L", end[10:20])
    record = b"PK\6\6" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, count + 1, count + 1, size, start)
    locator = b"PK\6\7" + struct.pack("<LQL", 0, len(whole) - 22, 1)
    return whole[:-22] + record + locator + end


def _zip64_size_missing() -> bytes:
    return raw_zip(raw_package(RawMember(b"package/x", b"x", declared_size=0xFFFFFFFF)))


def _two_packages_of_one_kind() -> bytes:
    inner = package_bytes()
    return zip_of({"a/server/package.zip": inner, "b/server/package.zip": inner})


def _package_in_a_package_in_a_package() -> bytes:
    inner = zip_of({"package.zip": package_bytes()})
    return zip_of({"package.zip": inner})


CUT_OFF = "The archive cannot be read. It is cut off, or something stands behind its end."

PACKAGES: list[HostilePackage] = [
    # --- Names ----------------------------------------------------------------------------------------------------
    HostilePackage(
        "parent_folder",
        _named(b"package/../../evil.py"),
        "The name package/../../evil.py leads out of the package through '..'.",
        "Pack it with plain names.",
    ),
    HostilePackage("absolute", _named(b"/etc/cron.d/x"), "The name /etc/cron.d/x is an absolute path.", "relative"),
    HostilePackage("drive_letter", _named(b"C:evil.py"), "The name C:evil.py begins with a drive letter.", "relative"),
    HostilePackage(
        "backslash", _named(b"package\\..\\evil.py"), r"The name package\\..\\evil.py holds a backslash.", "with /"
    ),
    HostilePackage(
        "nul",
        _named(b"package/ok.py\0.txt"),
        r"The name package/ok.py\x00.txt holds a NUL or another control character.",
        "Rename the file.",
    ),
    HostilePackage(
        "dot_part", _named(b"package/./x"), "The name package/./x has an empty or '.' part.", "plain relative names"
    ),
    HostilePackage(
        "long_name",
        _named(b"package/" + b"n" * 300),
        "The name package/" + "n" * 109 + "... is too long.",
        "at most 255 bytes",
    ),
    HostilePackage(
        "too_deep",
        _named(b"package/" + b"d/" * 40 + b"x"),
        "The name package/" + "d/" * 40 + "x lies deeper than 32 folders.",
        "fewer folders",
    ),
    HostilePackage(
        "not_utf8_name",
        _named(b"package/\xff\xfe"),
        "The archive cannot be read. The name of a member, b'package/\\xff\\xfe', is declared as UTF-8 and is not.",
        "Pack it again",
    ),
    HostilePackage(
        "twice", _named(b"package/main.py"), "package/main.py is in the archive twice.", "with every file once"
    ),
    HostilePackage(
        "differing_by_case",
        _named(b"package/MAIN.py"),
        "package/main.py and package/MAIN.py differ only in case or in how their letters are encoded.",
        "Rename one of them",
    ),
    HostilePackage(
        "differing_by_normal_form",
        lambda: raw_zip(raw_package(RawMember("package/\u00e9.py".encode()), RawMember("package/e\u0301.py".encode()))),
        r"package/\xe9.py and package/e\u0301.py differ only in case or in how their letters are encoded.",
        "Rename one of them",
    ),
    HostilePackage(
        "file_that_is_a_folder",
        _named(b"package/main.py/x"),
        "package/main.py is both a file and a folder.",
        "Rename one of them",
    ),
    HostilePackage(
        "two_names",
        _with(local_name=b"package/y"),
        "The archive cannot be read. The member 'package/x' is described in two ways that contradict each other.",
        "Pack it again",
    ),
    # --- Kinds of members -----------------------------------------------------------------------------------------
    HostilePackage("symbolic_link", _of_mode(0o120777), "package/x is a symbolic link.", "the file itself"),
    HostilePackage("character_device", _of_mode(0o020666), "package/x is a character device.", "the file itself"),
    HostilePackage("block_device", _of_mode(0o060666), "package/x is a block device.", "the file itself"),
    HostilePackage("named_pipe", _of_mode(0o010666), "package/x is a named pipe.", "the file itself"),
    HostilePackage("socket", _of_mode(0o140666), "package/x is a socket.", "the file itself"),
    HostilePackage(
        "setuid", _of_mode(0o104755), "package/x would run as another user (setuid or setgid).", "chmod a-s"
    ),
    HostilePackage(
        "file_called_folder", _of_mode(0o040755), "package/x says both that it is a file and a folder.", "again"
    ),
    HostilePackage("encrypted", _with(flags=0x801), "package/x is encrypted.", "without a password"),
    HostilePackage("bzip2", _with(method=12), "package/x is compressed with bzip2.", "Pack it with deflate"),
    HostilePackage("unknown_method", _with(method=77), "package/x is compressed with method 77.", "with deflate"),
    # --- Sizes ----------------------------------------------------------------------------------------------------
    HostilePackage(
        "too_many_members",
        lambda: raw_zip(raw_package(*(RawMember(b"package/%d" % number) for number in range(60)))),
        "The archive cannot be read. It holds 63 members; 50 are allowed.",
        "Pack it again",
        limits={"PACKAGE_MAX_MEMBERS": 50},
    ),
    HostilePackage(
        "too_many_folders",
        lambda: raw_zip(raw_package(*(RawMember(b"package/%d/a/b/c" % number) for number in range(20)))),
        "The archive makes more than the 50 files and folders that are allowed.",
        "Leave out",
        limits={"PACKAGE_MAX_MEMBERS": 50},
    ),
    HostilePackage(
        "bomb_by_ratio",
        _bomb,
        "The archive unpacks to more than 200 times its size, as archive bombs do.",
        "Leave out files that are all zeros",
    ),
    HostilePackage(
        "bomb_by_size",
        _bomb,
        "The archive unpacks to 40 MiB; 32 MiB are allowed.",
        "Leave out what a run does not need",
        limits={"PACKAGE_MAX_UNPACKED_BYTES": 32 * MIB, "PACKAGE_MAX_RATIO": 10_000},
    ),
    HostilePackage(
        "bomb_that_declares_little",
        _with(deflate=True, declared_size=10),
        "The archive cannot be read. The member 'package/x' holds more than the 10 bytes that it declares.",
        "Pack it again",
    ),
    HostilePackage(
        "declares_more_than_it_holds",
        _with(deflate=True, declared_size=1000),
        "The archive cannot be read. The member 'package/x' holds 100 bytes and declares 1000.",
        "Pack it again",
    ),
    HostilePackage(
        "quoted_overlap_bomb",
        _quoted_overlap_bomb,
        "The archive cannot be read. The member 'package/a0' lies over another one.",
        "Pack it again",
    ),
    HostilePackage(
        "too_large",
        lambda: raw_zip(raw_package(RawMember(b"package/x", bytes(2 * MIB)))),
        "The file is larger than the 1 MiB that are allowed.",
        "Leave out what a run does not need",
        limits={"PACKAGE_MAX_BYTES": MIB},
    ),
    # --- Not quite a zip ------------------------------------------------------------------------------------------
    HostilePackage("empty_file", lambda: b"", "The archive cannot be read. The file is empty.", "Pack it again"),
    HostilePackage(
        "not_a_zip",
        lambda: b"#!/bin/sh\nrm -rf /\n" * 20,
        "The archive cannot be read. It is not a zip archive.",
        "Pack it again as a plain zip",
    ),
    HostilePackage("empty_archive", lambda: zip_of({}), "The archive is empty.", "Pack the folder of the package"),
    HostilePackage(
        "cut_off",
        _cut_off,
        "The archive cannot be read."
        " It is cut off: a zip archive ends with its table of contents, and that is missing.",
        "Pack it again",
    ),
    HostilePackage(
        "cut_in_the_middle",
        _cut_in_the_middle,
        "The archive cannot be read."
        " Its table of contents is not where it says: it is damaged, or data stand in front.",
        "Pack it again",
    ),
    HostilePackage("trailing_data", lambda: package_bytes() + b"<?php", CUT_OFF, "Pack it again"),
    HostilePackage(
        "leading_data",
        lambda: b"MZ" + package_bytes(),
        "The archive cannot be read."
        " Its table of contents is not where it says: it is damaged, or data stand in front.",
        "Pack it again",
    ),
    HostilePackage(
        "damaged",
        _damaged,
        "The archive cannot be read. The data of the member 'package/x' are damaged: their checksum is wrong.",
        "Pack it again",
    ),
    HostilePackage(
        "broken_deflate",
        _broken_deflate,
        "The archive cannot be read. The data of the member 'package/x' are damaged.",
        "Pack it again",
    ),
    HostilePackage(
        "zip64_lie",
        _zip64_lie,
        "The archive cannot be read. Its zip64 records contradict each other.",
        "Pack it again",
    ),
    HostilePackage(
        "zip64_size_missing",
        _zip64_size_missing,
        "The archive cannot be read. The zip64 sizes of the member 'package/x' are missing.",
        "Pack it again",
    ),
    # --- Not a package --------------------------------------------------------------------------------------------
    HostilePackage(
        "no_top_folder",
        _without_top_folder,
        "The archive has no single top folder; at its top are conf, fedml, main.py.",
        "Pack the package's folder itself",
    ),
    HostilePackage(
        "folder_of_macos",
        lambda: zip_of({**package_files(), "__MACOSX/._package": b"x"}),
        "The archive has no single top folder; at its top are __MACOSX, package.",
        "without the __MACOSX folder",
    ),
    HostilePackage(
        "no_fedml_yaml",
        lambda: zip_of({"package/main.py": "x"}),
        "The package holds no package/conf/fedml.yaml.",
        "Build it with build.sh",
    ),
    HostilePackage(
        "two_packages_of_one_kind",
        _two_packages_of_one_kind,
        "The archive holds 2 package.zip files, and not exactly one of them is the server package.",
        "Upload the server package's own package.zip.",
    ),
    HostilePackage(
        "wrapped_twice",
        _package_in_a_package_in_a_package,
        "The archive has no single top folder; at its top are package.zip.",
        "Pack the package's folder itself",
    ),
    HostilePackage(
        "requirements_not_text",
        lambda: zip_of({**package_files(), "package/requirements.txt": b"\xff\xfe\x00"}),
        "The file is not valid UTF-8.",
        "Save it as UTF-8.",
    ),
    *FEDML_YAMLS,
]
