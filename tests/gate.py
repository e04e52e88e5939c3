"""A gate before a server: closed, it lets connections in and their bytes wait, so that a test finds work half-way."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

CHUNK_BYTES = 16 * 1024


class Gate:
    """A TCP port of 127.0.0.1 that leads to another one.

    Args:
        target: the port behind the gate.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Condition()
        self._allowed: int | None = None  # bytes that may still go to the server; None: the gate is open
        self.passed = 0  # bytes that went to the server
        self._held: set[socket.socket] = set()
        self._sockets: set[socket.socket] = set()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self, after: int = 0) -> None:
        """Let that many bytes more go to the server, of all connections together, and hold up what follows."""
        with self._lock:
            self._allowed = after

    def open(self) -> None:
        """Let everything through from now on; connections that were held up are ended."""
        with self._lock:
            self._allowed = None
            for held in self._held:
                _end(held)
            self._held.clear()
            self._lock.notify_all()

    def holds(self) -> bool:
        """Tell whether somebody waits at the gate now."""
        with self._lock:
            return bool(self._held)

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(self._listener)  # wakes the thread that accepts
        self._accepting.join()
        self._listener.close()
        self.open()
        with self._lock:
            for one in self._sockets:
                _end(one)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=10)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self._lock:
            self._sockets |= {client, server}
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            while data := client.recv(CHUNK_BYTES):
                self._pass(client, len(data))
                server.sendall(data)
        _end(server)
        back.join()
        client.close()
        server.close()
        with self._lock:
            self._sockets -= {client, server}
            self._held.discard(client)

    def _pass(self, client: socket.socket, size: int) -> None:
        """Return once so many bytes may go on.

        Raises:
            OSError: the gate was opened meanwhile, which ended the connection.
        """
        with self._lock:
            if self._allowed is not None:
                self._allowed -= size
            if self._allowed is None or self._allowed >= 0:
                self.passed += size
                return
            self._held.add(client)
            while client in self._held:
                self._lock.wait()
        raise ConnectionAbortedError


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK_BYTES):
            target.sendall(data)
    _end(target)


def _end(one: socket.socket) -> None:
    """Wake whoever reads from a socket, and end its connection."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
