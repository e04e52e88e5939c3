"""``manage.py broker_config``: write the files from which the MQTT broker starts."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from devices.broker_config import BrokerConfigError, TlsFiles, broker_config_write


class Command(BaseCommand):
    help = (
        "Write mosquitto.conf and, where it is missing, the broker's credentials with the platform's own client. "
        "Credentials that exist are kept. Run it while the broker is stopped; it prints the command that starts it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--directory", type=Path, default=settings.VAR_DIR / "broker", help="where the files go")
        parser.add_argument("--port", type=int, default=settings.MQTT_PORT, help="port of the devices' listener")
        parser.add_argument("--host", default="127.0.0.1", help="address on which the broker listens")
        parser.add_argument("--log-file", type=Path, help="where the broker logs; standard error by default")
        parser.add_argument("--tls-certificate", type=Path, help="PEM certificate chain: the listener speaks TLS")
        parser.add_argument("--tls-key", type=Path, help="PEM key of the certificate")
        parser.add_argument(
            "--loopback-port", type=int, help="second listener without TLS on 127.0.0.1, for the platform's processes"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        certificate, key = options["tls_certificate"], options["tls_key"]
        if (certificate is None) != (key is None):
            raise CommandError("Give --tls-certificate and --tls-key together.")
        try:
            files = broker_config_write(
                options["directory"],
                options["port"],
                username=settings.MQTT_USER,
                password=settings.MQTT_PASSWORD,
                host=options["host"],
                tls=TlsFiles(certificate, key) if certificate and key else None,
                loopback_port=options["loopback_port"],
                log_file=options["log_file"],
            )
        except (BrokerConfigError, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(shlex.join(files.command))
