"""The client: trains the reference library's model on the part of the data that was laid out for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fedml.models import MODELS
from fedml.randomness import stream
from fedml.samples import Samples, Split
from fedml.training import EpochReport, Recipe, train
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

NAMES = ("hidden.weight", "hidden.bias", "output.weight", "output.bias")

app = ClientApp()


@app.train()
def train_round(message: Message, context: Context) -> Message:
    """Train from the weights in the message, and answer with what came out."""
    index = int(context.node_config["partition-id"])
    config = context.run_config
    with np.load(Path(str(config["folder"])) / f"part-{index}.npz") as part:
        data = Split(
            Samples(part["train_x"], part["train_y"]),
            Samples(part["validation_x"], part["validation_y"]),
        )
    start = dict(zip(NAMES, message.content["arrays"].to_numpy_ndarrays(), strict=True))
    recipe = Recipe(int(config["epochs"]), int(config["batch-size"]), "sgd", 0.1, 0.0001)
    curves: list[EpochReport] = []
    server_round = int(message.content["config"]["server-round"])
    weights = train(MODELS["mlp"], start, data, recipe, stream(0, "training", index, server_round), curves.append)
    metrics = MetricRecord(
        {
            "num-examples": len(data.train),
            "train_loss": curves[-1].train_loss,
            "val_loss": curves[-1].val_loss,
            "val_accuracy": curves[-1].val_accuracy,
        }
    )
    arrays = ArrayRecord(numpy_ndarrays=[weights[name] for name in NAMES])
    return Message(content=RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
