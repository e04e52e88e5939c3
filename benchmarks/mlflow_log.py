"""Logs points to an MLflow server by ``log_batch``. Runs in MLflow's own environment (see ``mlflow_peer.py``).

    python mlflow_log.py URI POINTS METRICS

Makes a run, says ``ready``, waits for a line on standard input, logs, and says ``done``. Each call has 1,000 points,
the most that MLflow takes in one, and returns once they are committed.
"""

import sys

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

CALL = 1_000


def main() -> None:
    uri, points, metrics = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    client = MlflowClient(uri)
    run = client.create_run("0").info.run_id
    calls = [
        [
            Metric(f"metric-{number % metrics}", number * 0.731, 1_700_000_000_000 + number, number // metrics)
            for number in range(first, min(first + CALL, points))
        ]
        for first in range(0, points, CALL)
    ]
    print("ready", flush=True)
    sys.stdin.readline()
    for call in calls:
        client.log_batch(run, metrics=call)
    print("done", flush=True)


if __name__ == "__main__":
    main()
