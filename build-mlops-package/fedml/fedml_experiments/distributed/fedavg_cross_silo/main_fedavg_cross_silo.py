"""Entry file of the reference library: the aggregator where the client index is 0, else a client.

Started by the package's main.py with the arguments of `entry_arguments`. Ends with code 0 when the run is finished,
1 when it failed (the last line says why), 2 for a bad argument, 143 when it was stopped.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType

import roundtable

from fedml.arguments import parse_arguments
from fedml.client import run_client
from fedml.server import run_server


def main() -> int:
    """Runs this instance's part and returns the exit code."""
    level = logging.getLevelNamesMapping().get(os.environ.get("ROUNDTABLE_LOG_LEVEL", "").upper(), logging.INFO)
    logging.basicConfig(stream=sys.stdout, level=level, format="%(asctime)s %(levelname)s %(message)s")
    signal.signal(signal.SIGTERM, _stop)
    logger = logging.getLogger("fedml")
    settings = parse_arguments(sys.argv[1:])
    try:
        environment = roundtable.environment()
        if settings.is_server:
            run_server(settings, environment)
        else:
            run_client(settings, environment)
        return 0
    except SystemExit:
        logger.warning("stopped by SIGTERM")
        raise
    except Exception as error:
        roundtable.close(timeout=5)  # the last line is the reason: what the reports' end has to say comes before it
        logger.debug("the failure in full", exc_info=True)
        expected = isinstance(error, RuntimeError | ValueError)
        logger.error("%s", error if expected else f"{type(error).__name__}: {error}", exc_info=not expected)
        return 1
    finally:
        roundtable.close(timeout=5)


def _stop(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough; what follows is bounded in time
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
