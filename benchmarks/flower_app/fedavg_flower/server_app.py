"""The server: Flower's own FedAvg strategy, with an evaluation on the common test set after every round."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from fedml.models import MODELS, evaluate
from fedml.randomness import stream
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

NAMES = ("hidden.weight", "hidden.bias", "output.weight", "output.bias")

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds, and write when each ended and how good the model was."""
    config = context.run_config
    folder = Path(str(config["folder"]))
    clients = int(config["clients"])
    model = MODELS["mlp"]
    with np.load(folder / "test.npz") as test:
        x, y = test["x"], test["y"]

    def evaluate_centrally(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        weights = dict(zip(NAMES, arrays.to_numpy_ndarrays(), strict=True))
        accuracy, loss = evaluate(model, weights, x, y)
        with (folder / "ends.jsonl").open("a") as ends:
            ends.write(json.dumps({"round": server_round, "time": time.monotonic(), "accuracy": accuracy}) + "\n")
        return MetricRecord({"accuracy": accuracy, "loss": loss})

    initial = model.initial(stream(0, "initial weights"), x.shape[1], 10, int(config["hidden-units"]))
    strategy = FedAvg(
        fraction_evaluate=0.0,
        min_train_nodes=clients,
        min_available_nodes=clients,
        min_evaluate_nodes=0,
    )
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(numpy_ndarrays=[initial[name] for name in NAMES]),
        num_rounds=int(config["num-rounds"]),
        evaluate_fn=evaluate_centrally,
    )
