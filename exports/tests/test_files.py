"""The files in which a run is taken along, read by the programs that they are for."""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from exports.tables import csv_pieces, json_pieces
from exports.tensorboard import tensorboard_archive
from runs.models import Run
from runs.tests.rows import edges, user_make


def test_a_table_has_every_point_as_it_was_reported(run: Run) -> None:
    first, second = edges(run)
    rows = list(csv.DictReader(io.StringIO(b"".join(csv_pieces(run)).decode())))
    found = [(row["edge_id"], row["reporter"], row["name"], row["step"], row["round"], row["value"]) for row in rows]
    assert found == [
        ("0", "aggregator", "acc", "0.0", "0", "0.5"),
        ("0", "aggregator", "acc", "1.0", "1", "nan"),
        ("0", "aggregator", "acc", "2.0", "2", "inf"),
        ("0", "aggregator", "acc", "2.5", "", "-inf"),
        (str(first), "device-1", "loss", "0.0", "0", "1.25"),
        (str(first), "device-1", "loss", "1.0", "1", "0.75"),
        (str(second), "device-2", "'-1", "0.0", "", "3.0"),
    ]
    assert {row["kind"] for row in rows} == {"metric"}
    assert all(float(row["time"]) > 1.7e9 for row in rows)


def test_a_document_has_the_points_and_what_they_came_from(run: Run) -> None:
    document = json.loads(b"".join(json_pieces(run)))
    assert document["run"]["name"] == "quiet heron/7"
    assert document["configuration"]["hyperparameters_config"] == [{"name": "lr", "type": "float", "value": 0.03}]
    assert [device["name"] for device in document["devices"]] == ["device-1", "device-2"]
    assert document["columns"] == ["step", "round", "time", "value"]
    series = {(one["reporter"], one["name"]): one["points"] for one in document["series"]}
    assert [[row[0], row[1], row[3]] for row in series["aggregator", "acc"]] == [
        [0.0, 0.0, 0.5],
        [1.0, 1.0, "NaN"],
        [2.0, 2.0, "Infinity"],
        [2.5, "NaN", "-Infinity"],
    ]
    assert [row[3] for row in series["device-1", "loss"]] == [1.25, 0.75]


def test_a_run_without_points_is_a_document_and_a_table_too(run: Run) -> None:
    run.series.all().delete()
    assert json.loads(b"".join(json_pieces(run)))["series"] == []
    assert b"".join(csv_pieces(run)).count(b"\n") == 1
    with tensorboard_archive(run) as path:
        assert zipfile.ZipFile(path).namelist() == []


def test_devices_of_one_name_are_told_apart(run: Run) -> None:
    first, second = edges(run)
    for part in run.run_devices.all():
        assert part.device is not None
        part.device.name = "ward"
        part.device.save()
    table = b"".join(csv_pieces(run)).decode()
    assert f"\n{first},ward,metric,loss" in table.replace("\r", "")
    assert f"\n{second},ward ({second}),metric," in table.replace("\r", "")


def test_tensorboard_reads_the_event_files(run: Run, tmp_path: Path) -> None:
    part = run.run_devices.order_by("pk")[0]
    assert part.device is not None
    part.device.name = "../ward/one"
    part.device.save()
    with tensorboard_archive(run) as path:
        archive = zipfile.ZipFile(path)
        archive.extractall(tmp_path)
    assert not path.exists()
    assert sorted({name.split("/")[0] for name in archive.namelist()}) == ["_ward_one", "aggregator", "device-2"]
    aggregator = EventAccumulator(str(tmp_path / "aggregator"))
    aggregator.Reload()
    found = aggregator.Scalars("acc")
    assert [event.step for event in found] == [0, 1, 2, 2]
    assert [str(event.value) for event in found] == ["0.5", "nan", "inf", "-inf"]
    ward = EventAccumulator(str(tmp_path / "_ward_one"))
    ward.Reload()
    assert [(event.step, event.value) for event in ward.Scalars("loss")] == [(0, 1.25), (1, 0.75)]
    assert all(event.wall_time > 1.7e9 for event in ward.Scalars("loss"))


@pytest.mark.parametrize(
    ("name", "file", "content_type", "begins"),
    [
        ("run_csv", "quiet-heron-7.csv", "text/csv; charset=utf-8", b"edge_id,"),
        ("run_json", "quiet-heron-7.json", "application/json", b'{"run":'),
        ("run_tensorboard", "quiet-heron-7-tensorboard.zip", "application/zip", b"PK"),
    ],
)
def test_members_download_and_strangers_do_not(
    run: Run, name: str, file: str, content_type: str, begins: bytes
) -> None:
    client, stranger = Client(), Client()
    client.force_login(run.project.memberships.get().user)
    stranger.force_login(user_make("mallory"))
    path = reverse(name, args=[run.pk])
    answer = client.get(path)
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{file}"'
    assert answer.headers["Content-Type"] == content_type
    assert b"".join(answer).startswith(begins)
    assert stranger.get(path).status_code == 404
    assert Client().get(path).status_code == 302


def test_many_points_come_piece_by_piece(run: Run) -> None:
    pieces = list(csv_pieces(run))
    assert len(pieces) == 4  # the header, and one of each series
    assert not any(math.isnan(len(piece)) for piece in pieces)
