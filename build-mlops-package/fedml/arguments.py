"""The command line of the reference library: what `entry_arguments` of conf/fedml.yaml fills in."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from fedml.datasets import DATASETS
from fedml.models import MODELS
from fedml.optimizers import OPTIMIZERS
from fedml.partition import PARTITIONS

logger = logging.getLogger(__name__)

FEDERATED_OPTIMIZERS = ("FedAvg", "FedProx")


@dataclass(frozen=True)
class Settings:
    """Everything that a run of the library can be told. Names are those of the configuration's keys."""

    model: str
    hidden_units: int
    dataset: str
    partition_method: str
    partition_alpha: float
    client_num_in_total: int
    client_num_per_round: int
    data_silo_num_in_total: int
    comm_round: int
    local_epoch: int
    train_batch_size: int
    client_optimizer: str
    client_learning_rate: float
    weight_decay: float
    federated_optimizer: str
    fedprox_mu: float
    random_seed: int
    communication_backend: str
    min_clients: int
    online_timeout: float
    round_timeout: float
    lost_timeout: float
    server_timeout: float
    platform_timeout: float
    client_num: int
    client_id_list: tuple[int, ...]
    client_index: int
    client_object_list: str
    run_id: str
    private_local_data: str
    synthetic_data_url: str
    is_using_local_data: bool
    log_server_url: str

    @property
    def is_server(self) -> bool:
        """The aggregator has index 0."""
        return self.client_index == 0

    @property
    def silos(self) -> int:
        """In how many parts a common data set is split: at least one for every client."""
        return max(self.data_silo_num_in_total, self.client_num)

    @property
    def proximal_mu(self) -> float:
        """The weight of FedProx's proximal term; 0 for FedAvg."""
        return self.fedprox_mu if self.federated_optimizer == "FedProx" else 0.0


def parse_arguments(argv: Sequence[str]) -> Settings:
    """Reads the entry file's arguments. Ends the process with code 2 and a sentence for a bad one.

    Arguments that the library does not know are named in the log and ignored: a configuration may hold more keys
    than the library reads.
    """
    parser = _parser()
    known, unknown = parser.parse_known_args(argv)
    if unknown:
        logger.warning("ignored arguments that this library does not read: %s", " ".join(unknown))
    values = vars(known)
    if values["client_index"] is None:
        values["client_index"] = int(os.environ.get("ROUNDTABLE_EDGE_ID") or 0)
    if values["client_num"] == 0:
        values["client_num"] = len(values["client_id_list"])
    settings = Settings(**{field.name: values[field.name] for field in fields(Settings)})
    for problem in _problems(settings):
        parser.error(problem)
    return settings


def _problems(settings: Settings) -> list[str]:
    """What no single argument shows."""
    problems = []
    if settings.is_server and not settings.client_id_list:
        problems.append("--client_id_list names no device: the aggregator needs the edge ids of all of them")
    if settings.is_server and len(set(settings.client_id_list)) != len(settings.client_id_list):
        problems.append("--client_id_list names a device twice")
    if settings.client_num < 1:
        problems.append("--client_num must be at least 1")
    if settings.client_index > settings.client_num:
        problems.append(f"--client_index {settings.client_index} is above --client_num {settings.client_num}")
    if settings.is_using_local_data and not settings.is_server and not settings.private_local_data:
        problems.append(
            "--is_using_local_data is 1 but --private_local_data is empty: give the data path of the device"
        )
    return problems


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    model = parser.add_argument_group("model")
    model.add_argument("--model", type=_one_of(MODELS), default="lr", help="lr or mlp")
    model.add_argument("--hidden_units", type=_integer(1), default=64, help="width of the mlp's hidden layer")

    data = parser.add_argument_group("data")
    data.add_argument("--dataset", type=_one_of(DATASETS), default="digits", help="digits or synthetic_1_1")
    data.add_argument("--partition_method", type=_one_of(PARTITIONS), default="hetero", help="homo or hetero")
    data.add_argument("--partition_alpha", type=_number(1e-6), default=0.5, help="concentration of the Dirichlet split")
    data.add_argument("--client_num_in_total", type=_integer(0), default=0, help="devices that are expected to train")
    data.add_argument(
        "--data_silo_num_in_total", type=_integer(0), default=0, help="parts of the data; at least one a client"
    )

    training = parser.add_argument_group("training")
    training.add_argument("--comm_round", type=_integer(1), default=10, help="number of rounds")
    training.add_argument("--client_num_per_round", type=_integer(0), default=0, help="clients of a round; 0: all")
    training.add_argument("--local_epoch", type=_integer(1), default=1, help="epochs of a client in a round")
    training.add_argument("--train_batch_size", type=_integer(1), default=16, help="samples of one step")
    training.add_argument("--client_optimizer", type=_one_of(OPTIMIZERS), default="sgd", help="sgd or adam")
    training.add_argument("--client_learning_rate", type=_number(0.0), default=0.1, help="step size of the clients")
    training.add_argument("--weight_decay", type=_number(0.0), default=0.0, help="L2 penalty")
    training.add_argument("--federated_optimizer", type=_one_of(FEDERATED_OPTIMIZERS), default="FedAvg")
    training.add_argument("--fedprox_mu", type=_number(0.0), default=0.0, help="weight of FedProx's proximal term")
    training.add_argument("--random_seed", type=_integer(0), default=0, help="the same seed gives the same weights")

    conversation = parser.add_argument_group("conversation (seconds)")
    conversation.add_argument("--communication_backend", type=_one_of(("MQTT_S3", "MQTT")), default="MQTT_S3")
    conversation.add_argument("--min_clients", type=_integer(0), default=0, help="answers a round needs; 0: all")
    conversation.add_argument("--online_timeout", type=_number(0.0), default=300.0, help="wait for all clients")
    conversation.add_argument("--round_timeout", type=_number(0.0), default=600.0, help="wait for a round's answers")
    conversation.add_argument("--lost_timeout", type=_number(0.0), default=60.0, help="time to come back when cut off")
    conversation.add_argument("--server_timeout", type=_number(0.0), default=900.0, help="silence a client bears")
    conversation.add_argument("--platform_timeout", type=_number(0.0), default=300.0, help="retries of an HTTP call")

    given = parser.add_argument_group("given by the platform")
    given.add_argument("--client_num", type=_integer(0), default=0, help="devices of the run")
    given.add_argument("--client_id_list", type=_edge_ids, default=(), help="JSON list of edge ids, in client order")
    given.add_argument("--client_index", type=_integer(0), default=None, help="0: the aggregator; 1..n: the clients")
    given.add_argument("--client_object_list", default="", help="JSON list of the devices; not read")
    given.add_argument("--run_id", default="", help="the run; not read, the environment has it")
    given.add_argument("--private_local_data", default="", help="path of this device's own data")
    given.add_argument("--synthetic_data_url", default="", help="where to download common data")
    given.add_argument("--is_using_local_data", type=_flag, default=False, help="1: use the private data path")
    given.add_argument("--log_server_url", default="", help="not read: the agent collects the log")
    return parser


def _integer(least: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        number = float(text)
        if number != int(number) or number < least:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least {least}")
        return int(number)

    return integer


def _number(least: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value) or value < least:
            raise argparse.ArgumentTypeError(f"{text!r} must be a finite number of at least {least:g}")
        return value

    return number


def _one_of(names: Any) -> Callable[[str], str]:
    """One of the names, in any case."""
    choices = {str(name).lower(): str(name) for name in names}

    def choice(text: str) -> str:
        if text.lower() not in choices:
            raise argparse.ArgumentTypeError(f"{text!r} is not known; choose from {', '.join(choices.values())}")
        return choices[text.lower()]

    return choice


def _edge_ids(text: str) -> tuple[int, ...]:
    if not text:
        return ()
    try:
        return tuple(int(edge_id) for edge_id in json.loads(text))
    except (ValueError, TypeError):
        raise argparse.ArgumentTypeError(f"{text!r} must be a JSON list of edge ids, such as [3, 4]") from None


def _flag(text: str) -> bool:
    if text.lower() in ("1", "true", "yes"):
        return True
    if text.lower() in ("", "0", "false", "no"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} must be 1 or 0")
