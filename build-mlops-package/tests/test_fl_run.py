"""Whole runs: one aggregator and four clients as processes, a real broker, a model store over HTTP."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
import safetensors.numpy
from fl_world import RUN_ID, World, mqtt_client, wait_until
from paho.mqtt.enums import CallbackAPIVersion

MakeWorld = Callable[..., World]
QUICK = {"dataset": "synthetic_1_1", "random_seed": 4, "train_batch_size": 64}  # quick to start: without scikit-learn


def run_to_the_end(world: World) -> str:
    """Runs all instances to their end and returns the sha256 of the last aggregated model."""
    server, clients = world.open_all()
    assert_finished(world, server.wait(), *[client.wait() for client in clients])
    return last_digest(world)


def assert_finished(world: World, *codes: int) -> None:
    assert set(codes) == {0}, world.logs()


def last_digest(world: World) -> str:
    return hashlib.sha256(world.store.aggregated()[-1].content).hexdigest()


def rounds_done(world: World) -> int:
    return max((upload.round for upload in world.store.aggregated()), default=-1) + 1


@contextmanager
def noise(port: int) -> Iterator[None]:
    """Says everything of the FL topics twice, and garbage and lies of strangers in between."""
    echoed: set[tuple[str, bytes]] = set()
    lock = threading.Lock()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    garbage = [b"", b"{", b"[1]", b'{"type": "result"}', b'{"type": "nonsense"}', b"\xff" * 100, b"x" * 100_000]

    def on_message(client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        with lock:
            said = (message.topic, bytes(message.payload))
            if said in echoed or message.payload in garbage or "/99/" in message.topic:
                return
            echoed.add(said)
        for payload in (message.payload, *garbage):
            client.publish(message.topic, payload, qos=1)
        client.publish(f"runs/{RUN_ID}/99/fl/up", message.payload, qos=1)

    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.subscribe(f"runs/{RUN_ID}/+/fl/+", qos=1)
    client.loop_start()
    yield
    client.disconnect()
    client.loop_stop()


def test_it_learns_the_digits_and_reports_everything(make_world: MakeWorld) -> None:
    world = make_world(comm_round=10, local_epoch=2)
    with mqtt_client(world.broker.port, f"runs/{RUN_ID}/#") as (_, heard):
        run_to_the_end(world)
        wait_until(lambda: sum(payload.get("kind") == "client" for _, payload in heard) == 40, what="40 client models")

    def of(edge_id: int, topic: str) -> list[dict[str, Any]]:
        return [payload for name, payload in heard if name == f"runs/{RUN_ID}/{edge_id}/{topic}"]

    points = [point for payload in of(0, "metrics") for point in payload["metrics"]]
    accuracy = {point["round"]: point["value"] for point in points if point["name"] == "accuracy"}
    assert sorted(accuracy) == list(range(10))
    assert accuracy[9] > 0.9
    assert {point["name"] for point in points} == {"accuracy", "loss"}
    assert [payload["round_index"] for payload in of(0, "round")] == list(range(-1, 10))
    assert {payload["total_rounds"] for payload in of(0, "round")} == {10}
    assert {payload["event_name"] for payload in of(0, "event")} == {"wait", "aggregate", "evaluate"}
    assert [(payload["round_index"], payload["kind"]) for payload in of(0, "model")] == [
        (index, "aggregated") for index in range(10)
    ]
    for edge_id in world.edge_ids:
        curves = [point for payload in of(edge_id, "metrics") for point in payload["metrics"]]
        assert {point["name"] for point in curves} == {"train_loss", "train_accuracy", "val_loss", "val_accuracy"}
        steps = [(point["step"], point["round"]) for point in curves if point["name"] == "val_loss"]
        assert steps == [(step, step // 2) for step in range(20)]
        assert {payload["event_name"] for payload in of(edge_id, "event")} == {"download", "train", "upload", "wait"}
    assert f"finished 10 rounds: accuracy {accuracy[9]:.4f}" in world.instances[0].log
    weights = safetensors.numpy.load(world.store.aggregated()[-1].content)
    assert {name: array.shape for name, array in weights.items()} == {"linear.weight": (10, 64), "linear.bias": (10,)}
    assert world.store.refused == {}


def test_the_same_run_twice_gives_the_same_bytes_even_with_duplicates_and_garbage(make_world: MakeWorld) -> None:
    settings = {**QUICK, "client_num_per_round": 2, "comm_round": 6, "model": "mlp", "client_optimizer": "adam"}
    settings |= {"client_learning_rate": 0.01, "federated_optimizer": "FedProx", "fedprox_mu": 0.1}
    first = make_world(**settings)
    digest = run_to_the_end(first)
    trained = {(upload.round, upload.edge_id) for upload in first.store.uploads if upload.kind == "client"}
    assert [sum(round_index == index for index, _ in trained) for round_index in range(6)] == [2] * 6
    assert {edge_id for _, edge_id in trained} == set(first.edge_ids)
    first.store.uploads.clear()

    second = make_world(**settings)
    with noise(second.broker.port):
        assert run_to_the_end(second) == digest
    assert {(upload.round, upload.edge_id) for upload in second.store.uploads if upload.kind == "client"} == trained
    assert re.search(r"ignored a message of device \d+: not JSON", second.instances[0].log)
    assert f"ignored a message on runs/{RUN_ID}/99/fl/up: no device of this run" in second.instances[0].log


def test_it_survives_a_restart_of_the_broker_and_an_absence_of_the_platform(make_world: MakeWorld) -> None:
    world = make_world(**QUICK, comm_round=40)
    server, clients = world.open_all()
    wait_until(lambda: rounds_done(world) >= 3, 20, "round 3")
    world.broker.stop()
    world.store.away = True
    before = rounds_done(world)
    world.broker.start()
    wait_until(lambda: sum("connected to the broker again" in each.log for each in world.instances) == 5, 20, "all 5")
    world.store.away = False
    assert_finished(world, server.wait(), *[client.wait() for client in clients])
    assert before < rounds_done(world) == 40


def test_a_client_that_restarts_gets_the_round_again(make_world: MakeWorld) -> None:
    world = make_world(**QUICK, comm_round=30)
    server, clients = world.open_all()
    wait_until(lambda: rounds_done(world) >= 3, 20, "round 3")
    clients[1].kill()
    clients[1] = world.open(12)
    assert_finished(world, server.wait(), *[client.wait() for client in clients])
    assert "device 12 is back" in server.log
    trained = {upload.round for upload in world.store.uploads if upload.edge_id == 12}
    assert trained == set(range(30))


def test_a_vanished_client_is_missed_by_name_or_done_without(make_world: MakeWorld) -> None:
    strict = make_world((11, 13), **QUICK, comm_round=200, lost_timeout=1)
    server, clients = strict.open_all()
    wait_until(lambda: rounds_done(strict) >= 2, 20, "round 2")
    clients[1].kill()
    assert server.wait() == 1, strict.logs()
    last_line = server.log.splitlines()[-1]
    assert "failed: device 13 gave no weights: its connection broke and did not come back" in last_line
    assert clients[0].wait() == 0
    assert "the run ended early: round" in clients[0].log
    strict.store.uploads.clear()

    tolerant = make_world((11, 12, 13), **QUICK, comm_round=30, lost_timeout=1, min_clients=2)
    server, clients = tolerant.open_all()
    wait_until(lambda: rounds_done(tolerant) >= 2, 20, "round 2")
    clients[2].process.terminate()
    assert_finished(tolerant, server.wait(), *[client.wait() for client in clients if client is not clients[2]])
    assert clients[2].wait() == 143
    assert "goes on without device 13: its connection broke" in server.log
    assert rounds_done(tolerant) == 30
    assert "(2 clients" in server.log.splitlines()[-2]


def test_results_that_are_lies_fail_their_device_alone(make_world: MakeWorld) -> None:
    world = make_world((11, 12), **QUICK, comm_round=2, min_clients=1)
    server, client = world.open(0), world.open(11)
    up = f"runs/{RUN_ID}/12/fl/up"
    with mqtt_client(world.broker.port, f"runs/{RUN_ID}/12/fl/down") as (liar, heard):
        online = {"type": "online", "instance": "a", "features": 60, "classes": 10, "samples": 5}
        done = {"type": "done", "instance": "a"}
        result = {"type": "result", "instance": "a", "key": "../none", "sha256": "0", "samples": 5, "metrics": {}}
        wait_until(lambda: "waiting for devices 11, 12" in server.log, 20, "the aggregator")
        wait_until(lambda: liar.publish(up, json.dumps(online), qos=1) and heard, 20, "an answer")
        for round_index in (0, 1):
            wait_until(lambda: ("train", round_index) in [(p["type"], p.get("round")) for _, p in heard], 20, "train")  # noqa: B023
            if round_index == 1:  # another device's weights: they are there, but not under this sha256
                result["key"] = world.store.uploads[-1].key
            liar.publish(up, json.dumps({**result, "round": round_index}), qos=1)
        wait_until(lambda: heard[-1][1]["type"] == "finish", 20, "finish")
        liar.publish(up, json.dumps(done), qos=1)
        assert_finished(world, server.wait(), client.wait())
    assert "round 1 goes on without device 12: its weights cannot be fetched: " in server.log
    assert re.search(
        r"round 2 goes on without device 12: the object \S+ does not have the announced SHA-256", server.log
    )


def test_private_files_are_trained_on_and_measured_by_their_devices(make_world: MakeWorld) -> None:
    world = make_world((11, 12), is_using_local_data=1, comm_round=3, model="lr")
    rng = np.random.default_rng(1)
    clients = []
    for edge_id in world.edge_ids:
        y = rng.integers(0, 3, 60)
        x = rng.normal(0, 0.3, (60, 3)) + np.eye(3)[y]
        folder = world.folder / f"private-{edge_id}"
        folder.mkdir()
        if edge_id == 11:
            rows = [",".join(map(str, [*features, label])) for features, label in zip(x, y, strict=True)]
            (folder / "table.csv").write_text("\n".join(["a,b,c,label", *rows]))
        else:
            np.savez(folder / "samples.npz", x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])
        clients.append(world.open(edge_id, private_local_data=folder))
    server = world.open(0)
    assert_finished(world, server.wait(), *[client.wait() for client in clients])
    assert "finished 3 rounds: accuracy 0.9" in server.log or "finished 3 rounds: accuracy 1.0" in server.log


def test_uploaded_data_is_split_between_the_clients(make_world: MakeWorld) -> None:
    world = make_world((11, 12), synthetic_data_url=f"/api/runs/{RUN_ID}/data", partition_method="homo", comm_round=2)
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 100)
    rows = [f"{label},{value + label}" for label, value in zip(y, rng.normal(0, 0.2, 100), strict=True)]
    world.store.data = "\n".join(["label,height", *rows]).encode()
    run_to_the_end(world)
    assert "online with 36 samples for training, 4 for validation" in world.instances[1].log
    assert "(2 clients, 72 samples" in world.instances[0].log


def test_a_client_with_unusable_data_ends_the_run_with_its_reason(make_world: MakeWorld) -> None:
    world = make_world(is_using_local_data=1)
    client = world.open(13, private_local_data="/nowhere/at/all")
    wait_until(lambda: "fl-7-13" in world.broker.log(), what="the client's connection")
    server = world.open(0)
    assert server.wait() == 1
    sentence = "/nowhere/at/all does not exist on this device: check the data path of the configuration"
    assert server.log.splitlines()[-1].endswith(f"device 13 cannot take part: it failed: {sentence}")
    assert client.wait() == 1
    assert client.log.splitlines()[-1].endswith(sentence)


def test_the_aggregator_names_who_did_not_come_online(make_world: MakeWorld) -> None:
    world = make_world(**QUICK, online_timeout=3)
    clients = [world.open(edge_id) for edge_id in (11, 13)]
    wait_until(lambda: all(f"fl-7-{edge_id}" in world.broker.log() for edge_id in (11, 13)), what="both connections")
    server = world.open(0)
    assert server.wait() == 1
    assert server.log.splitlines()[-1].endswith("devices 12, 14 did not come online within 3 s")
    assert [client.wait() for client in clients] == [0, 0]


def test_a_stopped_aggregator_ends_its_clients(make_world: MakeWorld) -> None:
    world = make_world((11, 12), **QUICK, comm_round=100_000)
    server, clients = world.open_all()
    wait_until(lambda: rounds_done(world) >= 1, 20, "round 1")
    server.process.terminate()
    assert server.wait(10) == 143
    assert server.log.splitlines()[-1].endswith("stopped by SIGTERM")
    assert [client.wait() for client in clients] == [0, 0]
    assert "the run ended early: the aggregator was stopped" in clients[0].log


def test_it_starts_from_the_model_that_it_is_given_and_refuses_one_that_does_not_fit(make_world: MakeWorld) -> None:
    first = make_world(**{**QUICK, "comm_round": 3})
    run_to_the_end(first)
    trained = first.store.aggregated()[-1]
    first.store.uploads.clear()
    second = make_world(**{**QUICK, "comm_round": 1})
    second.store.initial = trained
    run_to_the_end(second)
    assert second.store.aggregated()[0].content == trained.content
    assert f"starting from the model {trained.key}" in second.instances[0].log

    third = make_world(**{**QUICK, "comm_round": 1, "model": "mlp"})
    third.store.initial = trained
    server, clients = third.open_all()
    assert server.wait() != 0
    assert "the model to start from does not fit this run's model and data" in server.log
    for client in clients:
        client.wait()
