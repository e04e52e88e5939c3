"""A whole platform for end-to-end tests: its processes, its users, and agents as on any device.

Nothing here touches Django's models: tests see what people see, the pages, and what machines see, HTTP and MQTT.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from playwright.sync_api import Browser, ConsoleMessage, Page

from deploy.local.stack import REPOSITORY, LocalStack, Ports
from tests.servers import MosquittoServer

ANY_PORTS = Ports(web=0, broker=0, redis=0)
ALL_BUT_BROKER = ("redis", "web", "worker", "builder", "beat", "ingest")
NO_ENGINE = "unix:///nonexistent/docker.sock"  # whatever this machine runs
# Virtual environments of packages are the same in every test, and take longest to make.
CACHE = REPOSITORY / "var" / "test-cache"

Found = TypeVar("Found")


def wait_for(what: str, look: Callable[[], Found | None], seconds: float = 30) -> Found:
    """Return what ``look`` finds as soon as it finds something; fail with ``what`` and the last look otherwise."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


class Agent:
    """An agent started by ``edge/run.sh``, as a person would type it.

    Args:
        options: what is typed besides.
        engine: address of the container engine of its device; empty for a device without one.
    """

    def __init__(
        self, home: Path, url: str, code: str, name: str, *, options: Sequence[str] = (), engine: str = ""
    ) -> None:
        self.home = home
        self.name = name
        self.url = url
        self.options = options
        self.engine = engine
        self._process: subprocess.Popen[bytes] | None = None
        self.start(code)

    def start(self, *code: str) -> None:
        """Start the agent, with a one-time code the first time."""
        self.home.mkdir(parents=True, exist_ok=True)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ROUNDTABLE_")},
            "ROUNDTABLE_EDGE_VENV": str(Path(sys.executable).parent.parent),
            "ROUNDTABLE_EDGE_CACHE": str(CACHE / "edge"),
            "DOCKER_HOST": self.engine or NO_ENGINE,
        }
        command = [str(REPOSITORY / "edge" / "run.sh"), *code, "--server", self.url]
        command += ["--name", self.name, "--home", str(self.home), *self.options]
        with (self.home / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End the agent as a crash would: its instances live on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask the agent to end, and wait for it."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


class Platform:
    """A running platform with one user, ``ada``."""

    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self.url = stack.url
        self.agents: list[Agent] = []
        self.password = self.user_create("ada")

    def user_create(self, name: str) -> str:
        """Make an account by the command of the operator's guide and return its password."""
        made = subprocess.run(
            [sys.executable, "manage.py", "create_user", name],
            cwd=REPOSITORY,
            env=self.stack.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        found = re.search(r"Password \(shown this once\): (\S+)", made.stdout)
        assert found, made.stdout
        return found[1]

    @contextmanager
    def browser_page(self, browser: Browser, user: str = "ada", password: str = "") -> Iterator[Page]:
        """A browser window in which the user is signed in; at its end, the console must have stayed clean."""
        context = browser.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True)
        context.set_default_timeout(20_000)
        page = context.new_page()
        complaints: list[str] = []

        def hear(said: ConsoleMessage) -> None:
            # htmx names a request that the person's own leaving of the page aborted; nothing went wrong then.
            left = said.text.startswith(("htmx:sendAbort", "htmx:afterRequest"))
            if said.type in ("error", "warning") and not left:
                complaints.append(said.text)

        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(self.url)
        page.get_by_label("User name").fill(user)
        page.get_by_label("Password").first.fill(password or self.password)
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Home").wait_for()
        try:
            yield page
        except BaseException:
            picture = REPOSITORY / "var" / "test-failures" / f"{time.strftime('%H%M%S')}.png"
            page.screenshot(path=picture, full_page=True)
            print(f"{page.url} as it was, also in {picture}:\n{page.locator('main').inner_text()}\n{complaints}")
            raise
        finally:
            context.close()
        assert complaints == []

    def device_bind(self, page: Page, name: str, *, options: Sequence[str] = (), engine: str = "") -> Agent:
        """Bind a device by hand: make a code in the browser, and type the command that the page shows."""
        page.goto(f"{self.url}/devices/bind/")
        page.get_by_role("button", name="Make a code").click()
        command = page.get_by_text(re.compile(r"^edge/run\.sh RT-")).first.inner_text()
        found = re.fullmatch(r"edge/run\.sh (RT-\S+) --server (\S+)", command.strip())
        assert found, command
        assert found[2] == self.url
        agent = Agent(self.stack.var / "devices" / name, found[2], found[1], name, options=options, engine=engine)
        self.agents.append(agent)
        page.get_by_text(name).first.wait_for()
        return agent

    def configuration_create(self, page: Page, name: str, **values: str) -> None:
        """Create a configuration by hand: upload both packages as ``build.sh`` wrote them, fill in the name, save."""
        dist = packages_build()
        page.goto(f"{self.url}/configurations/")
        page.get_by_role("link", name=re.compile("New configuration")).first.click()
        page.get_by_label("Name", exact=True).fill(name)
        for kind in ("server", "client"):
            page.get_by_label(f"{kind.capitalize()} package").set_input_files(dist / kind / "package.zip")
            page.locator(f"#refused-{kind}").wait_for(state="hidden")
            page.get_by_text("main_fedavg_cross_silo.py").nth(0).wait_for()
        for key, value in values.items():
            page.get_by_role("group", name=key, exact=True).get_by_label("Value").fill(value)
        page.get_by_role("button", name="Save configuration").click()
        page.get_by_role("heading", name=name).wait_for()

    def project_create(self, page: Page, name: str) -> str:
        """Create a project by hand and return the address of its page."""
        page.goto(f"{self.url}/projects/")
        page.get_by_role("link", name="New project").first.click()
        page.get_by_label("Name").fill(name)
        page.get_by_role("button", name=re.compile("Create|Save")).click()
        page.get_by_role("heading", name=name).wait_for()
        return page.url

    def run_start(self, page: Page, project_url: str, configuration: str, devices: list[str], **overrides: str) -> str:
        """Create and start a run from the project's page by hand; return the address of the run's page."""
        page.goto(project_url)
        page.get_by_role("link", name="New run").first.click()
        page.get_by_role("combobox", name="Configuration").select_option(label=configuration)
        for name, value in overrides.items():
            page.get_by_label(f"{name} for this run").fill(value)
        for device in devices:
            page.locator("label").filter(has_text=device).get_by_role("checkbox").check()
        page.locator("#run-preview").get_by_text("main_fedavg_cross_silo.py").first.wait_for()
        page.get_by_role("button", name="Create and start").click()
        page.wait_for_url(re.compile(r"/runs/\d+/"))
        return page.url

    def stop(self) -> None:
        """End the agents; the stack is ended by who started it."""
        for agent in self.agents:
            agent.stop()


def packages_build() -> Path:
    """Build both packages as the README says and return the folder that holds them."""
    folder = REPOSITORY / "build-mlops-package"
    subprocess.run(["./build.sh"], cwd=folder, env={**os.environ, "PYTHON": sys.executable}, check=True)
    return folder / "dist-package"


@contextmanager
def platform_start(
    var: Path, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[Platform, MosquittoServer]]:
    """Start a platform in ``var`` beside a broker that the test may kill and start again, and end both.

    Args:
        environment: settings; by default those of the backend ``process``.
    """
    with MosquittoServer(var) as broker:
        (CACHE / "venvs").mkdir(parents=True, exist_ok=True)
        stack = LocalStack(
            var,
            preferred=ANY_PORTS,
            environment={
                **broker.environment(),
                "ROUNDTABLE_VENVS": str(CACHE / "venvs"),
                **(environment or {"ROUNDTABLE_BACKEND": "process"}),
            },
            processes=ALL_BUT_BROKER,
        )
        with stack:
            platform = Platform(stack)
            try:
                yield platform, broker
            except BaseException:
                print(f"The end of {stack.log}:\n{stack.log_tail(60)}")
                raise
            finally:
                platform.stop()
