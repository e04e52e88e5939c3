"""Run the platform on this machine in the foreground: ``python -m deploy.local.serve``."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from deploy.local.stack import REPOSITORY, LocalStack, StackError


def main() -> int:
    """Start the group, print where it is, and stay until SIGINT or SIGTERM; return the exit code."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.default_int_handler)
    try:
        with LocalStack(Path(os.environ.get("ROUNDTABLE_VAR", REPOSITORY / "var"))) as stack:
            print(f"Roundtable is at {stack.url}; its processes write to {stack.log}. Ctrl-C stops it.")
            print("The first user: .venv/bin/python manage.py create_user NAME --admin")
            while stack.alive():
                time.sleep(0.5)
            print(f"A process ended. The end of {stack.log}:\n{stack.log_tail()}", file=sys.stderr)
            return 1
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
