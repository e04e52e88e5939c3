"""Runs beside each other: their curves, what differs in their configurations, and values against results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import plotly.graph_objects as go

from configurations.rows import SECTIONS, value_text
from runs.live.figures import CLIENT_COLOURS, CLIENT_DASHES
from runs.live.snapshot import database_snapshot
from runs.models import Run, Series
from runs.telemetry.best import more_is_better
from runs.telemetry.charts import Columns, window_points

METRICS_MAX = 12  # figures
CURVE_POINTS = 500  # of each run


@dataclass(frozen=True)
class ParameterRow:
    """One value of the configurations, a text for each run."""

    name: str
    texts: list[str]

    @property
    def differs(self) -> bool:
        """Whether two of the runs have another value."""
        return len(set(self.texts)) > 1


def parameter_rows(runs: Sequence[Run]) -> list[ParameterRow]:
    """Return every value of the runs' configurations, those that differ first."""
    own = [_values(run) for run in runs]
    names = list(dict.fromkeys(name for values in own for name in values))
    rows = [
        ParameterRow(name, [value_text(values[name]) if name in values else "-" for values in own]) for name in names
    ]
    return sorted(rows, key=lambda row: not row.differs)


def curve_figures(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return a figure for each metric that the runs' aggregators reported, a curve a run, over the rounds."""
    names = {run.pk: _name(run) for run in runs}
    with database_snapshot():
        series = list(Series.objects.filter(run__in=runs, edge_id=0, kind="metric").order_by("name", "run_id"))
        points = window_points(series, axis="step", width=CURVE_POINTS)
    figures: dict[str, go.Figure] = {}
    places = {run.pk: place for place, run in enumerate(runs)}
    for one in series:
        if one.name not in figures and len(figures) == METRICS_MAX:
            continue
        figure = figures.setdefault(one.name, go.Figure(layout=_layout(one.name, "Round")))
        columns = points[one.pk]
        figure.add_trace(
            go.Scatter(
                name=names[one.run_id],
                x=_rounds(columns),
                y=columns["value"],
                mode="lines",
                line=_line(places[one.run_id]),
            )
        )
    return [_json(figure) for figure in figures.values()]


def parameter_figures(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return parallel coordinates of the numbers that differ and the best result, and a scatter for each of them."""
    found = [run for run in runs if _best(run) is not None]
    values = [_values(run) for run in found]
    names = sorted({name for own in values for name, value in own.items() if _is_number(value)})
    names = [name for name in names if len({own.get(name) for own in values}) > 1]
    if len(found) < 2 or not names:
        return []
    result = str(cast("Mapping[str, Any]", found[0].best_metric)["name"])
    figures = [_parallel(found, values, names, result)]
    for name in names:
        figure = go.Figure(layout=_layout(f"{result} against {name.rpartition('.')[2]}", name.rpartition(".")[2]))
        for place, (run, own) in enumerate(zip(found, values, strict=True)):
            marker = {"size": 10, "color": _line(place)["color"]}
            x, y = [own.get(name)], [_best(run)]
            figure.add_trace(go.Scatter(name=_name(run), x=x, y=y, mode="markers", marker=marker))
        figures.append(_json(figure))
    return figures


def _parallel(
    runs: Sequence[Run], values: Sequence[Mapping[str, Any]], names: Sequence[str], result: str
) -> dict[str, Any]:
    """One line a run over an axis a value: each from its least (0) to its greatest (1), the result last."""
    columns = [[own.get(name) for own in values] for name in names] + [[_best(run) for run in runs]]
    axes = [*(name.rpartition(".")[2] for name in names), result]
    figure = go.Figure(layout=_layout("Values and result of each run", ""))
    for place, run in enumerate(runs):
        own = [column[place] for column in columns]
        scaled = [_scaled(column, value) for column, value in zip(columns, own, strict=True)]
        figure.add_trace(
            go.Scatter(
                name=_name(run), x=axes, y=scaled, mode="lines+markers", text=[str(value) for value in own],
                hovertemplate="%{x}: %{text}", line=_line(place),
            )
        )  # fmt: skip
    figure.update_layout(yaxis={"showticklabels": False, "range": [-0.05, 1.05]}, hovermode="closest")
    return _json(figure)


def best_run(runs: Sequence[Run]) -> Run | None:
    """Return the run with the best result of those whose best metric has the same name; None for fewer than two."""
    found = [run for run in runs if _best(run) is not None]
    names = {run.best_metric["name"] for run in found if run.best_metric}
    if len(found) < 2 or len(names) != 1:
        return None
    more = more_is_better(next(iter(names)))
    return (min if more is False else max)(found, key=lambda run: _best(run) or 0.0)


def _values(run: Run) -> dict[str, Any]:
    copy = run.configuration_copy
    return {f"{section}.{row['name']}": row["value"] for section in SECTIONS for row in copy.get(section, [])}


def _best(run: Run) -> float | None:
    value: Any = (run.best_metric or {}).get("value")
    return float(value) if _is_number(value) and math.isfinite(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scaled(column: Sequence[Any], value: Any) -> float | None:
    numbers = [each for each in column if each is not None]
    if value is None:
        return None
    return (value - min(numbers)) / (max(numbers) - min(numbers)) if max(numbers) > min(numbers) else 0.5


def _rounds(columns: Columns) -> list[float]:
    return [
        step if round_ is None else round_ + 1 for step, round_ in zip(columns["step"], columns["round"], strict=True)
    ]


def _name(run: Run) -> str:
    return run.name.replace("&", "&amp;").replace("<", "&lt;")


def _line(place: int) -> dict[str, Any]:
    turn, colour = divmod(place, len(CLIENT_COLOURS))
    return {"color": CLIENT_COLOURS[colour], "dash": CLIENT_DASHES[turn % len(CLIENT_DASHES)], "width": 2}


def _layout(title: str, x: str) -> go.Layout:
    return go.Layout(
        title={"text": title.replace("&", "&amp;").replace("<", "&lt;"), "font": {"size": 14}, "x": 0.01},
        margin={"l": 56, "r": 16, "t": 40, "b": 44},
        height=320,
        hovermode="x unified",
        showlegend=True,
        legend={"orientation": "h", "y": -0.25},
        xaxis={"title": {"text": x.replace("&", "&amp;").replace("<", "&lt;")}},
        yaxis={"automargin": True},
    )


def _json(figure: go.Figure) -> dict[str, Any]:
    return {"data": [trace.to_plotly_json() for trace in figure.data], "layout": figure.layout.to_plotly_json()}
