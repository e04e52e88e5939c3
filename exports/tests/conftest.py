"""A run that two devices and an aggregator reported in."""

from __future__ import annotations

import pytest

from runs.models import Run
from runs.telemetry.series import SeriesBook
from runs.telemetry.storage import reports_store
from runs.telemetry.topics import Kind
from runs.tests.rows import edges, metrics, report, run_make


@pytest.fixture
def run(db: None) -> Run:
    """Points of every kind of value, a point without a round, and a name that a spreadsheet would compute."""
    run = run_make(devices=2)
    run.name = "quiet heron/7"
    run.configuration_copy = {
        "name": "FedAvg",
        "model_config": [{"name": "modelName", "type": "string", "value": "lr"}],
        "hyperparameters_config": [{"name": "lr", "type": "float", "value": 0.03}],
    }
    run.save()
    first, second = edges(run)
    points = [("acc", 0, 0.5, 0), ("acc", 1, "NaN", 1), ("acc", 2, "Infinity", 2), ("acc", 2.5, "-Infinity")]
    reports_store(
        [
            report(run, 0, Kind.METRICS, metrics(1, *points)),
            report(run, first, Kind.METRICS, metrics(1, ("loss", 0, 1.25, 0), ("loss", 1, 0.75, 1))),
            report(run, second, Kind.METRICS, metrics(1, ("-1", 0, 3.0))),
        ],
        SeriesBook(),
    )
    return run
