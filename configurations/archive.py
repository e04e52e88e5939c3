"""Reading an uploaded archive without trusting it.

Every rule is checked before a byte is used: names that could leave the target folder, links and devices, members twice,
encryption, and bombs. Sizes are counted while inflating, never taken from a header. :func:`unpack` writes with modes of
its own choice, to names that passed the rules, and all or nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from django.conf import settings

from configurations import zip_format
from configurations.zip_format import Member, ZipError

PART_BYTES_MAX = 255  # what file systems allow
PATH_BYTES_MAX = 1024
RATIO_FREE_BYTES = 16 * 1024 * 1024  # small archives may be as dense as they like
_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SPECIAL = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}


class ArchiveRefused(Exception):
    """The archive breaks a rule. ``message`` says which, ``fix`` what to do."""

    def __init__(self, message: str, fix: str) -> None:
        self.message, self.fix = message, fix
        super().__init__(f"{message} {fix}")


@dataclass(frozen=True)
class Limits:
    """How large an archive may be, packed and unpacked."""

    members: int
    unpacked_bytes: int
    ratio: int
    depth: int

    @classmethod
    def from_settings(cls) -> Limits:
        return cls(
            members=settings.PACKAGE_MAX_MEMBERS,
            unpacked_bytes=settings.PACKAGE_MAX_UNPACKED_BYTES,
            ratio=settings.PACKAGE_MAX_RATIO,
            depth=settings.PACKAGE_MAX_DEPTH,
        )


class Archive:
    """An archive whose table of contents passed every rule. Make one with :func:`archive_open`.

    Attributes:
        files: its files by name, in the order of the archive.
        unpacked_bytes: bytes inflated so far; the caps on real size and ratio look at this.
    """

    def __init__(self, file: BinaryIO, size: int, members: list[Member], limits: Limits) -> None:
        self._file, self._size, self._limits = file, size, limits
        self.files = {member.name: member for member in members if not member.is_folder}
        self.folders = [member.name for member in members if member.is_folder]
        self.unpacked_bytes = 0

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of one file.

        Raises:
            ArchiveRefused: damaged, or the archive unpacks to more than the limits allow.
        """
        try:
            for chunk in zip_format.member_read(self._file, self.files[name]):
                self.unpacked_bytes += len(chunk)
                self._check_size()
                yield chunk
        except ZipError as error:
            raise ArchiveRefused(f"The archive cannot be read. {error}", "Pack it again and upload it anew.") from None

    def _check_size(self) -> None:
        limits = self._limits
        if self.unpacked_bytes > limits.unpacked_bytes:
            raise ArchiveRefused(
                f"The archive unpacks to more than the {_mib(limits.unpacked_bytes)} MiB that are allowed.",
                "Leave out what a run does not need, such as data sets.",
            )
        if self.unpacked_bytes > RATIO_FREE_BYTES and self.unpacked_bytes > limits.ratio * self._size:
            raise ArchiveRefused(
                f"The archive unpacks to more than {limits.ratio} times its size, as archive bombs do.",
                "Leave out files that are all zeros or repeat themselves.",
            )

    def read(self, name: str, size_max: int) -> bytes:
        """Return a small file whole.

        Raises:
            ArchiveRefused: as :meth:`chunks`, or the file is larger than ``size_max`` bytes.
        """
        data = bytearray()
        for chunk in self.chunks(name):
            data += chunk
            if len(data) > size_max:
                raise ArchiveRefused(
                    f"{name} is larger than the {size_max // 1024} KiB that are allowed.", "Make it smaller."
                )
        return bytes(data)

    def verify(self) -> None:
        """Inflate every file once and throw the bytes away, so that nothing damaged or oversized is ever stored.

        Raises:
            ArchiveRefused: as :meth:`chunks`.
        """
        self.unpacked_bytes = 0
        for name in self.files:
            for _ in self.chunks(name):
                pass


@contextmanager
def archive_open(path: Path, limits: Limits | None = None) -> Iterator[Archive]:
    """Open a zip archive and check its table of contents.

    Args:
        path: the archive on the local disk.
        limits: caps; those of the settings when left out.

    Raises:
        ArchiveRefused: the archive breaks a rule.
    """
    limits = limits or Limits.from_settings()
    with path.open("rb") as file:
        try:
            members = zip_format.members_read(file, limits.members)
        except ZipError as error:
            raise ArchiveRefused(f"The archive cannot be read. {error}", "Pack it again as a plain zip.") from None
        _check_members(members, limits)
        yield Archive(file, path.stat().st_size, members, limits)


def _mib(size: int) -> int:
    return size // (1024 * 1024)


def _check_members(members: list[Member], limits: Limits) -> None:
    if not members:
        raise ArchiveRefused("The archive is empty.", "Pack the folder of the package and upload it anew.")
    for member in members:
        _check_name(member.name, limits.depth)
        _check_kind(member)
    _check_clashes(members, limits)
    declared = sum(member.size for member in members)
    if declared > limits.unpacked_bytes:
        raise ArchiveRefused(
            f"The archive unpacks to {_mib(declared)} MiB; {_mib(limits.unpacked_bytes)} MiB are allowed.",
            "Leave out what a run does not need, such as data sets.",
        )


def _shown(name: str) -> str:
    """A name as an error shows it: printable and not too long."""
    shown = ascii(name)[1:-1]
    return shown if len(shown) <= 120 else shown[:117] + "..."


def _check_name(name: str, depth_max: int) -> None:
    shown = _shown(name)
    parts = name.removesuffix("/").split("/")
    if _CONTROL.search(name):
        message, fix = f"The name {shown} holds a NUL or another control character.", "Rename the file."
    elif "\\" in name:
        message, fix = f"The name {shown} holds a backslash.", "Pack it with / between folders and file names."
    elif name.startswith("/"):
        message, fix = f"The name {shown} is an absolute path.", "Pack it with names relative to the package's folder."
    elif _DRIVE.match(name):
        message, fix = f"The name {shown} begins with a drive letter.", "Pack it with relative names."
    elif ".." in parts:
        message, fix = (
            f"The name {shown} leads out of the package through '..'.",
            "Pack it with plain names.",
        )
    elif "." in parts or "" in parts:
        message, fix = f"The name {shown} has an empty or '.' part.", "Pack it with plain relative names."
    elif len(parts) > depth_max:
        message, fix = f"The name {shown} lies deeper than {depth_max} folders.", "Put it into fewer folders."
    elif len(name.encode()) > PATH_BYTES_MAX or any(len(part.encode()) > PART_BYTES_MAX for part in parts):
        message, fix = f"The name {shown} is too long.", f"Use at most {PART_BYTES_MAX} bytes for each name."
    else:
        return
    raise ArchiveRefused(message, fix)


def _check_kind(member: Member) -> None:
    shown = _shown(member.name)
    file_type = stat.S_IFMT(member.mode)
    if file_type in _SPECIAL:
        message, fix = f"{shown} is {_SPECIAL[file_type]}.", "Put the file itself into the package."
    elif file_type not in (0, stat.S_IFREG, stat.S_IFDIR):
        message, fix = f"{shown} is neither a file nor a folder.", "Put plain files into the package."
    elif file_type and (file_type == stat.S_IFDIR) != member.is_folder:
        message, fix = f"{shown} says both that it is a file and a folder.", "Pack the package again."
    elif not member.is_folder and member.mode & (stat.S_ISUID | stat.S_ISGID):
        message, fix = f"{shown} would run as another user (setuid or setgid).", "Remove that mode with chmod a-s."
    elif member.is_encrypted:
        message, fix = f"{shown} is encrypted.", "Pack it without a password."
    elif member.method not in (zip_format.STORED, zip_format.DEFLATED) or member.flags & zip_format.FLAG_PATCH:
        method = zip_format.METHODS.get(member.method, f"method {member.method}")
        message, fix = f"{shown} is compressed with {method}.", "Pack it with deflate, which every zip program can."
    elif member.is_folder and member.size:
        message, fix = f"The folder {shown} holds data of its own.", "Pack the package again."
    else:
        return
    raise ArchiveRefused(message, fix)


def _check_clashes(members: list[Member], limits: Limits) -> None:
    """Refuse names that are one and the same on some file system, and files that are also folders."""
    is_file: dict[str, bool] = {}  # every path, also the folders that are only implied
    spelled: dict[str, str] = {}
    listed: set[str] = set()
    for member in members:
        path = member.name.removesuffix("/")
        if path in listed:
            raise ArchiveRefused(f"{_shown(path)} is in the archive twice.", "Pack it again with every file once.")
        listed.add(path)
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            prefix = "/".join(parts[:end])
            now_file = end == len(parts) and not member.is_folder
            if is_file.setdefault(prefix, now_file) != now_file:
                raise ArchiveRefused(f"{_shown(prefix)} is both a file and a folder.", "Rename one of them.")
            key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", prefix).casefold())
            other = spelled.setdefault(key, prefix)
            if other != prefix:
                raise ArchiveRefused(
                    f"{_shown(other)} and {_shown(prefix)} differ only in case or in how their letters are encoded.",
                    "Rename one of them: many file systems cannot hold both.",
                )
        if len(is_file) > limits.members:
            raise ArchiveRefused(
                f"The archive makes more than the {limits.members} files and folders that are allowed.",
                "Leave out what a run does not need.",
            )


def package_root(archive: Archive) -> str:
    """Return the name of the one folder that holds the whole package.

    Raises:
        ArchiveRefused: there is no such folder, or there are several.
    """
    names = [*archive.files, *archive.folders]
    tops = {name.split("/", 1)[0] for name in names}
    loose = sorted(name for name in archive.files if "/" not in name)
    if loose or len(tops) != 1:
        found = ", ".join(_shown(top) for top in sorted(tops)[:5])
        hint = " and without the __MACOSX folder" if "__MACOSX" in tops else ""
        raise ArchiveRefused(
            f"The archive has no single top folder; at its top are {found}.",
            f"Pack the package's folder itself{hint}, so that the archive holds package/conf/fedml.yaml.",
        )
    return tops.pop()


def inner_package(archive: Archive, kind: str) -> str | None:
    """Return the name of the ``package.zip`` that the archive merely wraps, or None if it is a package itself.

    An archive of the builder's whole output folder (``dist-package/server/package.zip`` and
    ``dist-package/client/package.zip``, whatever the top folder is called) wraps one package of each kind; one that
    holds a single ``package.zip`` wraps that.

    Raises:
        ArchiveRefused: it wraps packages, but not exactly one of this kind.
    """
    if any(name.endswith("conf/fedml.yaml") for name in archive.files):
        return None
    wrapped = [name for name in archive.files if name.rsplit("/", 1)[-1] == "package.zip"]
    of_kind = [name for name in wrapped if f"/{name}".endswith(f"/{kind}/package.zip")]
    if not wrapped:
        return None
    if len(of_kind) == 1:
        return of_kind[0]
    if len(wrapped) == 1:
        return wrapped[0]
    raise ArchiveRefused(
        f"The archive holds {len(wrapped)} package.zip files, and not exactly one of them is the {kind} package.",
        f"Upload the {kind} package's own package.zip.",
    )


def unpack(zip_path: Path, target_dir: Path, limits: Limits | None = None) -> None:
    """Unpack a package into ``target_dir``, without its top folder, all or nothing.

    Files get mode 0644, or 0755 where the archive says that they are executable. When ``target_dir`` is there already,
    or appears meanwhile because another process unpacked the same package, it is left as it is.

    Args:
        zip_path: the archive.
        target_dir: the folder to make; its parents are made too.
        limits: caps; those of the settings when left out.

    Raises:
        ArchiveRefused: the archive breaks a rule. Nothing is left behind.
    """
    target_dir.parent.mkdir(parents=True, exist_ok=True)
    with archive_open(zip_path, limits) as archive:
        root = package_root(archive)
        work_dir = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=target_dir.parent))
        try:
            for name in archive.folders:
                (work_dir / name[len(root) + 1 :]).mkdir(parents=True, exist_ok=True)
            for name, member in archive.files.items():
                path = work_dir / name[len(root) + 1 :]
                path.parent.mkdir(parents=True, exist_ok=True)
                mode = 0o755 if member.mode & 0o111 else 0o644
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
                with os.fdopen(descriptor, "wb") as file:
                    os.fchmod(descriptor, mode)
                    for chunk in archive.chunks(name):
                        file.write(chunk)
            work_dir.chmod(0o755)
            try:
                work_dir.rename(target_dir)
            except OSError:
                if not target_dir.is_dir():
                    raise
        finally:
            shutil.rmtree(work_dir, ignore_errors=True)
