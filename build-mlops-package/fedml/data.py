"""Which data a reporter uses: the device's own, a downloaded file, or a data set that everybody can make."""

from __future__ import annotations

import logging
import shutil
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import roundtable

from fedml.arguments import Settings
from fedml.data_files import DataError, find_file, read_file
from fedml.datasets import DATASETS, TEST_FRACTION, Federated, Plan, divide
from fedml.randomness import stream
from fedml.samples import Samples, Split, hold_out

logger = logging.getLogger(__name__)

VALIDATION_FRACTION = 0.1
DOWNLOAD_TIMEOUT = 60.0


@dataclass(frozen=True)
class ClientData:
    """A client's training and validation samples, and the number of classes that it knows of."""

    split: Split
    classes: int


def load_client_data(settings: Settings, environment: roundtable.Environment) -> ClientData:
    """The samples of the client `settings.client_index`: its private data if that is used, else its part.

    With more silos than clients, client i of n has the parts i, i + n, i + 2n, ... A private file's own test samples
    are the validation set; otherwise a tenth of the samples is held out. Raises DataError.
    """
    rng = stream(settings.random_seed, "validation", settings.client_index)
    if settings.is_using_local_data:
        path = find_file(Path(settings.private_local_data))
        data = read_file(path)
        split = (
            Split(data.train, data.test) if data.test is not None else hold_out(data.train, VALIDATION_FRACTION, rng)
        )
        classes = int(max(split.train.y.max(), split.test.y.max())) + 1
        logger.info("private data %s: %d samples", path, len(split.train))
        return ClientData(split, classes)
    federated = _common_data(settings, environment)
    parts = federated.parts[settings.client_index - 1 :: settings.client_num]
    own = Samples(np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts]))
    return ClientData(hold_out(own, VALIDATION_FRACTION, rng), federated.classes)


def load_test_data(settings: Settings, environment: roundtable.Environment) -> Samples | None:
    """The aggregator's test set; None with private data, which never leaves its device."""
    if settings.is_using_local_data:
        return None
    return _common_data(settings, environment).test


def _common_data(settings: Settings, environment: roundtable.Environment) -> Federated:
    plan = Plan(settings.partition_method, settings.partition_alpha, settings.silos, settings.random_seed)
    try:
        if not settings.synthetic_data_url:
            return DATASETS[settings.dataset](plan)
        data = read_file(_download(settings.synthetic_data_url, environment))
        rng = stream(settings.random_seed, "test set")
        return divide(
            Split(data.train, data.test) if data.test is not None else hold_out(data.train, TEST_FRACTION, rng), plan
        )
    except DataError:
        raise
    except ValueError as error:
        raise DataError(str(error)) from error


def _download(url: str, environment: roundtable.Environment) -> Path:
    """Downloads to the instance's data folder. The platform's own address gets the run token, no other does."""
    target = environment.home / "data" / "synthetic_data"
    target.parent.mkdir(parents=True, exist_ok=True)
    absolute = urllib.parse.urljoin(environment.url + "/", url)
    scheme, host, path, query, _ = urllib.parse.urlsplit(absolute)
    if scheme not in ("http", "https"):
        raise DataError(f"the synthetic data URL must begin with http:// or https://, not {scheme}:")
    own = urllib.parse.urlsplit(environment.url)
    try:
        if (scheme, host) == (own.scheme, own.netloc):
            content = roundtable.request(environment, "GET", f"{path}?{query}" if query else path)
            target.write_bytes(content)
        else:
            with _open_foreign(absolute) as answer, target.open("wb") as file:
                shutil.copyfileobj(answer, file)
    except (roundtable.PlatformError, OSError) as error:
        raise DataError(f"the synthetic data at {scheme}://{host}{path} cannot be downloaded: {error}") from error
    logger.info("downloaded %d bytes of synthetic data", target.stat().st_size)
    return target


def _open_foreign(url: str) -> IO[Any]:
    """Opens a URL of another place, without any credential."""
    answer: IO[Any] = urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT)  # noqa: S310 - http and https alone
    return answer
