"""Log lines of a run."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from api.auth import READ, user_of
from api.problems import ApiProblem
from api.routers.runs import LOOK_SECONDS, Wait
from api.schemas import ID_MAX, Id
from runs.access import run_for_user
from runs.log_search import TEXT_MAX, LogQuery, lines_page
from runs.states import RunState

router = Router()

LINES_MAX = 5_000


class LineOut(Schema):
    """A line that a reporter wrote."""

    id: int
    reporter: str = Field(description="server, edge:<id> or stage:<name>")
    time: float = Field(description="seconds since the epoch")
    stream: str
    level: str
    line: str


class LinesOut(Schema):
    """Log lines, in the order in which they arrived."""

    lines: list[LineOut]
    more: bool = Field(description="more lines match, on the side that was asked for")
    cursor: int = Field(description="send it as `after` for what comes later")
    ended: bool = Field(description="the run is over")


class LineQuery(Schema):
    """Which lines are wanted."""

    reporter: str = Field(default="", pattern=r"^(server|edge:[0-9]{1,18}|stage:[a-z_]{1,30})?$")
    level: Literal["", "DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="", description="the least level")
    q: str = Field(default="", max_length=TEXT_MAX, description="what a line contains")
    since: float | None = Field(default=None, allow_inf_nan=False, description="seconds since the epoch, included")
    until: float | None = Field(default=None, allow_inf_nan=False, description="seconds since the epoch, included")
    before: int | None = Field(default=None, ge=0, le=ID_MAX, description="lines before this id; the last ones of them")
    after: int | None = Field(default=None, ge=0, le=ID_MAX, description="lines after this id; the first ones of them")
    limit: int = Field(default=1000, ge=1, le=LINES_MAX)


@router.get("/runs/{run_id}/logs", auth=READ, response=LinesOut, summary="Show log lines")
async def log_lines(request: HttpRequest, run_id: Id, query: Query[LineQuery], wait: Wait = 0.0) -> LinesOut:
    """The last lines; with `after` the following ones, for which `wait` waits as long as there are none."""
    if query.before is not None and query.after is not None:
        raise ApiProblem(422, "invalid", "Send either before or after.")
    user = user_of(request)
    deadline = time.monotonic() + wait
    while True:
        found = await sync_to_async(_read)(user, run_id, query)
        if found.lines or found.more or query.after is None or found.ended or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(LOOK_SECONDS)


def _read(user: User, run_id: int, query: LineQuery) -> LinesOut:
    run = run_for_user(user, run_id)
    ended = run.state in RunState.ended()  # read first: what comes after the lines is not missed
    wanted = LogQuery(text=query.q, level=query.level, reporter=query.reporter, since=query.since, until=query.until)
    page = lines_page(run.pk, wanted, limit=query.limit, before=query.before, after=query.after)
    lines = [LineOut.model_validate(dict(zip(_COLUMNS, row, strict=True))) for row in page.lines]
    return LinesOut(
        lines=lines,
        more=page.more,
        cursor=lines[-1].id if lines else page.next_id or query.after or 0,
        ended=ended,
    )


_COLUMNS = ("id", "reporter", "time", "stream", "level", "line")
