"""Real receivers of alerts on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message as Mail
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MailHandler

from tests.servers import free_port


class HookReceiver:
    """An HTTP server that keeps what it is sent, and answers ``status``."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}/hooks/secret-part"
        self.status = 200
        self.location = ""
        self.received: list[tuple[str, dict[str, str], bytes]] = []


@contextmanager
def hook_receiver() -> Iterator[HookReceiver]:
    """Run a receiver of hooks."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.received.append((self.path, dict(self.headers), body))
            self.send_response(receiver.status)
            if receiver.location:
                self.send_header("Location", receiver.location)
            self.end_headers()
            self.wfile.write(b"no such channel\n")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = HookReceiver(server)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield receiver
        server.shutdown()
        thread.join()


@contextmanager
def mail_receiver() -> Iterator[tuple[int, list[Mail]]]:
    """Run a mail server; yield its port and the mails that it took."""
    taken: list[Mail] = []

    class Handler(MailHandler):
        def handle_message(self, message: Mail) -> None:
            taken.append(message)

    port = free_port()
    controller = Controller(Handler(), hostname="127.0.0.1", port=port, ready_timeout=30)
    controller.start()
    try:
        yield port, taken
    finally:
        controller.stop()
