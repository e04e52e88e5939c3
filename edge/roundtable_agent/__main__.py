"""The agent's program. People start it by `run.sh`, which documents its options.

python -m roundtable_agent enrol --home DIR --server URL [--name NAME] [--data DIR]   (the code on standard input)
python -m roundtable_agent run --home DIR [--server URL] [--data DIR] [--keep-instances] [--system-interval S]
    [--cache-mb N] [--runtime auto|docker|process] [--network NAME] [--images-mb N]
python -m roundtable_agent check --home DIR [--runtime auto|docker|process]
python -m roundtable_agent rotate --home DIR
"""

import argparse
import contextlib
import os
import re
import socket
import sys
from dataclasses import replace
from pathlib import Path

from .agent import Agent, Options
from .agent_log import start_log
from .checks import check_device, table
from .durable import read_json
from .fields import Invalid
from .gpu import GpuReader
from .home import Home, Identity, code_digest
from .host import host_facts
from .locks import locked, try_lock, unlock
from .platform_http import Refused, Unreachable, post_json, server_url
from .runtime_choice import AUTO, CHOICES

CODE_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_ -]{3,99}"
MIB = 2**20


def main(arguments: list[str] | None = None) -> int:
    """Run one of the subcommands; returns the exit code: 0 well, 1 not, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    os.umask(0o077)
    root = Path(options.home).expanduser().absolute()
    cache = os.environ.get("ROUNDTABLE_EDGE_CACHE", "")
    home = Home(root, Path(cache).expanduser().absolute() if cache else root / "cache")
    try:
        home.make()
        return int(options.function(home, options))
    except (Invalid, Unreachable, Refused) as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"cannot use the folder {root}: {error}", file=sys.stderr)
    return 1


def enrol(home: Home, options: argparse.Namespace) -> int:
    """Exchange a one-time code for this device's identity."""
    code = sys.stdin.read(1_000).strip()
    if re.fullmatch(CODE_PATTERN, code) is None:
        raise Invalid("that is no enrolment code: copy the command from the page 'Bind a device'")
    server = server_url(options.server)
    data = _data_folder(options.data)
    descriptor = _hold(home)
    try:
        known = Identity.load(home)
        if known is not None and known.server == server and known.code_sha256 == code_digest(code):
            print(f"this folder was enrolled with that code already, as device {known.edge_id}; going on with it")
            return 0
        if known is not None and (open_runs := home.open_runs()):
            raise Invalid(
                f"this folder is bound as device {known.edge_id} and holds open runs {open_runs}: stop them first, or "
                "give the new device its own --home"
            )
        name = (options.name or socket.gethostname())[:200]
        body = {"code": code, "name": name, "host": host_facts(GpuReader(), "process")}
        try:
            answer = post_json(server, "/api/edge/enrol", body)
        except Refused as error:
            if error.status >= 500:
                raise
            hint = f" (this folder still is device {known.edge_id}: start it without a code)" if known else ""
            raise Invalid(f"the code was refused: {error}{hint}") from None
        identity = Identity.from_answer(answer, server=server, name=name, code=code, data=data)
        if known is not None:
            home.forget_runs()
        identity.save(home)
        print(f"bound as device {identity.edge_id} ({name}) to {server}")
        return 0
    finally:
        unlock(descriptor)


def run(home: Home, options: argparse.Namespace) -> int:
    """Be the agent until a signal asks to stop."""
    descriptor = _hold(home)
    try:
        identity = _identity(home)
        changed = identity
        if options.server:
            changed = replace(changed, server=server_url(options.server))
        if options.data is not None:
            changed = replace(changed, data=_data_folder(options.data))
        if changed != identity:
            changed.save(home)
        start_log(home.log)
        behaviour = Options(
            options.keep_instances,
            options.system_interval,
            options.cache_mb * MIB,
            options.runtime,
            options.network,
            options.images_mb * MIB,
        )
        agent = Agent(home, changed, behaviour)
        return agent.run()
    finally:
        unlock(descriptor)


def check(home: Home, options: argparse.Namespace) -> int:
    """Print a table of checks; 0 where all required ones are well."""
    result = check_device(home, Identity.load(home), runtime=options.runtime)
    print(table(result))
    return 0 if result["ok"] else 1


def rotate(home: Home, options: argparse.Namespace) -> int:
    """Replace every secret of this device; the old ones end at once."""
    identity = _identity(home)
    if open_runs := home.open_runs():
        raise Invalid(f"runs {open_runs} are open and would lose their connection: stop them first")
    with locked(home.root / "rotate.lock"):
        answer = post_json(identity.server, "/api/edge/rotate", {}, token=identity.device_token)
        identity.rotated(answer).save(home)
    print(f"every secret of device {identity.edge_id} was replaced; a running agent connects again by itself")
    return 0


def _identity(home: Home) -> Identity:
    identity = Identity.load(home)
    if identity is None:
        raise Invalid(f"{home.root} holds no identity: bind this device with run.sh CODE --server URL")
    return identity


def _hold(home: Home) -> int:
    descriptor = try_lock(home.lock)
    if descriptor is None:
        pid = (read_json(home.state) or {}).get("pid", "unknown")
        raise Invalid(f"another agent (process {pid}) uses {home.root}: stop it first, or give this one its own --home")
    return descriptor


def _data_folder(text: str | None) -> str:
    if not text:
        return ""
    path = Path(text).expanduser().absolute()
    if not path.is_dir():
        raise Invalid(f"--data must name a folder; {path} is none")
    return str(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="roundtable_agent", description="The agent of a Roundtable device.")
    commands = parser.add_subparsers(required=True)
    for function in (enrol, run, check, rotate):
        command = commands.add_parser(function.__name__, description=function.__doc__)
        command.set_defaults(function=function)
        command.add_argument("--home", required=True, help="the agent's folder")
        if function in (enrol, run):
            command.add_argument("--server", required=function is enrol, default="", help="the platform's URL")
            command.add_argument("--data", default=None, help="the only folder with private data that runs may use")
        if function is enrol:
            command.add_argument("--name", default="", help="the device's name; the host's name by default")
        if function is run:
            command.add_argument("--keep-instances", action="store_true", help="leave instances running at the end")
            command.add_argument("--system-interval", type=_interval, default=5.0, help="seconds between figures")
            command.add_argument("--cache-mb", type=int, default=10_240, help="budget of the cache, in MiB")
            command.add_argument("--network", default="", help="what containers are connected to: host, or a name")
            command.add_argument("--images-mb", type=int, default=20_480, help="budget of pulled images, in MiB")
        if function in (run, check):
            command.add_argument("--runtime", choices=CHOICES, default=AUTO, help="how clients are opened")
    return parser


def _interval(text: str) -> float:
    value = float(text)
    if not 0.5 <= value <= 3600:
        raise argparse.ArgumentTypeError("must be from 0.5 to 3600 seconds")
    return value


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
