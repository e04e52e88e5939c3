"""What the endpoints of charts have in common: reading a question, and answering it, from a cache where it is there.

An answer depends on the points of its series alone, and a run's frame number moves with every change of what is stored
of it. So an answer is kept, here and in the browser, under the question and the frame numbers of its runs: of an ended
run for as long as there is room.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import orjson
import redis
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control, patch_vary_headers

from runs.live.snapshot import database_snapshot
from runs.models import Run, Series
from runs.states import RunState
from runs.telemetry.blocks import Axis
from runs.telemetry.charts import SERIES_POINTS, columns_of, window_columns
from runs.telemetry.columns import NAMES, Array, Name, PointColumns
from runs.telemetry.windows import Window

logger = logging.getLogger(__name__)

ChartAxis = Literal["step", "round", "time", "relative"]
CHART_AXES: tuple[ChartAxis, ...] = get_args(ChartAxis)

SERIES_MAX = 200
WIDTH_LEAST, WIDTH_MAX = 8, 4_000
ANSWER_POINTS = 200_000  # of all series of an answer together: 100 series of 2,000 points
BINARY_TYPE = "application/vnd.roundtable.points"

_FORMAT = 1  # of what is cached
_CACHED_MOST = 4 * 2**20  # bytes
_KEPT_SECONDS, _KEPT_LIVE_SECONDS = 30 * 86_400, 60
_PACKED_LEAST = 1_400  # bytes: less is one packet anyway


class BadQuery(Exception):
    """A parameter that is not as it should be; the text says how it should be."""


@dataclass(frozen=True)
class Question:
    """What a chart asks for; see ``runs.views.run_chart.run_chart``."""

    series_ids: tuple[int, ...]
    axis: ChartAxis
    low: float | None
    high: float | None
    width: int
    binary: bool
    columns: tuple[Name, ...]

    @classmethod
    def of(cls, request: HttpRequest) -> Question:
        """Read the question out of a request.

        Raises:
            BadQuery: a parameter is wrong.
        """
        texts = request.GET.get("series", "").split(",")
        ids = tuple(sorted({int(text) for text in texts if re.fullmatch(r"[0-9]{1,18}", text)}))
        if not ids or len(texts) > SERIES_MAX:
            raise BadQuery(f"series are 1 to {SERIES_MAX} ids, separated by commas")
        axis = request.GET.get("x", "step")
        if axis not in CHART_AXES:
            raise BadQuery(f"x is one of {', '.join(CHART_AXES)}")
        form = request.GET.get("format", "json")
        if form not in ("json", "binary"):
            raise BadQuery("format is json or binary")
        return cls(
            ids,
            axis,
            _bound(request, "from"),
            _bound(request, "to"),
            min(_width(request), max(WIDTH_LEAST, ANSWER_POINTS // len(ids))),
            form == "binary",
            _columns(request),
        )

    @property
    def stored_axis(self) -> Axis:
        return "time" if self.axis == "relative" else self.axis


def chart_answer(request: HttpRequest, question: Question, series: Sequence[Series]) -> HttpResponse:
    """Answer a question about series that the user may see; they come with their runs."""
    runs = {one.run_id: one.run for one in series}
    key = _key(question, series, runs)
    etag = f'"{key}"'
    if request.headers.get("If-None-Match") in (etag, f"W/{etag}"):
        response = HttpResponse(status=304)
    else:
        packed = "gzip" in request.headers.get("Accept-Encoding", "") and not question.binary
        response = HttpResponse(
            _content(question, series, runs, key, packed),
            content_type=BINARY_TYPE if question.binary else "application/json",
        )
        if response.content[:2] == b"\x1f\x8b":
            response["Content-Encoding"] = "gzip"
    response["ETag"] = etag
    patch_cache_control(response, private=True, no_cache=True)
    patch_vary_headers(response, ["Accept-Encoding"])
    return response


def answer_make(question: Question, series: Sequence[Series], runs: Mapping[int, Run]) -> bytes:
    """Read the points and write them down, in JSON or in binary, without looking into the cache."""
    ids = [one.pk for one in series]
    origins = np.array([_origin(runs[one.run_id]) for one in series], np.float64)
    is_relative = question.axis == "relative"
    window = Window(question.stored_axis, question.low, question.high, origins if is_relative else None)
    with database_snapshot():
        found = window_columns(ids, window, question.width, question.columns if question.binary else NAMES)
    if question.binary:
        return _binary(question, found, dict(zip(ids, origins, strict=True)))
    content = {"x": question.axis, "points": {series_id: columns_of(points) for series_id, points in found.items()}}
    if is_relative:
        content["origins"] = dict(zip(ids, origins.tolist(), strict=True))
    return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)


def _binary(question: Question, found: Mapping[int, PointColumns], origins: Mapping[int, float]) -> bytes:
    """A line of JSON, filled up with spaces to a multiple of 8 bytes, and then each column of all series as float64."""
    names: list[str] = ["x", "value", *question.columns]
    head = orjson.dumps(
        {
            "x": question.axis,
            "columns": names,
            "series": [[series_id, len(points["value"])] for series_id, points in found.items()],
        }
    )
    parts = [head + b" " * (7 - len(head) % 8) + b"\n"]
    for name in names:
        for series_id, points in found.items():
            column: Array = points[question.stored_axis if name == "x" else name]  # type: ignore[index]
            if name == "x" and question.axis == "relative":
                column = column - origins[series_id]
            parts.append(column.astype("<f8", copy=False).tobytes())
    return b"".join(parts)


def _content(question: Question, series: Sequence[Series], runs: Mapping[int, Run], key: str, packed: bool) -> bytes:
    place = f"chart:{key}:{'gzip' if packed else 'plain'}"
    content = _cache_get(place)
    if content is None:
        content = answer_make(question, series, runs)
        if packed and len(content) >= _PACKED_LEAST:
            content = gzip.compress(content, compresslevel=1, mtime=0)
        if len(content) <= _CACHED_MOST:
            is_over = all(run.state in RunState.ended() for run in runs.values())
            _cache_set(place, content, _KEPT_SECONDS if is_over else _KEPT_LIVE_SECONDS)
    return content


def _cache_get(place: str) -> bytes | None:
    try:
        found = cache.get(place)
    except (redis.RedisError, OSError):
        return None  # it is only quicker with Redis
    return found if isinstance(found, bytes) else None


def _cache_set(place: str, content: bytes, seconds: int) -> None:
    try:
        cache.set(place, content, seconds)
    except (redis.RedisError, OSError) as error:
        logger.debug("An answer of a chart was not cached: %s", error)


def _key(question: Question, series: Sequence[Series], runs: Mapping[int, Run]) -> str:
    """A digest of what decides about the answer. A run's number may come again after the database was replaced."""
    versions = [(run.pk, run.frame_number, run.created_at.timestamp(), _origin(run)) for _, run in sorted(runs.items())]
    text = repr((_FORMAT, question, [one.pk for one in series], versions))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _origin(run: Run) -> float:
    """What relative times of a run are counted from: its start, or where it has none, when it was made."""
    return (run.started_at or run.created_at).timestamp()


def _bound(request: HttpRequest, name: str) -> float | None:
    text = request.GET.get(name, "")
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadQuery(f"{name} is a number, or empty")
    return number


def _width(request: HttpRequest) -> int:
    text = request.GET.get("width") or str(SERIES_POINTS)
    if not re.fullmatch(r"[0-9]{1,5}", text) or not WIDTH_LEAST <= int(text) <= WIDTH_MAX:
        raise BadQuery(f"width is {WIDTH_LEAST} to {WIDTH_MAX}")
    return int(text)


def _columns(request: HttpRequest) -> tuple[Name, ...]:
    wanted = [text for text in request.GET.get("columns", "").split(",") if text]
    known = {name: name for name in NAMES if name != "value"}
    if not set(wanted) <= set(known):
        raise BadQuery(f"columns are some of {', '.join(known)}, separated by commas")
    return tuple(name for name in known if name in wanted)
