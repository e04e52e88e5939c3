"""A run as TensorBoard event files: one folder a reporter, in one archive."""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from exports.tables import chunks
from runs.models import Run

FILE_VERSION = "brain.Event:2"
_OUTSIDE = re.compile(r"[^A-Za-z0-9._ ()-]+")


@contextmanager
def tensorboard_archive(run: Run) -> Iterator[Path]:
    """Write the archive to a temporary file, which is there for as long as the context.

    Steps are whole numbers in TensorBoard: a point whose step is not gets the whole number below. Figures of the system
    are among the others, below ``system/``.
    """
    with tempfile.TemporaryDirectory(dir=settings.FILE_UPLOAD_TEMP_DIR, prefix="export-") as name:
        folder = Path(name)
        _events_write(run, folder / "events")
        path = folder / "tensorboard.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for file in sorted((folder / "events").rglob("*.roundtable")):
                archive.write(file, file.relative_to(folder / "events"))
        shutil.rmtree(folder / "events")
        yield path


def _events_write(run: Run, folder: Path) -> None:
    folder.mkdir()
    begun = int((run.started_at or run.created_at).timestamp())
    writer: RecordWriter | None = None
    writers_edge: int | None = None
    for series, reporter, points in chunks(run):
        if writer is None or series.edge_id != writers_edge:
            if writer is not None:
                writer.close()
            name = _OUTSIDE.sub("_", reporter).strip(". ") or f"device {series.edge_id}"
            (folder / name).mkdir(exist_ok=True)
            # The place of the edge id keeps apart reporters whose names are the same once cleaned.
            path = folder / name / f"events.out.tfevents.{begun:010d}.{series.edge_id}.roundtable"
            writer, writers_edge = RecordWriter(str(path)), series.edge_id
            writer.write(Event(wall_time=begun, file_version=FILE_VERSION).SerializeToString())
        tag = series.name if series.kind == "metric" else f"{series.kind}/{series.name}"
        for step, time, value in zip(*(points[name].tolist() for name in ("step", "time", "value")), strict=True):
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            writer.write(Event(wall_time=time, step=int(step // 1), summary=summary).SerializeToString())
    if writer is not None:
        writer.close()
