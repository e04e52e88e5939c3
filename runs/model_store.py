"""Weights that instances store: files in the default storage, and a row for each of them.

What a reporter announces over MQTT and what it sends over HTTP come in any order, and either may come twice: both are
merged into one row, which the digest of the bytes names within its run, reporter, kind and round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.db import IntegrityError, transaction

from configurations import store
from runs.live.broadcast import frame_record
from runs.live.payloads import model_item
from runs.models import ModelKind, Run, StoredModel
from runs.safetensors import NotSafetensors, Readable, safetensors_check
from runs.telemetry.payloads import ModelPayload
from runs.telemetry.refusals import Reason, Refused

CHUNK_BYTES = 1024 * 1024


class ModelRefused(Exception):
    """The bytes are not kept; ``str(error)`` says why and what to do.

    Attributes:
        too_large: they are more than is allowed.
    """

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


def model_key(kind: str, edge_id: int, round_index: int, sha256: str) -> str:
    """Return the name of a model in the HTTP interface: the same bytes of the same origin have the same name."""
    return f"{kind}-{edge_id}-{round_index}-{sha256[:12]}"


def model_keep(
    *, run_id: int, edge_id: int, kind: ModelKind, round_index: int, sha256: str, body: Readable
) -> tuple[StoredModel, bool]:
    """Keep the bytes of a model.

    They go to a temporary file while they are read, are checked there, and are moved to their place: a model is in the
    store whole or not at all. The same model again changes nothing.

    Args:
        run_id: the run.
        edge_id: the reporter; 0 is the aggregator.
        kind: what the weights are.
        round_index: the round in which they were made; -1 before the first.
        sha256: the digest that the bytes are to have.
        body: the bytes of a safetensors file.

    Returns:
        The row, and whether its bytes are new.

    Raises:
        ModelRefused: too large, another digest, or not a safetensors file.
        Run.DoesNotExist: the run was deleted.
    """
    file = _receive(body, sha256)
    try:
        _check(file)
        name = f"models/{run_id}/{sha256}.safetensors"
        store.put(file, name)
        return _row_keep(run_id, edge_id, kind, round_index, sha256, file.size or 0, name)
    finally:
        file.close()


def model_announce(run_id: int, edge_id: int, payload: ModelPayload) -> StoredModel:
    """Note what a reporter says of a model, whose bytes may be there or not.

    To be called in a transaction that holds the run's row. The key that the reporter gives is not taken on trust: it
    follows from the rest.

    Raises:
        Refused: the digest differs from that of another model of the round in its last digits alone, which no two
            files do.
    """
    try:
        row, created = StoredModel.objects.get_or_create(
            run_id=run_id,
            edge_id=edge_id,
            kind=payload.kind,
            round_index=payload.round_index,
            sha256=payload.sha256,
            defaults={
                "key": model_key(payload.kind, edge_id, payload.round_index, payload.sha256),
                "size": payload.size,
                "storage_name": "",
                "metrics": _metrics(payload),
            },
        )
    except IntegrityError as error:
        raise Refused(Reason.SCHEMA, "sha256: begins like that of another model of this round; is it one?") from error
    if not created and payload.metrics:
        row.metrics = {**row.metrics, **_metrics(payload)}
        row.save(update_fields=["metrics"])
    return row


def model_for_reporter(run: Run, edge_id: int, key: str) -> StoredModel | None:
    """Return a stored model that a reporter may read: the aggregator all, a client the aggregated ones and its own."""
    models = StoredModel.objects.filter(run=run, key=key).exclude(storage_name="")
    model = models.first()
    if model is None or (edge_id != 0 and model.kind != ModelKind.AGGREGATED and model.edge_id != edge_id):
        return None
    return model


def model_copy(model: StoredModel, run_id: int) -> StoredModel:
    """Copy a model into another run, as its aggregated one of before the first round.

    Raises:
        FileNotFoundError: its bytes are not in the store.
    """
    name = f"models/{run_id}/{model.sha256}.safetensors"
    with model_path(model).open("rb") as source:
        chunks = iter(lambda: source.read(CHUNK_BYTES), b"")
        file = store.temporary_file(
            "model.safetensors", chunks, model.size, ModelRefused("The stored model has grown.")
        )
    try:
        store.put(file, name)
    finally:
        file.close()
    return _row_keep(run_id, 0, ModelKind.AGGREGATED, -1, model.sha256, model.size, name)[0]


def model_path(model: StoredModel) -> Path:
    """Return a model's bytes on the local disk.

    Raises:
        FileNotFoundError: they have not arrived, or are missing in the store.
    """
    if not model.storage_name:
        raise FileNotFoundError(f"the bytes of {model.key} have not arrived")
    return store.local_path(model.storage_name)


def _receive(body: Readable, sha256: str) -> TemporaryUploadedFile:
    limit = settings.MODEL_MAX_BYTES
    digest = hashlib.sha256()

    def chunks() -> Iterator[bytes]:
        while chunk := body.read(CHUNK_BYTES):
            digest.update(chunk)
            yield chunk

    too_large = ModelRefused(
        f"The model is larger than the {limit // (1024 * 1024)} MiB that are allowed (ROUNDTABLE_MODEL_MAX_MIB).",
        too_large=True,
    )
    file = store.temporary_file("model.safetensors", chunks(), limit, too_large)
    if digest.hexdigest() != sha256:
        file.close()
        raise ModelRefused(
            "The bytes do not have the digest of the `sha256` parameter: they were changed on the way, or it is the "
            "digest of something else. Send the file again with the sha256 of exactly these bytes."
        )
    return file


def _check(file: TemporaryUploadedFile) -> None:
    file.seek(0)
    try:
        safetensors_check(file, file.size or 0)
    except NotSafetensors as error:
        raise ModelRefused(f"This is not a safetensors file: {error}. Save the weights in that format.") from error
    finally:
        file.seek(0)


def _row_keep(
    run_id: int, edge_id: int, kind: ModelKind, round_index: int, sha256: str, size: int, name: str
) -> tuple[StoredModel, bool]:
    with transaction.atomic():
        Run.objects.select_for_update(no_key=True).get(pk=run_id)  # the same order of locks as the ingest worker's
        row, created = StoredModel.objects.get_or_create(
            run_id=run_id,
            edge_id=edge_id,
            kind=kind,
            round_index=round_index,
            sha256=sha256,
            defaults={
                "key": model_key(kind, edge_id, round_index, sha256),
                "size": size,
                "storage_name": name,
                "metrics": {},
            },
        )
        new = created or not row.storage_name
        if not created and (row.storage_name, row.size) != (name, size):
            row.storage_name, row.size = name, size
            row.save(update_fields=["storage_name", "size"])
        if new:
            frame_record(run_id, [model_item(row)])
    return row, new


def _metrics(payload: ModelPayload) -> dict[str, float | str]:
    """The metrics as JSON can hold them: a number that reads as an infinity becomes the string of the protocol."""
    return {name: value if isinstance(value, str) else _number(value) for name, value in payload.metrics.items()}


def _number(value: float) -> float | str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value
