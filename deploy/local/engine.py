"""A container engine and a registry on loopback, for the demo and the tests on machines where none runs.

Both are real ones (dockerd and docker-registry) with their own data folders, sockets and ports, so that they stand
beside whatever else the machine runs, and end with the one that started them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from types import TracebackType

import bcrypt
import psutil

from deploy.local.stack import StackError, port_choose

SYSTEM_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin"
STOP_SECONDS = 30
CONTAINERD_SECONDS = 3
FIRST_PORT = 5000  # what registries usually have
FOLDER_LENGTH_MAX = 60  # a socket's whole path has 107 characters at most


def _program(name: str, package: str) -> str:
    """Return the path of a program, or raise StackError with the line to type."""
    found = shutil.which(name, path=SYSTEM_PATH)
    if found is None:
        raise StackError(f"{name} is not installed. Type: apt-get install {package}")
    return found


class _Server:
    """A program in its own session that is ended by SIGTERM, and by SIGKILL if it does not listen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise StackError(f"{type(self).__name__} is not running")
        return self._process.pid

    def _run(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  our own command
                command,
                env={**os.environ, "PATH": SYSTEM_PATH, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait(self, answers: object, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            if callable(answers) and answers():
                return
            time.sleep(0.1)
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        self.stop()
        raise StackError(f"{type(self).__name__} did not start. The end of {self.log}:\n{tail}")

    def stop(self) -> None:
        """End the server and wait for it."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Engine(_Server):
    """A dockerd of its own.

    Args:
        folder: holds its images, log and socket; where its path is too long for sockets, these stand in a short one.
        bridge: name of a bridge to make for it, at most 15 characters. Only one engine on a machine may have the
            default one (empty), and a second engine without a bridge would take it away from the first.
        insecure_registries: ``host:port`` of registries spoken to without TLS beside those on loopback.
        live_restore: let containers live on while the engine is away. Such an engine cannot be part of a swarm.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bridge: str = "",
        insecure_registries: tuple[str, ...] = (),
        live_restore: bool = False,
    ) -> None:
        super().__init__(folder)
        self.bridge = bridge
        self.insecure_registries = insecure_registries
        self.live_restore = live_restore
        long = len(str(self.folder)) > FOLDER_LENGTH_MAX
        self._state = Path(tempfile.mkdtemp(prefix="roundtable-engine-")) if long else self.folder
        self.socket_path = self._state / "docker.sock"

    @property
    def url(self) -> str:
        """What ``DOCKER_HOST`` names the engine by."""
        return f"unix://{self.socket_path}"

    def start(self) -> None:
        """Start the engine and wait until it answers.

        Raises:
            StackError: dockerd is missing or did not start; the message holds the end of its log.
        """
        self._state.mkdir(mode=0o700, exist_ok=True)
        (self._state / "docker.pid").unlink(missing_ok=True)
        self._containerd_forget()
        command = [
            _program("dockerd", "docker.io"),
            f"--data-root={self.folder / 'data'}",
            f"--exec-root={self._state / 'exec'}",
            f"--pidfile={self._state / 'docker.pid'}",
            f"--host={self.url}",
            "--log-level=warn",
            *(f"--insecure-registry={registry}" for registry in self.insecure_registries),
        ]
        if self.live_restore:
            command.append("--live-restore")
        if self.bridge:
            self._bridge_make()
            command += [f"--bridge={self.bridge}", "--iptables=false", "--ip-forward=false"]
        self._run(command)
        self._wait(self._answers)

    def stop(self) -> None:
        """End the engine, and take away its bridge and what it leaves mounted, so that its folder can be removed."""
        super().stop()
        self._unmount()
        if self.bridge:
            self._bridge_remove()
        if self._state != self.folder:
            shutil.rmtree(self._state, ignore_errors=True)

    def remove(self) -> None:
        """Stop the engine, end containers that outlived it, and remove its folder with all images."""
        self.stop()
        self._containers_end()
        self._unmount()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _containers_end(self) -> None:
        """Kill what an engine leaves that was killed, or that lets its containers live on."""
        address = f"{self._state / 'exec' / 'containerd' / 'containerd.sock'}"
        for shim in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if address in shim.cmdline():
                    for process in [*shim.children(recursive=True), shim]:
                        process.kill()

    def _unmount(self) -> None:
        for mount in self._mounts():
            subprocess.run([_program("umount", "mount"), mount], check=False, capture_output=True)  # noqa: S603

    def _containerd_forget(self) -> None:
        """Remove what an engine that was killed says of its containerd, when that is no more than a zombie.

        The engine would wait for it in vain where the machine's first process reaps no orphans.
        """
        pid_file = self._state / "exec" / "containerd" / "containerd.pid"
        with contextlib.suppress(OSError, ValueError):
            status = Path(f"/proc/{int(pid_file.read_text())}/status")
            deadline = time.monotonic() + CONTAINERD_SECONDS  # it is killed with the engine
            while status.exists() and "State:\tZ" not in status.read_text() and time.monotonic() < deadline:
                time.sleep(0.1)
            if not status.exists() or "State:\tZ" in status.read_text():
                pid_file.unlink(missing_ok=True)

    def _mounts(self) -> list[str]:
        """Return what is mounted below the folder, the innermost first."""
        points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        return sorted((point for point in points if {self.folder, self._state} & {*Path(point).parents}), reverse=True)

    def _bridge_remove(self) -> None:
        ip = _program("ip", "iproute2")
        subprocess.run([ip, "link", "delete", self.bridge], check=False, capture_output=True)  # noqa: S603

    def _bridge_make(self) -> None:
        self._bridge_remove()
        ip = _program("ip", "iproute2")
        number = zlib.crc32(self.bridge.encode())  # neighbours need different networks
        subnet = f"10.{192 + number % 48}.{number // 48 % 256}.1/24"
        for arguments in (
            ["link", "add", self.bridge, "type", "bridge"],
            ["address", "add", subnet, "dev", self.bridge],
            ["link", "set", self.bridge, "up"],
        ):
            subprocess.run([ip, *arguments], check=True, capture_output=True)  # noqa: S603  our own command

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            try:
                client.connect(str(self.socket_path))
                client.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
                return b"200 OK" in client.recv(200)
            except OSError:
                return False

    def __enter__(self) -> Engine:
        self.start()
        return self


class Registry(_Server):
    """A docker-registry of its own on loopback, with one user and a random password.

    Args:
        folder: holds its data, configuration, password file and log.
        port: a loopback port; 0 takes the one that the folder's registry had before, or chooses one that is free. Names
            of images begin with it.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(folder)
        kept = self.folder / "port"
        self.port = port or port_choose(int(kept.read_text()) if kept.exists() else FIRST_PORT)
        kept.write_text(str(self.port))
        self.username = "roundtable"
        self.password_file = self.folder / "password"
        if not self.password_file.exists():
            self.password_file.touch(mode=0o600)
            self.password_file.write_text(secrets.token_urlsafe(18))
        self.password = self.password_file.read_text()

    @property
    def address(self) -> str:
        """``host:port``, as image names begin."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the registry and wait until it asks for a password.

        Raises:
            StackError: docker-registry is missing or did not start; the message holds the end of its log.
        """
        hashed = bcrypt.hashpw(self.password.encode(), bcrypt.gensalt(rounds=5)).decode()
        (self.folder / "htpasswd").write_text(f"{self.username}:{hashed}\n")
        (self.folder / "config.yml").write_text(
            "version: 0.1\n"
            "log: {level: warn, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.folder / 'data'}}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{self.address}'}}\n"
            f"auth: {{htpasswd: {{realm: roundtable, path: {self.folder / 'htpasswd'}}}}}\n"
        )
        self._run([_program("docker-registry", "docker-registry"), "serve", str(self.folder / "config.yml")])
        self._wait(self._answers)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/v2/", timeout=1):
                return True
        except urllib.error.HTTPError as answer:
            return answer.code == 401
        except (urllib.error.URLError, OSError):
            return False

    def __enter__(self) -> Registry:
        self.start()
        return self
