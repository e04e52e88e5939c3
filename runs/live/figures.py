"""The figures of a run page: layout, axes, traces and colours, defined here with plotly and sent as JSON.

A snapshot (``runs.live.snapshot``) carries

``figures``: one for each metric name and one for each system figure, metrics first, each by name::

    {"id": "metric:accuracy", "kind": "metric"|"system", "name": "accuracy", "title": "accuracy",
     "layout": {plotly layout without template},
     "traces": [{"series_id": 5, "edge_id": 0, "trace": {plotly trace without data}}, ...],
     "points": {"5": {"id": [], "step": [], "round": [], "time": [], "value": [], "flag": []}, ...}}

``prototypes``: from which the page makes what was not there when the snapshot was made. A ``points`` item of a later
frame names each new series with its first points: the page finds the figure ``kind:name``, or makes it from
``prototypes[kind].layout`` with ``names[name]`` for its title and unit, and adds a trace::

    {"metric": {"layout": {...}, "traces": {"aggregated": {...}, "client": {...}, "band_low": {...}, "band_high": {...},
                                            "band_middle": {...}}}, "system": {...}}

The traces named band draw many devices as one: from ``band_low`` to ``band_high`` filled, with a line in the middle.

``edges``: how each reporter is drawn everywhere, by edge id (0 is the aggregator)::

    {"0": {"name": "aggregated", "colour": "#206bc4", "dash": "solid"}, "3": {...}}

``names``: title, unit and fixed range of the system figures that are known. Those whose name has ``gpu.n.`` are the
rule for any GPU: ``{n}`` in the title stands for its number::

    {"cpu_utilization": {"title": "CPU", "unit": "%", "range": [0, 100]},
     "gpu.n.temperature": {"title": "GPU {n}, temperature", "unit": " °C", "range": None}, ...}

``themes``: a plotly template each for ``light`` and ``dark``, to be put into ``layout.template``.

A trace of the page is ``{...trace, x: columns[axis], y: columns.value}``, the axis being one of ``axes``:
``[{"id": "round"|"step"|"relative"|"time", "title": "Round", "type": "linear"|"date"}, ...]``. ``time`` is in seconds
(multiply by 1,000 for plotly's dates); ``relative`` is the time since the run's start. A null round (a report that
named none) has no place on the axis of rounds; where a series has no round at all, the page falls back to its steps.
System figures are drawn over one of the two times. A value is null where
``flag`` says that it was NaN (1), infinity (2) or minus infinity (3).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, cast

import plotly.graph_objects as go

from runs.models import RunDevice, Series
from runs.telemetry.charts import Columns

AGGREGATED_COLOUR = "#206bc4"
# Twelve colours that tell apart on light and dark ground; after them the same again with another dash.
CLIENT_COLOURS = (
    "#f76707", "#2fb344", "#d6336c", "#17a2b8", "#ae3ec9", "#f59f00",
    "#0ca678", "#d63939", "#4263eb", "#74b816", "#a0522d", "#7b8794",
)  # fmt: skip
BAND_COLOUR = "#f76707"
BAND_FILL = "rgba(247, 103, 7, 0.16)"
CLIENT_DASHES = ("solid", "dash", "dot", "dashdot")

AXES = [
    {"id": "round", "title": "Round", "type": "linear"},
    {"id": "step", "title": "Step", "type": "linear"},
    {"id": "relative", "title": "Time since the start", "type": "linear"},
    {"id": "time", "title": "Time", "type": "date"},
]

SYSTEM_NAMES: Mapping[str, Mapping[str, Any]] = {
    "cpu_utilization": {"title": "CPU", "unit": "%", "range": [0, 100]},
    "system_memory_utilization": {"title": "Memory", "unit": "%", "range": [0, 100]},
    "process_cpu_utilization": {"title": "CPU of the instance", "unit": "%", "range": None},
    "process_memory_in_use": {"title": "Memory of the instance", "unit": " MB", "range": None},
    "process_memory_available": {"title": "Memory left to the instance", "unit": " MB", "range": None},
    "process_cpu_threads_in_use": {"title": "Threads of the instance", "unit": "", "range": None},
    "disk_utilization": {"title": "Disk", "unit": "%", "range": [0, 100]},
    "network_sent": {"title": "Network, sent", "unit": "B/s", "range": None},
    "network_received": {"title": "Network, received", "unit": "B/s", "range": None},
}
_GPU = re.compile(r"gpu\.(\d{1,4})\.(utilization|memory_allocated|temperature|power_usage)")
_GPU_FIGURES: Mapping[str, Mapping[str, Any]] = {
    "utilization": {"title": "GPU {n}", "unit": "%", "range": [0, 100]},
    "memory_allocated": {"title": "GPU {n}, memory", "unit": "%", "range": [0, 100]},
    "temperature": {"title": "GPU {n}, temperature", "unit": " °C", "range": None},
    "power_usage": {"title": "GPU {n}, power", "unit": " W", "range": None},
}


class TraceOfSeries(TypedDict):
    series_id: int
    edge_id: int
    trace: dict[str, Any]


class Figure(TypedDict):
    id: str
    kind: str
    name: str
    title: str
    layout: dict[str, Any]
    traces: list[TraceOfSeries]
    points: dict[str, Columns]


class EdgeStyle(TypedDict):
    name: str
    colour: str
    dash: str


class Figures(TypedDict):
    """Everything that a page needs to draw a run's charts."""

    figures: list[Figure]
    prototypes: dict[str, Any]
    edges: dict[str, EdgeStyle]
    names: dict[str, Mapping[str, Any]]
    themes: dict[str, Any]
    axes: list[dict[str, str]]


def figures_of(parts: Iterable[RunDevice], series: Sequence[Series], points: Mapping[int, Columns]) -> Figures:
    """Build the figures of a run.

    Args:
        parts: the run's devices, with ``device`` fetched.
        series: all series of the run.
        points: the columns of each series, by its id.
    """
    edges = edge_styles(parts)
    figures: dict[tuple[str, str], Figure] = {}
    for one in sorted(series, key=lambda one: (one.kind, one.name, one.edge_id)):
        figure = figures.get((one.kind, one.name))
        if figure is None:
            figure = figures[one.kind, one.name] = _figure(one.kind, one.name)
        style = edges.get(str(one.edge_id)) or _client_style(one.edge_id, f"device {one.edge_id}")
        trace = _trace(_trace_prototypes(one.kind)["client" if one.edge_id else "aggregated"], style)
        figure["traces"].append({"series_id": one.pk, "edge_id": one.edge_id, "trace": trace})
        figure["points"][str(one.pk)] = points[one.pk]
    system = {name for kind, name in figures if kind == "system"} | set(SYSTEM_NAMES)
    return {
        "figures": list(figures.values()),
        "prototypes": prototypes(),
        "edges": edges,
        "names": _names(system),
        "themes": themes(),
        "axes": AXES,
    }


def edge_styles(parts: Iterable[RunDevice]) -> dict[str, EdgeStyle]:
    """Return how each reporter of a run is drawn; a device has the same colour in every run."""
    styles: dict[str, EdgeStyle] = {"0": {"name": "aggregated", "colour": AGGREGATED_COLOUR, "dash": "solid"}}
    for part in parts:
        styles[str(part.edge_id)] = _client_style(
            part.edge_id, part.device.name if part.device else f"device {part.edge_id}"
        )
    return styles


def system_name(name: str) -> Mapping[str, Any] | None:
    """Return title, unit and range of a system figure, or None for one that is not known."""
    if name in SYSTEM_NAMES:
        return SYSTEM_NAMES[name]
    gpu = _GPU.fullmatch(name)
    if gpu is None:
        return None
    described = _GPU_FIGURES[gpu[2]]
    return {**described, "title": str(described["title"]).format(n=gpu[1])}


def _names(system: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    rules = {f"gpu.n.{figure}": described for figure, described in _GPU_FIGURES.items()}
    return rules | {name: described for name in sorted(system) if (described := system_name(name))}


@functools.cache
def prototypes() -> dict[str, Any]:
    """Return layout and traces from which a page makes a figure that is new to it."""
    return {
        kind: {"layout": _layout(kind, "", None), "traces": _trace_prototypes(kind)} for kind in ("metric", "system")
    }


@functools.cache
def themes() -> dict[str, Any]:
    """Return a plotly template each for the light and the dark page."""
    return {
        "light": _theme(ink="#1d2b30", faint="#66757a", grid="#eae8e1", ground="#ffffff"),
        "dark": _theme(ink="#dbe4e5", faint="#8b9da1", grid="#243136", ground="#1b272b"),
    }


def _figure(kind: str, name: str) -> Figure:
    described = system_name(name) if kind == "system" else None
    title = str(described["title"]) if described else name
    return {
        "id": f"{kind}:{name}",
        "kind": kind,
        "name": name,
        "title": title,
        "layout": _layout(kind, title, described),
        "traces": [],
        "points": {},
    }


def _layout(kind: str, title: str, described: Mapping[str, Any] | None) -> dict[str, Any]:
    # Plotly reads a little HTML in texts: a name comes from a device, so that its < and & are written out.
    layout = json.loads(_layout_json(kind))
    layout["title"]["text"] = title.replace("&", "&amp;").replace("<", "&lt;")
    layout["yaxis"]["ticksuffix"] = str(described["unit"]) if described else ""
    if described and described["range"]:
        layout["yaxis"]["range"] = list(described["range"])
    return cast("dict[str, Any]", layout)


@functools.cache
def _layout_json(kind: str) -> str:
    time = kind == "system"
    layout = go.Layout(
        title={"text": "", "font": {"size": 14}, "x": 0.01, "xanchor": "left", "y": 0.97, "yanchor": "top"},
        margin={"l": 56, "r": 16, "t": 36, "b": 40},
        height=300,
        autosize=True,
        hovermode="x unified",
        showlegend=True,
        legend={"orientation": "h", "y": -0.22, "x": 0, "font": {"size": 11}},
        xaxis={
            "title": {"text": "Time" if time else "Round"},
            "type": "date" if time else "linear",
            "showspikes": True,
            "spikemode": "across",
            "spikesnap": "cursor",
            "spikethickness": 1,
            "spikedash": "solid",
        },
        yaxis={"automargin": True, "separatethousands": False, "exponentformat": "SI" if time else "power"},
        uirevision="run",
    )
    return json.dumps(layout.to_plotly_json())


@functools.cache
def _trace_prototypes(kind: str) -> dict[str, Any]:
    template = "%{y:.5~g}" if kind == "metric" else "%{y:.4~s}"
    aggregated = go.Scatter(
        mode="lines+markers" if kind == "metric" else "lines",
        line={"color": AGGREGATED_COLOUR, "width": 3, "dash": "solid"},
        marker={"size": 5},
        connectgaps=False,
        hovertemplate=template,
        legendrank=1,
    )
    client = go.Scatter(
        mode="lines",
        line={"color": CLIENT_COLOURS[0], "width": 1.3, "dash": "solid"},
        opacity=0.85,
        connectgaps=False,
        hovertemplate=template,
        legendrank=1000,
    )
    edge = go.Scatter(mode="lines", line={"width": 0}, hoverinfo="skip", connectgaps=False)
    filled = go.Scatter(edge, fill="tonexty", fillcolor=BAND_FILL)
    middle = go.Scatter(
        mode="lines",
        line={"color": BAND_COLOUR, "width": 1.8},
        connectgaps=False,
        hovertemplate=f"{template} (%{{customdata[0]:.3~g}} to %{{customdata[1]:.3~g}})",
        legendrank=500,
    )
    traces = {"aggregated": aggregated, "client": client}
    traces |= {"band_low": edge, "band_high": filled, "band_middle": middle}
    return {name: trace.to_plotly_json() for name, trace in traces.items()}


def _trace(prototype: dict[str, Any], style: EdgeStyle) -> dict[str, Any]:
    name = style["name"].replace("&", "&amp;").replace("<", "&lt;")
    line = {**prototype["line"], "color": style["colour"], "dash": style["dash"]}
    return {**prototype, "name": name, "line": line}


def _client_style(edge_id: int, name: str) -> EdgeStyle:
    turn, place = divmod(edge_id - 1, len(CLIENT_COLOURS))
    return {"name": name, "colour": CLIENT_COLOURS[place], "dash": CLIENT_DASHES[turn % len(CLIENT_DASHES)]}


def _theme(*, ink: str, faint: str, grid: str, ground: str) -> dict[str, Any]:
    axis = {
        "gridcolor": grid,
        "linecolor": grid,
        "zerolinecolor": grid,
        "spikecolor": faint,
        "tickfont": {"color": faint},
        "title": {"font": {"color": faint, "size": 12}},
    }
    template = go.layout.Template(
        layout=go.Layout(
            font={"color": ink, "family": "Inter, system-ui, sans-serif", "size": 12},
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            xaxis=axis,
            yaxis=axis,
            hoverlabel={"bgcolor": ground, "bordercolor": grid, "font": {"color": ink}},
            legend={"font": {"color": faint}},
        )
    )
    return cast("dict[str, Any]", template.to_plotly_json())
