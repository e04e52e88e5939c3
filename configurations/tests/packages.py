"""Small packages for tests, and zip archives made byte by byte where ``zipfile`` would not make them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile

from configurations.models import Configuration, Package
from configurations.rows import Row
from configurations.services import package_store

FEDML_YAML = """\
model_config:
  modelName: lr
hyperparameters_config:
  lr: 0.03
  comm_round: 10
  client_num_per_round: ${FEDSYS.CLIENT_NUM}
entry_config:
  entry_file: fedml/main.py
entry_arguments:
  model: ${model_config.modelName}
  lr: ${hyperparameters_config.lr}
  rounds: ${hyperparameters_config.comm_round}
  clients: ${FEDSYS_CLIENT_ID_LIST}
  per_round: ${hyperparameters_config.client_num_per_round}
"""


def package_files(yaml: str | bytes = FEDML_YAML, top: str = "package") -> dict[str, str | bytes]:
    """The files of a package by name, as :func:`zip_of` takes them."""
    return {
        f"{top}/conf/fedml.yaml": yaml,
        f"{top}/fedml/main.py": "print('trains')\n",
        f"{top}/main.py": "print('starts')\n",
    }


def zip_of(files: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def package_bytes(yaml: str | bytes = FEDML_YAML) -> bytes:
    return zip_of(package_files(yaml))


def upload(content: bytes, name: str = "package.zip") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, "application/zip")


def make_package(user: User, kind: str, yaml: str = FEDML_YAML) -> Package:
    return package_store(upload(package_bytes(yaml)), kind, user)


def make_configuration(user: User, name: str = "FedAvg", **fields: Any) -> Configuration:
    """A configuration with stored packages and the rows of the server's."""
    server, client = make_package(user, "server"), make_package(user, "client")
    rows: dict[str, list[Row]] = {
        "model_config": [{"name": "modelName", "type": "string", "value": "lr"}],
        "hyperparameters_config": [
            {"name": "lr", "type": "float", "value": 0.03},
            {"name": "comm_round", "type": "integer", "value": 10},
            {"name": "client_num_per_round", "type": "string", "value": "${FEDSYS.CLIENT_NUM}"},
        ],
    }
    return Configuration.objects.create(
        owner=user, name=name, server_package=server, client_package=client, **{**rows, **fields}
    )


def form_data(server: Package, client: Package, **fields: Any) -> dict[str, Any]:
    """What a browser sends to save a configuration of the packages' own values."""
    return {
        "name": "FedAvg",
        "project": "",
        "server_package": server.sha256,
        "client_package": client.sha256,
        "private_data_path": "",
        "synthetic_data_url": "",
        "synthetic_data": "",
        "model_config-name": ["modelName"],
        "model_config-type": ["string"],
        "model_config-value": ["lr"],
        "hyperparameters_config-name": ["lr", "comm_round", "client_num_per_round"],
        "hyperparameters_config-type": ["float", "integer", "string"],
        "hyperparameters_config-value": ["0.03", "10", "${FEDSYS.CLIENT_NUM}"],
        **fields,
    }


@dataclass
class RawMember:
    """A member written as given: headers may lie. None takes what is true."""

    name: bytes
    content: bytes = b""
    deflate: bool = False
    method: int | None = None
    flags: int = 0x800
    mode: int = 0o100644
    declared_size: int | None = None
    crc: int | None = None
    local_name: bytes | None = None
    offset: int | None = None
    extra: bytes = b""

    @property
    def data(self) -> bytes:
        if not self.deflate:
            return self.content
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        return compressor.compress(self.content) + compressor.flush()


def raw_zip(
    members: list[RawMember], *, prefix: bytes = b"", count: int | None = None, directory_shift: int = 0
) -> bytes:
    """Write a zip archive of these members."""
    body, directory = bytearray(prefix), bytearray()
    for member in members:
        data = member.data
        start = len(body) if member.offset is None else member.offset
        method = (8 if member.deflate else 0) if member.method is None else member.method
        crc = zlib.crc32(member.content) if member.crc is None else member.crc
        size = len(member.content) if member.declared_size is None else member.declared_size
        local_name = member.name if member.local_name is None else member.local_name
        common = struct.pack("<4H3L", member.flags, method, 0, 33, crc, len(data), size)
        if member.offset is None:
            body += b"PK\3\4" + struct.pack("<H", 20) + common + struct.pack("<2H", len(local_name), 0)
            body += local_name + data
        directory += b"PK\1\2" + struct.pack("<BBH", 20, 3, 20) + common
        directory += struct.pack("<5H2L", len(member.name), len(member.extra), 0, 0, 0, member.mode << 16, start)
        directory += member.name + member.extra
    number = len(members) if count is None else count
    end = struct.pack("<4H2LH", 0, 0, number, number, len(directory), len(body) + directory_shift, 0)
    return bytes(body + directory + b"PK\5\6" + end)


def raw_package(*more: RawMember) -> list[RawMember]:
    """The members of a package that is right, and more of them."""
    files = [RawMember(name.encode(), str(content).encode()) for name, content in package_files().items()]
    return [*files, *more]
