"""A client: trains on its own data when the aggregator says so."""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import time
from dataclasses import dataclass

import numpy as np
import roundtable

from fedml.arguments import Settings
from fedml.control import ControlLink, Will
from fedml.data import ClientData, load_client_data
from fedml.messages import (
    Done,
    DownMessage,
    Failed,
    Finish,
    Lost,
    MessageError,
    Online,
    Result,
    Train,
    decode_down,
)
from fedml.model_store import ModelStore
from fedml.models import MODELS
from fedml.randomness import stream
from fedml.training import EpochReport, Recipe, train
from fedml.weights import Weights, WeightsError

logger = logging.getLogger(__name__)

ONLINE_SECONDS = 1.0  # between two `online`
RESULT_SECONDS = 3.0  # between two repetitions of an unanswered result
GOODBYE_SECONDS = 5.0
FAILURE_SECONDS = 20.0  # for the aggregator to hear of a failure


class ServerSilent(RuntimeError):
    """Nothing was heard of the aggregator for too long."""


@dataclass
class _Conversation:
    """What this client last said and must repeat, and the round it last worked on."""

    link: ControlLink
    topic: str
    instance: str
    pending: Online | Result | None = None
    said_at: float = 0.0
    last_round: int = -1
    last_result: Result | None = None

    def say(self, message: Online | Result) -> None:
        self.pending = message
        self.repeat()

    def repeat(self) -> None:
        self.said_at = time.monotonic()
        if self.pending is not None:
            self.link.send(self.topic, self.pending)


def run_client(settings: Settings, environment: roundtable.Environment) -> None:
    """Loads the data, says `online`, and trains until `finish`.

    What goes wrong is told to the aggregator before it is raised: DataError, WeightsError, PlatformError, ServerSilent.
    """
    topic = f"runs/{environment.run_id}/{environment.edge_id}/fl"
    instance = secrets.token_hex(8)
    will = Will(f"{topic}/up", Lost(instance), settings.lost_timeout)
    link = ControlLink(environment, f"{topic}/down", will)
    conversation = _Conversation(link, f"{topic}/up", instance)
    unsaid = True  # whether the aggregator must hear of our end from the broker
    try:
        data = load_client_data(settings, environment)
        reason = _converse(settings, environment, conversation, data)
        unsaid = not link.send_surely(conversation.topic, Done(instance), GOODBYE_SECONDS)
        logger.info("the run ended early: %s" if reason else "the run is finished%s", reason)
    except ServerSilent:
        raise
    except Exception as error:
        unsaid = not _tell_failure(conversation, str(error))
        raise
    finally:
        link.close(speak_will=unsaid)


def _converse(
    settings: Settings, environment: roundtable.Environment, conversation: _Conversation, data: ClientData
) -> str:
    """Does what the aggregator says until `finish`, and returns its reason. Raises ServerSilent and training's errors.

    1. Repeat what is unanswered. 2. Wait for a message; ignore what is malformed. 3. Train if a new round says so.
    """
    store = ModelStore(environment, settings.platform_timeout)
    samples = data.split.train
    conversation.say(Online(conversation.instance, samples.x.shape[1], data.classes, len(samples)))
    logger.info("online with %d samples for training, %d for validation", len(samples), len(data.split.test))
    heard_at, connections = time.monotonic(), conversation.link.connections
    with contextlib.ExitStack() as waiting:  # holds the span from a result to the next order
        while True:
            pause = ONLINE_SECONDS if isinstance(conversation.pending, Online) else RESULT_SECONDS
            if conversation.link.connections != connections or time.monotonic() - conversation.said_at >= pause:
                connections = conversation.link.connections
                conversation.repeat()
            order = _next_order(conversation.link, min(pause, 0.5))
            if order is None:
                if time.monotonic() - heard_at > settings.server_timeout:
                    raise ServerSilent(f"nothing was heard of the aggregator for {settings.server_timeout:g} s")
                continue
            if isinstance(order, Finish):
                return order.reason
            if isinstance(order, Train) and order.round > conversation.last_round:
                waiting.close()
                conversation.pending = None
                result = _train_round(settings, store, conversation.instance, order, data)
                conversation.last_round, conversation.last_result = order.round, result
                conversation.say(result)
                waiting.enter_context(roundtable.event("wait", order.round))
            elif isinstance(order, Train) and order.round == conversation.last_round:
                conversation.pending = conversation.last_result
                conversation.repeat()
            else:
                conversation.pending = None
            heard_at = time.monotonic()


def _tell_failure(conversation: _Conversation, reason: str) -> bool:
    """Says `failed` until the aggregator, which may not be up yet, answers with `finish`; False when it never does."""
    deadline = time.monotonic() + FAILURE_SECONDS
    said_at = float("-inf")
    while time.monotonic() < deadline:
        if time.monotonic() - said_at >= ONLINE_SECONDS:
            said_at = time.monotonic()
            conversation.link.send(conversation.topic, Failed(conversation.instance, reason))
        if isinstance(_next_order(conversation.link, 0.1), Finish):
            return True
    return False


def _next_order(link: ControlLink, timeout: float) -> DownMessage | None:
    received = link.receive(timeout)
    if received is None:
        return None
    try:
        return decode_down(received[1])
    except MessageError as error:
        logger.warning("ignored a message of the aggregator: %s", error)
        return None


def _train_round(settings: Settings, store: ModelStore, instance: str, order: Train, data: ClientData) -> Result:
    """Fetches the round's weights, trains, stores what came out, and reports all of it."""
    with roundtable.event("download", order.round):
        start = store.get(order.key, order.sha256)
        _check_fit(settings, start, data)
    curves: list[EpochReport] = []

    def on_epoch(report: EpochReport) -> None:
        curves.append(report)
        metrics = {
            "train_loss": report.train_loss,
            "train_accuracy": report.train_accuracy,
            "val_loss": report.val_loss,
            "val_accuracy": report.val_accuracy,
        }
        roundtable.log(metrics, step=order.epoch_offset + report.epoch, round=order.round)
        logger.info(
            "round %d, epoch %d/%d: train loss %.4f, accuracy %.4f; validation loss %.4f, accuracy %.4f",
            order.round + 1,
            report.epoch + 1,
            settings.local_epoch,
            report.train_loss,
            report.train_accuracy,
            report.val_loss,
            report.val_accuracy,
        )

    recipe = Recipe(
        epochs=settings.local_epoch,
        batch_size=settings.train_batch_size,
        optimizer=settings.client_optimizer,
        learning_rate=settings.client_learning_rate,
        weight_decay=settings.weight_decay,
        proximal_mu=settings.proximal_mu,
    )
    rng = stream(settings.random_seed, "training", settings.client_index, order.round)
    with roundtable.event("train", order.round), np.errstate(over="ignore", invalid="ignore"):
        weights = train(MODELS[settings.model], start, data.split, recipe, rng, on_epoch)
    last = curves[-1]
    metrics = {
        "train_loss": last.train_loss,
        "train_accuracy": last.train_accuracy,
        "val_loss": last.val_loss,
        "val_accuracy": last.val_accuracy,
    }
    with roundtable.event("upload", order.round):
        stored = store.put(weights, "client", order.round)
    roundtable.report_model(stored, order.round, metrics=metrics)
    told = {name: value for name, value in metrics.items() if math.isfinite(value)}
    told["val_samples"] = len(data.split.test)
    return Result(instance, order.round, stored.key, stored.sha256, len(data.split.train), told)


def _check_fit(settings: Settings, weights: Weights, data: ClientData) -> None:
    """Raises WeightsError when the weights are not of the configured model or do not fit the data."""
    try:
        logits = MODELS[settings.model].logits(weights, data.split.train.x[:1])
    except (KeyError, ValueError) as error:
        raise WeightsError(
            f"the aggregator's weights do not fit model {settings.model} and this data: {error}"
        ) from error
    if logits.shape[1] < data.classes:
        raise WeightsError(f"the aggregator's weights know {logits.shape[1]} classes, this data has {data.classes}")
