"""Unpacks packages without trusting them, not even those that the platform has checked."""

import re
import shutil
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from .runtime import Failed, Steps

MAX_MEMBERS = 20_000
MAX_UNPACKED_BYTES = 4 * 2**30
MAX_RATIO = 1_000
RATIO_FLOOR_BYTES = 16 * 2**20
MAX_DEPTH = 40
MAX_NAME_BYTES = 255
CHUNK = 1 << 18
CONFIGURATION = PurePosixPath("conf/fedml.yaml")


def unpack(source: Path, destination: Path, steps: Steps) -> None:
    """Bring a package's files into an instance's folder.

    Parameters:
        source: a zip file, or a folder that was unpacked before.
        destination: the folder to make; whatever was there is removed. The archive's single top folder, whatever its
            name, is left out, so that `conf/fedml.yaml` stands directly in it.

    Raises:
        Failed: the package is not acceptable, or the disk is full. Nothing is left behind.
        Stopped: from `steps.checkpoint`.
    """
    shutil.rmtree(destination, ignore_errors=True)
    workplace = Path(tempfile.mkdtemp(prefix=".unpack-", dir=destination.parent))
    try:
        content = workplace / "content"
        if source.is_dir():
            shutil.copytree(source, content, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            _refuse_links(content)
        else:
            content.mkdir(mode=0o700)
            _unzip(source, content, steps)
        _package_root(content).rename(destination)
    except OSError as error:
        raise Failed(f"cannot unpack the package: {error.strerror or error}") from None
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _unzip(source: Path, content: Path, steps: Steps) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            names = _check_members(members)
            allowance = min(MAX_UNPACKED_BYTES, max(RATIO_FLOOR_BYTES, source.stat().st_size * MAX_RATIO))
            for member, name in zip(members, names, strict=True):
                steps.checkpoint()
                target = content.joinpath(*name.parts)
                if member.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                allowance -= _extract(archive, member, target, allowance, steps)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError) as error:
        raise Failed(f"the package is not a sound zip archive: {error}") from None


def _check_members(members: list[zipfile.ZipInfo]) -> list[PurePosixPath]:
    if len(members) > MAX_MEMBERS:
        raise Failed(f"the package has {len(members)} members; at most {MAX_MEMBERS} are unpacked")
    names: list[PurePosixPath] = []
    seen: set[str] = set()
    for member in members:
        name = _safe_name(member)
        key = unicodedata.normalize("NFC", str(name)).casefold()
        if key in seen and not member.is_dir():
            raise Failed(f"the package holds {member.filename!r} twice")
        seen.add(key)
        names.append(name)
    return names


def _safe_name(member: zipfile.ZipInfo) -> PurePosixPath:
    raw = member.orig_filename
    shown = ascii(raw[:200])
    if "\\" in raw or "\x00" in raw or raw.startswith("/") or re.match(r"[A-Za-z]:", raw):
        raise Failed(f"the package's member {shown} has an absolute or a foreign path")
    name = PurePosixPath(raw)
    if not name.parts or ".." in name.parts:
        raise Failed(f"the package's member {shown} would leave the package's folder")
    if len(name.parts) > MAX_DEPTH or any(len(part.encode("utf-8", "replace")) > MAX_NAME_BYTES for part in name.parts):
        raise Failed(f"the package's member {shown} lies too deep or has too long a name")
    if member.flag_bits & 0x1:
        raise Failed(f"the package's member {shown} is encrypted")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR and not member.is_dir()):
        raise Failed(f"the package's member {shown} is a link or a device, not a file")
    return name


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, allowance: int, steps: Steps) -> int:
    """Write one member; returns its bytes. What counts is what comes out, not what the archive says."""
    written = 0
    with archive.open(member) as packed, target.open("xb") as file:
        while chunk := packed.read(CHUNK):
            written += len(chunk)
            if written > allowance:
                raise Failed("the package unpacks to more bytes than a package of its size may")
            file.write(chunk)
            steps.checkpoint()
    target.chmod(0o755 if (member.external_attr >> 16) & 0o111 else 0o644)
    return written


def _refuse_links(content: Path) -> None:
    for path in content.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Failed(f"the package's member {str(path.relative_to(content))!r} is a link or a device, not a file")


def _package_root(content: Path) -> Path:
    """The folder that is the package: the archive's single top folder, or the archive itself."""
    if (content / CONFIGURATION).is_file():
        return content
    tops = [path for path in content.iterdir() if path.is_dir()]
    for top in tops:
        if (top / CONFIGURATION).is_file():
            return top
    return tops[0] if len(tops) == 1 and not any(path.is_file() for path in content.iterdir()) else content
