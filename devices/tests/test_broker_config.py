"""``manage.py broker_config`` and the files that it writes."""

from __future__ import annotations

import json
import stat
import subprocess
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings as platform_settings
from django.core.management import CommandError, call_command
from pytest_django import Settings

from devices import broker_config
from devices.broker import BrokerRefused, commands_publish, device_credentials_create
from devices.broker_config import broker_config_write
from devices.tests.mqtt import Mqtt, platform
from tests.servers import MosquittoServer, Server, free_port


def write(directory: Path, **options: object) -> list[str]:
    out = StringIO()
    call_command("broker_config", directory=directory, port=18830, stdout=out, **options)
    assert out.getvalue() == f"mosquitto -c {directory}/mosquitto.conf\n"
    return (directory / "mosquitto.conf").read_text().splitlines()


def test_it_denies_strangers_and_loses_no_message(tmp_path: Path) -> None:
    lines = write(tmp_path / "broker")
    for line in (
        "allow_anonymous false",
        f"plugin_opt_config_file {tmp_path}/broker/dynamic-security.json",
        "persistence true",
        "max_queued_messages 0",
        "set_tcp_nodelay true",
        "message_size_limit 1048576",
        "listener 18830 127.0.0.1",
        "log_dest stderr",
    ):
        assert line in lines


def test_the_documented_configuration_is_what_it_writes(tmp_path: Path) -> None:
    """``deploy/broker/mosquitto.conf`` explains the lines that the command writes; paths, plugin and user aside."""
    files = {"tls_certificate": Path("/etc/roundtable/broker.pem"), "tls_key": Path("/etc/roundtable/broker.key")}
    lines = write(tmp_path, host="0.0.0.0", loopback_port=1883, log_file=Path("/var/log/mosquitto.log"), **files)
    documented = (platform_settings.BASE_DIR / "deploy" / "broker" / "mosquitto.conf").read_text().splitlines()

    def settled(lines: list[str]) -> list[str]:
        pairs = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
        return [name if "/" in value or name == "user" else f"{name} {value}" for name, value in pairs]

    assert settled(documented) == [line.replace("18830", "8883") for line in settled(lines)]


def test_its_files_are_for_their_owner_alone(tmp_path: Path, settings: Settings) -> None:
    settings.MQTT_PASSWORD = "a password to look for"
    write(tmp_path / "broker")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "broker").iterdir()}
    assert modes == {"mosquitto.conf": 0o600, "dynamic-security.json": 0o600, "data": 0o700, "conf.d": 0o700}
    assert stat.S_IMODE((tmp_path / "broker").stat().st_mode) == 0o700
    assert "a password to look for" not in (tmp_path / "broker" / "dynamic-security.json").read_text()


def test_a_second_call_keeps_every_credential(tmp_path: Path, settings: Settings) -> None:
    with MosquittoServer(tmp_path) as server:
        settings.MQTT_PORT = server.port
        device = device_credentials_create(1)
        server.stop()
        before = (server.directory / "dynamic-security.json").read_bytes()
        call_command("broker_config", directory=server.directory, port=server.port, stdout=StringIO())
        assert (server.directory / "dynamic-security.json").read_bytes() == before
        server.start()
        with Mqtt(device.agent_user, device.agent_password):
            pass


def test_a_changed_platform_password_is_brought_up_to_date(tmp_path: Path, settings: Settings) -> None:
    with MosquittoServer(tmp_path) as server:
        settings.MQTT_PORT = server.port
        device = device_credentials_create(1)
        settings.MQTT_PASSWORD = "another"
        with pytest.raises(BrokerRefused):
            commands_publish([(1, {})])
        server.stop()
        server.start()  # writes the configuration with the password of the settings
        commands_publish([(1, {})])
        with Mqtt(device.agent_user, device.agent_password):
            pass


def test_one_line_of_ones_own_survives_a_second_call(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "conf.d" / "own.conf").write_text("log_type debug\n")
    lines = write(tmp_path)
    assert lines[-1] == f"include_dir {tmp_path}/conf.d"
    assert (tmp_path / "conf.d" / "own.conf").read_text() == "log_type debug\n"


def test_a_file_that_is_not_the_plugins_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dynamic-security.json").write_text("[]")
    with pytest.raises(CommandError, match=r"dynamic-security.json is not a file of mosquitto's.*move it away"):
        write(tmp_path)
    assert (tmp_path / "dynamic-security.json").read_text() == "[]"


def test_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_config, "PLUGIN_FOLDERS", (str(tmp_path),))
    with pytest.raises(CommandError, match="install mosquitto 2"):
        write(tmp_path / "broker")
    assert not (tmp_path / "broker").exists()


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="--tls-certificate and --tls-key together"):
        write(tmp_path, tls_certificate=Path("a.pem"))


def test_it_refuses_values_that_would_add_lines(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="must not have control characters"):
        write(tmp_path / "broker", host="127.0.0.1\nallow_anonymous true")
    assert not (tmp_path / "broker").exists()


def test_it_refuses_an_empty_password(tmp_path: Path, settings: Settings) -> None:
    settings.MQTT_PASSWORD = ""
    with pytest.raises(CommandError, match="set ROUNDTABLE_MQTT_PASSWORD"):
        write(tmp_path / "broker")
    assert not (tmp_path / "broker").exists()


class TlsMosquitto(Server):
    """A broker with a TLS listener for devices and a plain loopback one."""

    def __init__(self, directory: Path, certificate: Path, key: Path) -> None:
        super().__init__(directory, "mosquitto")
        self.files = broker_config.TlsFiles(certificate, key)
        self.loopback_port = free_port()

    def command(self) -> list[str]:
        broker_config_write(
            self.directory,
            self.port,
            username=platform_settings.MQTT_USER,
            password=platform_settings.MQTT_PASSWORD,
            tls=self.files,
            loopback_port=self.loopback_port,
        )
        return ["/usr/sbin/mosquitto", "-c", str(self.directory / "mosquitto.conf")]


def test_devices_are_served_over_tls_beside_a_plain_loopback_listener(tmp_path: Path, settings: Settings) -> None:
    certificate, key = tmp_path / "broker.pem", tmp_path / "broker.key"
    options = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *options, *files], check=True, capture_output=True)
    with TlsMosquitto(tmp_path, certificate, key) as server:
        settings.MQTT_PORT, settings.MQTT_TLS, settings.MQTT_CA = server.port, True, str(certificate)
        commands_publish([(1, {"over": "tls"})])
        settings.MQTT_PORT, settings.MQTT_TLS = server.loopback_port, False
        with platform() as listener:
            listener.subscribe("edges/1/command")
            commands_publish([(1, {"over": "loopback"})])
            assert listener.received.get(timeout=2) == (
                "edges/1/command",
                json.dumps({"over": "loopback"}, separators=(",", ":")).encode(),
            )
