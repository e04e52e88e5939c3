"""A strict reader of the zip format (PKWARE APPNOTE 6.3.10), for archives that nobody vouches for.

It reads what stands in the central directory, holds every local header against it, and inflates in small pieces while
counting. Unlike ``zipfile`` it never builds the whole directory of an archive that holds too many members, never
repairs an archive, and takes no size from a header: an archive has to be one that every unpacker understands in the
same way.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

CHUNK = 256 * 1024
STORED, DEFLATED = 0, 8
METHODS = {1: "shrink", 6: "implode", 9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz", 98: "PPMd"}
FLAG_ENCRYPTED, FLAG_PATCH, FLAG_STRONG, FLAG_UTF8, FLAG_MASKED = 1, 1 << 5, 1 << 6, 1 << 11, 1 << 13
EXTRA_ZIP64, EXTRA_UNICODE_PATH = 0x0001, 0x7075

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s2B4HL2L2H")
_END_SIGNATURE, _END64_LOCATOR_SIGNATURE, _END64_SIGNATURE = b"PK\5\6", b"PK\6\7", b"PK\6\6"
_CENTRAL_SIGNATURE, _LOCAL_SIGNATURE = b"PK\1\2", b"PK\3\4"
_FULL_16, _FULL_32 = 0xFFFF, 0xFFFFFFFF
_NAME_BYTES_MAX = 4096


class ZipError(Exception):
    """The file is not a zip archive that can be read; the text is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of the central directory, with where its data lie.

    Attributes:
        name: the path as stored, not yet judged.
        method: compression method, 0 stored or 8 deflated; others are left to the caller to refuse.
        flags: general purpose bits.
        crc: CRC-32 that the data must have.
        compressed_size: bytes in the archive.
        size: bytes after inflating, as the archive declares; the real number is counted by :func:`member_read`.
        mode: Unix mode with its file type, or 0.
        start: offset of the local header; ``data_start`` that of the data.
    """

    name: str
    method: int
    flags: int
    crc: int
    compressed_size: int
    size: int
    mode: int
    start: int
    data_start: int

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")

    @property
    def is_encrypted(self) -> bool:
        return bool(self.flags & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_MASKED)) or self.method == 99


def members_read(file: BinaryIO, members_max: int) -> list[Member]:
    """Read the central directory and every local header.

    Args:
        file: the archive, opened for reading and seekable.
        members_max: refuse an archive with more entries, before reading more than that.

    Raises:
        ZipError: not a zip, cut off, contradicting itself, members lying over each other, or too many of them.
    """
    size = file.seek(0, 2)
    directory_start, directory_size, count = _end_read(file, size)
    if count > members_max:
        raise ZipError(f"It holds {count} members; {members_max} are allowed.")
    file.seek(directory_start)
    members: list[Member] = []
    consumed = 0
    for _ in range(count):
        member, length = _central_read(file)
        consumed += length
        members.append(member)
    if consumed != directory_size:
        raise ZipError("Its table of contents does not have the length that the archive declares.")
    return _located(file, members, directory_start)


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise ZipError("It is cut off: the file ends in the middle of a record.")
    return data


def _end_read(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Return where the central directory starts, its length and its number of entries."""
    if size == 0:
        raise ZipError("The file is empty.")
    file.seek(0)
    start = file.read(4)
    tail_size = min(size, _END.size + _FULL_16)
    file.seek(size - tail_size)
    tail = _exactly(file, tail_size)
    # The last signature has to be the real one, as other unpackers take that one too.
    position = tail.rfind(_END_SIGNATURE)
    if position < 0:
        if start == _LOCAL_SIGNATURE:
            raise ZipError("It is cut off: a zip archive ends with its table of contents, and that is missing.")
        raise ZipError("It is not a zip archive.")
    comment_size = int.from_bytes(tail[position + 20 : position + 22], "little")
    if position + _END.size + comment_size != len(tail):
        raise ZipError("It is cut off, or something stands behind its end.")
    end_start = size - tail_size + position
    _, disk, directory_disk, entries_here, count, directory_size, directory_start, _ = _END.unpack(
        tail[position : position + _END.size]
    )
    directory_end = end_start
    locator = tail[max(0, position - _END64_LOCATOR.size) : position]
    if locator[:4] == _END64_LOCATOR_SIGNATURE and len(locator) == _END64_LOCATOR.size:
        _, end64_disk, end64_start, disks = _END64_LOCATOR.unpack(locator)
        if end64_disk or disks > 1 or end64_start + _END64.size != end_start - _END64_LOCATOR.size:
            raise ZipError("Its zip64 records contradict each other.")
        file.seek(end64_start)
        record = _END64.unpack(_exactly(file, _END64.size))
        signature, record_size, _, _, disk64, directory_disk64, entries64, count64, size64, start64 = record
        agrees = (
            signature == _END64_SIGNATURE
            and record_size == _END64.size - 12
            and not disk64
            and not directory_disk64
            and entries64 == count64
            and count in (count64, _FULL_16)
            and directory_size in (size64, _FULL_32)
            and directory_start in (start64, _FULL_32)
        )
        if not agrees:
            raise ZipError("Its zip64 records contradict each other.")
        entries_here, count, directory_size, directory_start = count64, count64, size64, start64
        directory_end = end64_start
    elif count == _FULL_16 or _FULL_32 in (directory_size, directory_start):
        raise ZipError("Its zip64 records contradict each other.")
    if disk or directory_disk or entries_here != count:
        raise ZipError("It is one part of an archive that was split into several files.")
    if directory_start + directory_size != directory_end:
        raise ZipError("Its table of contents is not where it says: it is damaged, or data stand in front.")
    return directory_start, directory_size, count


def _central_read(file: BinaryIO) -> tuple[Member, int]:
    """Read one entry of the central directory; return it without ``data_start``, and the bytes that it took."""
    fields = _CENTRAL.unpack(_exactly(file, _CENTRAL.size))
    (signature, _, _, _, _, flags, method, _, _, crc, compressed_size, size) = fields[:12]
    name_size, extra_size, comment_size, disk, _, attributes, start = fields[12:]
    if signature != _CENTRAL_SIGNATURE:
        raise ZipError("Its table of contents is damaged.")
    if name_size > _NAME_BYTES_MAX:
        raise ZipError(f"A member's name is {name_size} bytes long; {_NAME_BYTES_MAX} are allowed.")
    raw_name = _exactly(file, name_size)
    extra = _exactly(file, extra_size)
    _exactly(file, comment_size)
    name = _name_decode(raw_name, flags)
    extras = _extras(extra, name)
    if EXTRA_UNICODE_PATH in extras and extras[EXTRA_UNICODE_PATH][5:] != raw_name:
        raise ZipError(f"The member {name!r} has a second, different name.")
    compressed_size, size, start = _zip64_apply(extras.get(EXTRA_ZIP64), name, compressed_size, size, start)
    if disk:
        raise ZipError("It is one part of an archive that was split into several files.")
    member = Member(name, method, flags, crc, compressed_size, size, attributes >> 16, start, 0)
    return member, _CENTRAL.size + name_size + extra_size + comment_size


def _name_decode(raw: bytes, flags: int) -> str:
    if flags & FLAG_UTF8 or raw.isascii():
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise ZipError(f"The name of a member, {raw[:60]!r}, is declared as UTF-8 and is not.") from None
    raise ZipError(f"The name of a member, {raw[:60]!r}, is in an old code page; pack it with UTF-8 names.")


def _extras(data: bytes, name: str) -> dict[int, bytes]:
    """Split an extra field into its records by their tag."""
    extras: dict[int, bytes] = {}
    position = 0
    while position + 4 <= len(data):
        tag, size = struct.unpack_from("<2H", data, position)
        position += 4
        if position + size > len(data):
            break
        if tag in extras and tag in (EXTRA_ZIP64, EXTRA_UNICODE_PATH):
            raise ZipError(f"The member {name!r} has an extra field twice.")
        extras[tag] = data[position : position + size]
        position += size
    return extras


def _zip64_apply(extra: bytes | None, name: str, compressed_size: int, size: int, start: int) -> tuple[int, int, int]:
    """Return the sizes and the offset, each taken from the zip64 record where the 32-bit field says so."""
    needed = [size == _FULL_32, compressed_size == _FULL_32, start == _FULL_32]
    if not any(needed):
        return compressed_size, size, start
    if extra is None or len(extra) < 8 * sum(needed):
        raise ZipError(f"The zip64 sizes of the member {name!r} are missing.")
    wide = iter(struct.unpack_from(f"<{sum(needed)}Q", extra))
    size, compressed_size, start = (
        next(wide) if is_wide else narrow
        for is_wide, narrow in zip(needed, (size, compressed_size, start), strict=True)
    )
    return compressed_size, size, start


def _located(file: BinaryIO, members: list[Member], directory_start: int) -> list[Member]:
    """Hold every local header against its entry, find the data, and refuse members that share bytes."""
    located: dict[int, Member] = {}
    free_from = 0
    for member in sorted(members, key=lambda member: member.start):
        if member.start < free_from:
            raise ZipError(f"The member {member.name!r} lies over another one.")
        if member.start + _LOCAL.size > directory_start:
            raise ZipError(f"The member {member.name!r} lies outside the archive.")
        file.seek(member.start)
        fields = _LOCAL.unpack(_exactly(file, _LOCAL.size))
        signature, _, _, flags, method, _, _, _, _, _, name_size, extra_size = fields
        if signature != _LOCAL_SIGNATURE:
            raise ZipError(f"The member {member.name!r} does not begin where the archive says.")
        if name_size > _NAME_BYTES_MAX:
            raise ZipError(f"A member's name is {name_size} bytes long; {_NAME_BYTES_MAX} are allowed.")
        name = _name_decode(_exactly(file, name_size), flags)
        if (name, method, flags & FLAG_ENCRYPTED) != (member.name, member.method, member.flags & FLAG_ENCRYPTED):
            raise ZipError(f"The member {member.name!r} is described in two ways that contradict each other.")
        data_start = member.start + _LOCAL.size + name_size + extra_size
        free_from = data_start + member.compressed_size
        if free_from > directory_start:
            raise ZipError(f"The member {member.name!r} lies outside the archive.")
        located[member.start] = Member(
            member.name, member.method, member.flags, member.crc, member.compressed_size, member.size,
            member.mode, member.start, data_start,
        )  # fmt: skip
    return [located[member.start] for member in members]


def member_read(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """Yield a member's bytes in pieces of at most ``CHUNK``.

    Raises:
        ZipError: when the data are damaged, or more or less than the archive declares. What was yielded before is to
            be thrown away.
    """
    position, end = member.data_start, member.data_start + member.compressed_size
    inflater = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == DEFLATED else None
    if inflater is None and member.method != STORED:
        raise ZipError(f"The member {member.name!r} is compressed by a method that is not supported.")
    crc = produced = 0
    pending = b""
    while True:
        if not pending and position < end:
            file.seek(position)
            pending = _exactly(file, min(CHUNK, end - position))
            position += len(pending)
        if inflater is None:
            chunk, pending = pending, b""
            finished = position == end
        else:
            try:
                chunk = inflater.decompress(pending, CHUNK)
            except zlib.error:
                raise ZipError(f"The data of the member {member.name!r} are damaged.") from None
            pending = inflater.unconsumed_tail
            finished = inflater.eof or (not chunk and not pending and position == end)
        produced += len(chunk)
        if produced > member.size:
            raise ZipError(f"The member {member.name!r} holds more than the {member.size} bytes that it declares.")
        crc = zlib.crc32(chunk, crc)
        if chunk:
            yield chunk
        if finished:
            break
    if inflater is not None and (not inflater.eof or inflater.unused_data or position < end):
        raise ZipError(f"The data of the member {member.name!r} are damaged.")
    if produced != member.size:
        raise ZipError(f"The member {member.name!r} holds {produced} bytes and declares {member.size}.")
    if crc != member.crc:
        raise ZipError(f"The data of the member {member.name!r} are damaged: their checksum is wrong.")
