"""The agent's own log: to the terminal and to a file that rotates. Secrets never reach it."""

import logging
import logging.handlers
import sys
import time
from pathlib import Path

FORMAT = "%(asctime)sZ %(levelname)-7s %(message)s"
MAX_BYTES = 2 << 20
KEPT_FILES = 3
CONTROLS = dict.fromkeys((*range(32), *range(127, 160), 8232, 8233), " ")


class _OneLine(logging.Formatter):
    """Keeps what others wrote from drawing on the terminal or forging lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return super().formatMessage(record).translate(CONTROLS)


def start_log(file: Path) -> None:
    """Send log records of at least INFO to standard output and to a file that is readable by its owner alone."""
    formatter = _OneLine(FORMAT, "%Y-%m-%d %H:%M:%S")
    formatter.converter = time.gmtime
    file.touch(mode=0o600)
    handlers: list[logging.Handler] = [
        logging.StreamHandler(sys.stdout),
        logging.handlers.RotatingFileHandler(file, maxBytes=MAX_BYTES, backupCount=KEPT_FILES, encoding="utf-8"),
    ]
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    logging.getLogger(f"{__package__}.link.client").setLevel(logging.ERROR)  # the MQTT library's own chatter
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
