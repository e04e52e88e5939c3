"""Recording what changed in a run, so that every open page of it hears of it, in order and exactly once.

A frame belongs to the transaction that makes the change it tells of. Its number comes from an UPDATE of the run's row,
whose lock is held until the commit: frames of a run are numbered in the order of their commits, without gaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import orjson
from django.db import connection, transaction

from runs.live.frames import Frame, frames_send
from runs.live.payloads import Item, log_item
from runs.models import LogLine, Run
from runs.telemetry.levels import level_of

LINE_MAX_BYTES = 8 * 1024
_ROWS_AT_ONCE = 1_000


def frame_record(run_id: int, items: Sequence[Item]) -> int:
    """Give the run its next frame, which is sent to the open pages once the transaction is committed.

    Takes the lock of the run's row and holds it until the end of the transaction.

    Args:
        run_id: the run in which something changed.
        items: what changed (``runs.live.payloads``); values are those after the change.

    Returns:
        The number of the frame.

    Raises:
        Run.DoesNotExist: the run was deleted.
        TransactionManagementError: called outside a transaction.
    """
    return frames_record({run_id: items})[run_id]


def frames_record(items_by_run: Mapping[int, Sequence[Item]]) -> dict[int, int]:
    """Do what ``frame_record`` does for several runs at once, with one message to Redis after the commit.

    The runs' rows are locked in the order of their ids, so that two callers never wait for each other.

    Returns:
        The number of each run's frame.
    """
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("A frame is recorded in the transaction of what it tells of.")
    frames = []
    for run_id in sorted(items_by_run):
        data = items_encode(items_by_run[run_id])
        frames.append(Frame(run_id, _next_number(run_id), data))
    transaction.on_commit(lambda: _send(frames))
    return {frame.run_id: frame.number for frame in frames}


def log_lines_record(run_id: int, reporter: str, lines: Iterable[tuple[float, str, str]]) -> None:
    """Store log lines that the platform itself wrote, and send them to the open pages.

    Args:
        run_id: the run that they are of.
        reporter: ``stage:<name>``, ``server`` or ``edge:<id>``.
        lines: (time, stream, line); a line longer than 8 KiB is cut.
    """
    rows = []
    for time, stream, text in lines:
        line = line_clean(text)
        rows.append(
            LogLine(run_id=run_id, reporter=reporter, time=time, stream=stream, level=level_of(line), line=line)
        )
    if not rows:
        return
    with transaction.atomic():
        stored = LogLine.objects.bulk_create(rows, batch_size=_ROWS_AT_ONCE)
        frame_record(
            run_id,
            [log_item(reporter, [(row.pk, row.time, row.stream, row.level, row.line) for row in stored])],
        )


def line_clean(text: str) -> str:
    """Return a log line as it is stored: at most 8 KiB, without its line end and without NUL and lone surrogates."""
    data = text.rstrip("\r\n").replace("\x00", "\ufffd").encode("utf-8", "replace")
    if len(data) > LINE_MAX_BYTES:
        data = data[: LINE_MAX_BYTES - 4] + b" ..."
    return data.decode("utf-8", "ignore")


def items_encode(items: Sequence[Item]) -> str:
    """Encode items as JSON, separated by commas, without the enclosing brackets, so that frames can be joined."""
    return orjson.dumps(items)[1:-1].decode()


def _next_number(run_id: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE runs_run SET frame_number = frame_number + 1 WHERE id = %s RETURNING frame_number", [run_id]
        )
        row = cursor.fetchone()
    if row is None:
        raise Run.DoesNotExist(f"run {run_id} was deleted")
    return int(row[0])


def _send(frames: Sequence[Frame]) -> None:
    frames_send(frames)
