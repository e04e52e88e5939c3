"""A platform as in production, prepared by ``deploy.prepare`` and behind the real proxy: pages, websockets, broker."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.cookiejar import CookieJar
from pathlib import Path

import bcrypt
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from websockets.sync.client import connect
from websockets.typing import Origin

from deploy.prepare import registry_user_write
from deploy.tests.production_files import DEPLOY, compose_command
from tests.servers import RedisServer, free_port

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
START_SECONDS = 40.0


class Production:
    """Addresses and files of the running platform."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.var = folder / "var"
        self.ports = {name: free_port() for name in ("http", "https", "mqtt", "registry", "web", "broker")}
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        self.url = f"https://127.0.0.1:{self.ports['https']}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ROUNDTABLE_")},
            "ROUNDTABLE_VAR": str(self.var),
            "ROUNDTABLE_URL": self.url,
            "ROUNDTABLE_MQTT_PORT": str(self.ports["broker"]),
            "ROUNDTABLE_REGISTRY_USER": "roundtable",
            "ROUNDTABLE_REGISTRY_PASSWORD": "a-password",
            "ROUNDTABLE_METRICS_TOKEN": "the-token",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def manage(self, *arguments: str, said: str = "") -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=DEPLOY.parent,
            env=self.environment,
            input=said,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def nginx_configuration(self) -> Path:
        """The proxy's configuration with the addresses, ports and files of this test."""
        text = (DEPLOY / "nginx" / "nginx.conf").read_text()
        for old, new in {
            "listen 80 ": f"listen 127.0.0.1:{self.ports['http']} ",
            "listen 443 ": f"listen 127.0.0.1:{self.ports['https']} ",
            "listen 5000 ": f"listen 127.0.0.1:{self.ports['registry']} ",
            "listen 8883 ": f"listen 127.0.0.1:{self.ports['mqtt']} ",
            "web:8000": f"127.0.0.1:{self.ports['web']}",
            "broker:1883": f"127.0.0.1:{self.ports['broker']}",
            "registry:5000": f"127.0.0.1:{self.ports['web']}",  # the platform stands in for it
            "/run/nginx.pid": str(self.folder / "nginx.pid"),
            "/etc/roundtable/tls/certificate.pem": str(self.certificate),
            "/etc/roundtable/tls/key.pem": str(self.key),
            "/var/www/acme": str(self.folder / "acme"),
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        path = self.folder / "nginx.conf"
        path.write_text(f"daemon off;\nerror_log {self.folder / 'nginx.log'} warn;\n{text}")
        return path


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    if NGINX is None:
        sentence = "NOT CHECKED: the proxy, since nginx is not installed here. Type: apt-get install nginx-core"
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(sentence, pytrace=False)
        pytest.skip(sentence)
    here = Production(tmp_path_factory.mktemp("production"))
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=roundtable"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(here.key), "-out", str(here.certificate)),
        ],
        check=True,
        capture_output=True,
    )
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(here.folder))
        here.environment["ROUNDTABLE_REDIS_URL"] = redis.url
        here.manage("-m", "deploy.prepare", "--registry-users", str(here.var / "registry" / "htpasswd"))
        here.manage("manage.py", "create_user", "ada", said="correct horse battery\n")
        web = [word.replace("0.0.0.0", "127.0.0.1") for word in compose_command("web")]
        web[web.index("8000")] = str(here.ports["web"])
        broker = compose_command("broker")
        broker[-1] = str(here.var / "broker" / "mosquitto.conf")
        for command in ([sys.executable, *web[1:]], broker, [NGINX, "-c", str(here.nginx_configuration())]):
            stack.enter_context(running(command, here))
        wait_until(lambda: urllib.request.urlopen(f"{here.url}/healthz", context=here.trust, timeout=2).status == 200)
        yield here


class running:
    """Run a command until the end of a block."""

    def __init__(self, command: list[str], here: Production) -> None:
        self._command, self._here = command, here

    def __enter__(self) -> None:
        with (self._here.folder / "processes.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=DEPLOY.parent,
                env={**self._here.environment, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"},
                stdout=log,
                stderr=log,
            )

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


class Browser:
    """Cookies, forms and redirects, as a browser has them."""

    def __init__(self, here: Production) -> None:
        self.cookies = CookieJar()
        self._here = here
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self.cookies), urllib.request.HTTPSHandler(context=here.trust)
        )

    def open(self, path: str, data: bytes | None = None, **headers: str) -> tuple[int, str]:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"{self._here.url}{path}", data=data, headers=headers)
        try:
            with self._opener.open(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def sign_in(self) -> None:
        _, page = self.open("/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token is not None
        form = f"csrfmiddlewaretoken={token[1]}&username=ada&password=correct+horse+battery"
        status, page = self.open("/login/", form.encode(), Referer=f"{self._here.url}/login/")
        assert (status, "Sign out" in page) == (200, True)


@pytest.fixture
def person(production: Production) -> Browser:
    return Browser(production)


def test_people_sign_in_over_tls_and_their_cookies_stay_there(person: Browser) -> None:
    person.sign_in()
    assert {cookie.name: cookie.secure for cookie in person.cookies} == {"sessionid": True, "csrftoken": True}


def test_a_page_without_tls_leads_to_the_one_with(production: Production) -> None:
    plain = http_without_redirects(f"http://127.0.0.1:{production.ports['http']}/projects/?q=a")
    assert plain == (301, "https://127.0.0.1/projects/?q=a")


def test_challenges_of_the_certificate_authority_are_answered(production: Production) -> None:
    challenge = production.folder / "acme" / ".well-known" / "acme-challenge" / "token"
    challenge.parent.mkdir(parents=True)
    challenge.write_text("proof")
    for folder in (production.folder, *production.folder.parents[:3], *challenge.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)  # the proxy's own user reads it
    address = f"http://127.0.0.1:{production.ports['http']}/.well-known/acme-challenge/token"
    with urllib.request.urlopen(address, timeout=5) as answer:
        assert answer.read() == b"proof"


def http_without_redirects(url: str) -> tuple[int, str]:
    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    try:
        urllib.request.build_opener(NoRedirect).open(url, timeout=5)
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Location"]
    raise AssertionError("it was not redirected")


def test_websockets_pass(production: Production, person: Browser) -> None:
    person.sign_in()
    cookie = next(cookie for cookie in person.cookies if cookie.name == "sessionid")
    with connect(
        f"{production.url.replace('https', 'wss')}/ws/updates/",
        ssl=production.trust,
        origin=Origin(production.url),
        additional_headers={"Cookie": f"sessionid={cookie.value}"},
    ) as socket:
        socket.ping().wait(5)
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.5)


def test_the_platform_itself_says_which_bodies_are_too_large(person: Browser) -> None:
    status, answer = person.open("/api/edge/enrol", b"x" * (5 * 1024 * 1024))
    assert (status, json.loads(answer)) == (413, {"error": "The body is larger than 64 KiB."})


@pytest.mark.parametrize("length", [{}, {"Transfer_Encoding": "chunked"}])
def test_a_body_beyond_every_limit_is_refused_with_a_reason(person: Browser, length: dict[str, str]) -> None:
    for _ in range(3):  # whoever stops reading breaks the connection now and then, and the proxy says 502
        status, answer = person.open("/api/edge/enrol", b"x" * (24 * 1024 * 1024), Accept="application/json", **length)
        sentence = "The body of this request is larger than the 10 MiB that are allowed here."
        assert (status, json.loads(answer)) == (413, {"error": sentence})


def test_metrics_are_read_from_within_alone(production: Production, person: Browser) -> None:
    assert person.open("/metrics", Authorization="Bearer the-token")[0] == 404
    within = urllib.request.Request(
        f"http://127.0.0.1:{production.ports['web']}/metrics", headers={"Authorization": "Bearer the-token"}
    )
    with urllib.request.urlopen(within, timeout=5) as answer:
        assert b"roundtable_redis_up 1.0" in answer.read()


def test_the_registry_has_a_port_of_its_own(production: Production) -> None:
    address = f"https://127.0.0.1:{production.ports['registry']}/healthz"
    with urllib.request.urlopen(address, context=production.trust, timeout=5) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(("password", "refused"), [("", False), ("wrong", True)])
def test_devices_reach_the_broker_by_tls(production: Production, password: str, refused: bool) -> None:
    heard: list[bool] = []
    connected = threading.Event()
    client = Client(
        CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False, client_id="one"
    )
    client.username_pw_set("platform", password or (production.var / "broker" / "platform_password").read_text())
    client.tls_set_context(production.trust)

    def on_connect(_client: object, _data: object, _flags: object, code: object, _properties: object) -> None:
        heard.append(code.is_failure)  # type: ignore[attr-defined]
        connected.set()

    client.on_connect = on_connect
    client.connect("127.0.0.1", production.ports["mqtt"])
    client.loop_start()
    assert connected.wait(10)
    client.disconnect()
    client.loop_stop()
    assert heard == [refused]


def test_preparing_again_changes_nothing(production: Production) -> None:
    kept = [production.var / "broker" / "dynamic-security.json", production.var / "registry" / "htpasswd"]
    before = [path.read_bytes() for path in kept]
    production.manage("-m", "deploy.prepare", "--registry-users", str(kept[1]))
    assert [path.read_bytes() for path in kept] == before


def test_the_registry_s_user_follows_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "users" / "htpasswd"
    registry_user_write(file, "one", "first")
    kept = file.read_text()
    registry_user_write(file, "one", "first")
    assert file.read_text() == kept
    registry_user_write(file, "one", "second")
    name, _, digest = file.read_text().strip().partition(":")
    assert name == "one"
    assert bcrypt.checkpw(b"second", digest.encode())
    with pytest.raises(ValueError, match="ROUNDTABLE_REGISTRY_USER"):
        registry_user_write(file, "one", "")
