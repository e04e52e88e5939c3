"""The aggregator: rounds of federated averaging over the clients of a run."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import roundtable

from fedml.aggregation import choose, weighted_mean, weighted_metric
from fedml.arguments import Settings
from fedml.control import ControlLink
from fedml.data import load_test_data
from fedml.messages import Failed, Finish, Lost, Online, Result, Train, Wait
from fedml.model_store import ModelStore
from fedml.models import MODELS, evaluate
from fedml.randomness import stream
from fedml.roster import Member, Roster
from fedml.samples import Samples
from fedml.weights import HEADER_LIMIT, Weights, WeightsError, check_like, size_in_bytes

logger = logging.getLogger(__name__)

FINISH_SECONDS = 10.0  # to tell the clients that the run is over
STOP_SECONDS = 3.0  # the same when the aggregator is being stopped
MOST_PARAMETERS = 100_000_000  # of a layer: what a client announces is not to exhaust the memory


class RunFailed(RuntimeError):
    """The run cannot go on; the message says why and names the device."""


@dataclass(frozen=True)
class Contribution:
    """What a client returned in a round."""

    weights: Weights
    samples: int
    metrics: dict[str, float]


def run_server(settings: Settings, environment: roundtable.Environment) -> None:
    """1. Make the test set. 2. Wait for the clients. 3. Store initial weights. 4. Run the rounds. 5. Tell all to end.

    Raises RunFailed, DataError or PlatformError with a sentence for the log's last line.
    """
    if settings.client_num_in_total not in (0, settings.client_num):
        logger.warning(
            "client_num_in_total is %d, but %d devices were selected: going on with these",
            settings.client_num_in_total,
            settings.client_num,
        )
    link = ControlLink(environment, f"runs/{environment.run_id}/+/fl/up")
    roster = Roster(link, environment.run_id, settings.client_id_list)
    store = ModelStore(environment, settings.platform_timeout)
    reason, patience = "the aggregator was stopped", STOP_SECONDS
    try:
        test = load_test_data(settings, environment)
        _wait_for_clients(roster, settings)
        weights = _given_weights(store, _initial_weights(roster, settings, test))
        stored = store.put(weights, "aggregated", -1)
        roundtable.log_round(-1, settings.comm_round)
        for round_index in range(settings.comm_round):
            started = time.monotonic()
            with roundtable.event("wait", round_index):
                order = Train(round_index, stored.key, stored.sha256, round_index * settings.local_epoch)
                contributions = _collect(roster, settings, store, order, weights)
            with roundtable.event("aggregate", round_index):
                weights = weighted_mean([(each.samples, each.weights) for each in contributions])
                stored = store.put(weights, "aggregated", round_index)
            with roundtable.event("evaluate", round_index):
                accuracy, loss = _evaluate(settings, weights, test, contributions)
            metrics = {"accuracy": accuracy, "loss": loss}
            roundtable.log(metrics, step=round_index, round=round_index)
            roundtable.report_model(stored, round_index, metrics=metrics)
            roundtable.log_round(round_index, settings.comm_round)
            logger.info(
                "round %d/%d: accuracy %.4f, loss %.4f (%d clients, %d samples, %.1f s)",
                round_index + 1,
                settings.comm_round,
                accuracy,
                loss,
                len(contributions),
                sum(each.samples for each in contributions),
                time.monotonic() - started,
            )
        reason, patience = "", FINISH_SECONDS
        logger.info("finished %d rounds: accuracy %.4f, loss %.4f", settings.comm_round, accuracy, loss)
    except Exception as error:
        reason, patience = str(error), FINISH_SECONDS
        raise
    finally:
        _finish(roster, reason, patience)
        link.close()


def _wait_for_clients(roster: Roster, settings: Settings) -> None:
    """Returns when every client is online, or enough of them at the end of the time."""
    deadline = time.monotonic() + settings.online_timeout
    needed = min(settings.min_clients or len(roster.members), len(roster.members))
    logger.info("waiting for devices %s", ", ".join(map(str, roster.members)))
    while len(roster.present()) < len(roster.members):
        broken = [member for member in roster.members.values() if member.absent]
        if len(roster.members) - len(broken) < needed:
            raise RunFailed(f"device {broken[0].edge_id} cannot take part: {broken[0].absent}")
        waiting = [m.edge_id for m in roster.members.values() if m.online is None and not m.absent]
        if not waiting and len(roster.present()) >= needed:
            break
        if time.monotonic() >= deadline:
            if len(roster.present()) >= needed:
                logger.warning("going on without devices %s", ", ".join(map(str, waiting)))
                break
            raise RunFailed(f"{_devices(waiting)} did not come online within {settings.online_timeout:g} s")
        item = roster.next(0.5)
        if item is not None and item[0].order is None:
            roster.tell(item[0], Wait(0))


def _initial_weights(roster: Roster, settings: Settings, test: Samples | None) -> Weights:
    """Weights for data of the shape that all clients announced. Raises RunFailed when these do not fit together."""
    announced = {member.edge_id: member.online for member in roster.present() if member.online is not None}
    first_edge, first = next(iter(announced.items()))
    for edge_id, online in announced.items():
        if online.features != first.features:
            raise RunFailed(
                f"device {edge_id} has data of {online.features} features, device {first_edge} of {first.features}: "
                "all devices need the same columns"
            )
    if test is not None and test.x.shape[1] != first.features:
        raise RunFailed(f"the test set has {test.x.shape[1]} features, the clients' data {first.features}")
    classes = max(online.classes for online in announced.values())
    if test is not None:
        classes = max(classes, int(test.y.max()) + 1)
    if not 0 < first.features * max(classes, settings.hidden_units) <= MOST_PARAMETERS:
        raise RunFailed(f"a model of {first.features} features and {classes} classes is too large")
    rng = stream(settings.random_seed, "initial weights")
    return MODELS[settings.model].initial(rng, first.features, classes, settings.hidden_units)


def _given_weights(store: ModelStore, fresh: Weights) -> Weights:
    """The model that the run was told to start from, or `fresh`. Raises RunFailed when it is of another shape."""
    given = roundtable.initial_model(store.environment, time_limit=store.time_limit)
    if given is None:
        return fresh
    try:
        weights = store.get(given.key, given.sha256)
        check_like(weights, fresh)
    except WeightsError as error:
        raise RunFailed(
            f"the model to start from does not fit this run's model and data: {error}. Start from a model of a run "
            "with the same model, hidden_units and data"
        ) from error
    logger.info("starting from the model %s", given.key)
    return weights


def _collect(
    roster: Roster, settings: Settings, store: ModelStore, order: Train, current: Weights
) -> list[Contribution]:
    """Has the chosen clients train and returns what they answered, in the order of their indices.

    Raises RunFailed, naming a device, when too few answer.
    """
    chosen, needed = _choose(roster, settings, order.round)
    for member in roster.present():
        roster.tell(member, order if member in chosen else Wait(order.round))
    deadline = time.monotonic() + settings.round_timeout
    outstanding = {member.edge_id for member in chosen}
    problems: dict[int, str] = {}
    contributions: dict[int, Contribution] = {}
    while outstanding:
        if len(chosen) - len(problems) < needed:
            edge_id, problem = next(iter(problems.items()))
            raise RunFailed(f"round {order.round + 1} failed: device {edge_id} gave no weights: {problem}")
        item = roster.next(min(0.5, max(deadline - time.monotonic(), 0.0)))
        if item is None:
            if time.monotonic() >= deadline:
                for edge_id in outstanding:
                    problems[edge_id] = f"no answer within {settings.round_timeout:g} s"
                    roster.members[edge_id].absent = problems[edge_id]
                outstanding.clear()
            continue
        member, message = item
        if isinstance(message, Online) and member.edge_id in problems:
            del problems[member.edge_id]  # it came back in time
            outstanding.add(member.edge_id)
        if member.edge_id not in outstanding:
            continue
        if isinstance(message, Failed | Lost):
            problems[member.edge_id] = member.absent
        elif isinstance(message, Result) and message.round == order.round:
            try:
                contributions[member.index] = _fetch(store, message, current)
            except WeightsError as error:
                problems[member.edge_id] = str(error)
            roster.tell(member, Wait(order.round))
        else:
            continue
        outstanding.discard(member.edge_id)
    if len(contributions) < needed or not contributions:
        edge_id, problem = next(iter(problems.items()))
        raise RunFailed(f"round {order.round + 1} failed: device {edge_id} gave no weights: {problem}")
    for edge_id, problem in problems.items():
        logger.warning("round %d goes on without device %d: %s", order.round + 1, edge_id, problem)
    return [contributions[index] for index in sorted(contributions)]


def _choose(roster: Roster, settings: Settings, round_index: int) -> tuple[list[Member], int]:
    """The members of a round, and how many of them must answer. Raises RunFailed when too few are there."""
    present = {member.index: member for member in roster.present()}
    wanted = min(settings.client_num_per_round or len(roster.members), len(roster.members))
    needed = min(settings.min_clients or wanted, wanted)
    if len(present) < needed:
        absent = next(member for member in roster.members.values() if member.index not in present)
        raise RunFailed(
            f"round {round_index + 1} failed: it needs {needed} clients and {len(present)} are there; "
            f"device {absent.edge_id} is missing: {absent.absent or 'it never came online'}"
        )
    chosen = choose(list(present), wanted, round_index, settings.random_seed)
    return [present[index] for index in chosen], needed


def _fetch(store: ModelStore, result: Result, like: Weights) -> Contribution:
    """Fetches a client's weights. Raises WeightsError when they are not weights of this model."""
    if result.samples < 1:
        raise WeightsError("it announced no samples")
    try:
        weights = store.get(result.key, result.sha256, max_bytes=size_in_bytes(like) + HEADER_LIMIT)
    except roundtable.PlatformError as error:
        if error.status not in (400, 403, 404, 413):  # those speak of this object alone
            raise
        raise WeightsError(f"its weights cannot be fetched: {error}") from error
    check_like(weights, like)
    return Contribution(weights, result.samples, result.metrics)


def _evaluate(
    settings: Settings, weights: Weights, test: Samples | None, contributions: list[Contribution]
) -> tuple[float, float]:
    """Accuracy and loss on the test set; without one, the clients' validation figures, weighted by their samples."""
    if test is not None:
        return evaluate(MODELS[settings.model], weights, test.x, test.y)
    metrics = [each.metrics for each in contributions]
    measured = [m for m in metrics if {"val_samples", "val_accuracy", "val_loss"} <= m.keys()]
    return (
        weighted_metric([(m["val_samples"], m["val_accuracy"]) for m in measured]),
        weighted_metric([(m["val_samples"], m["val_loss"]) for m in measured]),
    )


def _finish(roster: Roster, reason: str, patience: float) -> None:
    """Tells every client to end and waits for those that are there to say that they do, at most `patience` seconds."""
    deadline = time.monotonic() + patience
    order = Finish(reason)
    while True:
        for member in roster.members.values():
            if member.online is not None and member.order != order:
                roster.tell(member, order)
        if all(member.done for member in roster.present()) or time.monotonic() >= deadline:
            return
        roster.next(0.2)


def _devices(edge_ids: list[int]) -> str:
    return f"device{'s' if len(edge_ids) > 1 else ''} {', '.join(map(str, edge_ids))}"
