"""Reports metrics, rounds, events and models of a federated-learning run to Roundtable.

    import roundtable

    with roundtable.event("train", value=round_index):
        ...
    roundtable.log({"train_loss": 0.31, "val_accuracy": 0.9}, step=epoch, round=round_index)
    roundtable.log_model({"weight": array}, round=round_index)

Nothing here blocks or fails the training: reports go into a bounded queue that background threads send over MQTT
(QoS 1) and models travel over HTTP. When the queue is full the oldest reports are dropped and counted in the log.
A report is kept until the platform says that it has stored it, and sent again where the broker lost it or had nobody to
give it to; the platform recognises what comes twice.
Outside of a run (no ROUNDTABLE_* environment, or no paho-mqtt) every call does nothing, after one warning.

The one dependency is paho-mqtt 2. `environment`, `new_mqtt_client`, `publish`, `request`, `store_model` and
`encode_safetensors` are what an FL library needs for its own traffic; unlike the reporting functions they raise.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import functools
import hashlib
import http.client
import json
import logging
import math
import os
import re
import secrets
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessageInfo

__all__ = [
    "Environment",
    "NotInARun",
    "PlatformError",
    "StoredModel",
    "close",
    "encode_safetensors",
    "environment",
    "event",
    "flush",
    "init",
    "initial_model",
    "log",
    "log_model",
    "log_round",
    "new_mqtt_client",
    "publish",
    "report_model",
    "request",
    "store_model",
]

logger = logging.getLogger("roundtable")
P = ParamSpec("P")

BATCH_SECONDS = 0.2
BATCH_POINTS = 500
QUEUE_LIMIT = 20_000  # reports held while the broker is away
UNACKNOWLEDGED_LIMIT = 100  # messages handed to the MQTT client that the broker does not hold for the platform yet
KEPT_LIMIT = 1_000  # messages that the broker holds and the platform has not yet stored; of more the oldest are let go
KEPT_BYTES = 32 * 2**20
NO_MATCHING_SUBSCRIBERS = 16  # MQTT 5, section 3.4.2.1: the broker took the message, and nobody was there to hear it
AGAIN_SECONDS = (0.5, 1.0, 2.0, 4.0)  # pauses before what nobody heard is sent again; the last one over and over
UNHEARD_SECONDS = 2.0  # how long flush and close wait for a listener where there never was one
STORED_SECONDS = 3.0  # how long they wait for the platform to have stored what the broker holds
UPLOAD_LIMIT = 8  # models waiting for their upload
ANSWER_LIMIT = 2**31  # bytes of an HTTP answer
REQUEST_TIMEOUT = 30.0  # seconds that one HTTP attempt may be silent
COMPLAINT_LIMIT = 1_000  # different warnings of one process
NAME_LIMIT = 200
VALUE_LIMIT = 1_000  # characters of an event's value

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_\-./: %]")
_SAFETENSORS_DTYPES = {
    "bool": "BOOL", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64",
    "float16": "F16", "float32": "F32", "float64": "F64",
}  # fmt: skip


# --- where this process runs ---------------------------------------------------------------------------------------


class NotInARun(RuntimeError):
    """This process was not opened by Roundtable: the message names what is missing."""


class PlatformError(RuntimeError):
    """The platform refused a request, or could not be reached within the time limit.

    `status` is the HTTP status, or None when there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Environment:
    """What Roundtable gives an instance. `edge_id` 0 is the aggregator."""

    url: str
    run_id: int
    edge_id: int
    token: str = field(repr=False)
    home: Path
    broker_host: str
    broker_port: int
    broker_user: str
    broker_password: str = field(repr=False)
    broker_tls: bool = False


def environment() -> Environment:
    """Reads ROUNDTABLE_URL, _RUN_ID, _EDGE_ID, _TOKEN, _HOME (default /fedml) and conf/mqtt_config.yaml in the home.

    Raises NotInARun when something is missing or malformed.
    """
    names = ("ROUNDTABLE_URL", "ROUNDTABLE_RUN_ID", "ROUNDTABLE_EDGE_ID", "ROUNDTABLE_TOKEN")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise NotInARun(f"{', '.join(missing)} not set: this process was not opened by Roundtable")
    home = Path(os.environ.get("ROUNDTABLE_HOME") or "/fedml")
    path = home / "conf" / "mqtt_config.yaml"
    try:
        broker = _read_flat_yaml(path.read_text(encoding="utf-8"))
        return Environment(
            url=os.environ["ROUNDTABLE_URL"].rstrip("/"),
            run_id=int(os.environ["ROUNDTABLE_RUN_ID"]),
            edge_id=int(os.environ["ROUNDTABLE_EDGE_ID"]),
            token=os.environ["ROUNDTABLE_TOKEN"],
            home=home,
            broker_host=str(broker["BROKER_HOST"]),
            broker_port=int(broker["BROKER_PORT"]),
            broker_user=str(broker.get("MQTT_USER") or ""),
            broker_password=str(broker.get("MQTT_PWD") or ""),
            broker_tls=broker.get("MQTT_TLS") in (True, "true", "True", 1),
        )
    except OSError as error:
        raise NotInARun(f"{path} cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise NotInARun(f"{path} has no {error.args[0]}") from error
    except ValueError as error:
        raise NotInARun(f"the run's environment is malformed: {error}") from error


def _read_flat_yaml(text: str) -> dict[str, Any]:
    """Reads lines of `KEY: value` with values as JSON; what is not JSON is taken as it stands."""
    values: dict[str, Any] = {}
    for line in text.splitlines():
        key, separator, raw = line.partition(":")
        if not separator or key.lstrip().startswith("#"):
            continue
        try:
            values[key.strip()] = json.loads(raw)
        except ValueError:
            values[key.strip()] = raw.strip().strip("'\"")
    return values


# --- traffic that an FL library shares -----------------------------------------------------------------------------


def new_mqtt_client(where: Environment, name: str) -> Client:
    """Makes a paho-mqtt 2 client for MQTT 5 with the instance's credentials; it is not connected yet.

    `name` is the start of the client id, which ends in random digits. Raises ImportError without paho-mqtt.
    """
    from paho.mqtt.client import Client, MQTTv5
    from paho.mqtt.enums import CallbackAPIVersion

    client_id = f"{name}-{where.run_id}-{where.edge_id}-{secrets.token_hex(6)}"
    client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTv5)
    if where.broker_user:
        client.username_pw_set(where.broker_user, where.broker_password)
    if where.broker_tls:
        client.tls_set()
    client.reconnect_delay_set(min_delay=1, max_delay=10)
    return client


def publish(client: Client, topic: str, payload: bytes | str) -> MQTTMessageInfo:
    """Publishes with QoS 1. A message that meets a broken connection is sent after the next one."""
    from paho.mqtt.enums import MQTTErrorCode

    info = client.publish(topic, payload, qos=1)
    if info.rc == MQTTErrorCode.MQTT_ERR_NO_CONN:  # paho has queued it, but its info would raise ever after
        info.rc = MQTTErrorCode.MQTT_ERR_SUCCESS
    return info


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the run token to another place."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_opener = urllib.request.build_opener(_RefuseRedirects)


def request(
    where: Environment,
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    time_limit: float = 300.0,
    max_bytes: int = ANSWER_LIMIT,
) -> bytes:
    """Calls the platform's API with the run token and returns the body of its answer.

    While the platform is away, busy (429) or ill (5xx), the call is repeated with growing pauses for at most
    `time_limit` seconds. Raises PlatformError with the platform's own sentence for any other refusal, and with status
    413 for an answer of more than `max_bytes`.
    """
    deadline = time.monotonic() + time_limit
    pause = 0.5
    while True:
        headers = {"Authorization": f"Bearer {where.token}"}
        if body is not None:
            headers["Content-Type"] = "application/octet-stream"
        call = urllib.request.Request(where.url + path, data=body, method=method, headers=headers)  # noqa: S310
        try:
            with _opener.open(call, timeout=REQUEST_TIMEOUT) as answer:
                content: bytes = answer.read(max_bytes + 1)
            if len(content) > max_bytes:
                raise PlatformError(f"{path.partition('?')[0]} answered with more than {max_bytes} bytes", 413)
            return content
        except urllib.error.HTTPError as error:
            failure = PlatformError(_refusal(error), error.code)
            if error.code != 429 and error.code < 500:
                raise failure from None
        except (OSError, http.client.HTTPException) as error:
            failure = PlatformError(f"{where.url} cannot be reached: {getattr(error, 'reason', error)}")
        if time.monotonic() + pause > deadline:
            raise failure
        logger.warning("%s; trying again in %.1f s", failure, pause)
        time.sleep(pause)
        pause = min(pause * 2, 10.0)


def _refusal(error: urllib.error.HTTPError) -> str:
    """The platform's sentence, or the status when the answer has none. Never shows the token."""
    sentence = ""
    with contextlib.suppress(Exception), error:
        sentence = str(json.loads(error.read(65_536))["error"])
    path = urllib.parse.urlsplit(error.url).path
    return f"{path} answered {error.code}: {sentence or error.reason}"


def encode_safetensors(arrays: Mapping[str, Any]) -> bytes:
    """Writes named arrays in the safetensors format (https://github.com/huggingface/safetensors#format).

    `arrays` maps names to NumPy arrays, or to tensors that have `detach()`. The same arrays give the same bytes,
    whatever their order. Raises ValueError for a dtype that the format lacks.
    """
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    offset = 0
    plain = {name: _as_array(array) for name, array in arrays.items()}
    for name in sorted(plain, key=lambda name: (-plain[name].dtype.itemsize, name)):  # so that each is aligned
        array = plain[name]
        dtype = _SAFETENSORS_DTYPES.get(array.dtype.name)
        if dtype is None:
            raise ValueError(f"{name!r} is of type {array.dtype.name}, which safetensors files cannot hold")
        part: bytes = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        header[name] = {
            "dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + len(part)],
        }  # fmt: skip
        parts.append(part)
        offset += len(part)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return b"".join([len(head).to_bytes(8, "little"), head, *parts])


def _as_array(array: Any) -> Any:
    return array.detach().cpu().numpy() if hasattr(array, "detach") else array


@dataclass(frozen=True)
class StoredModel:
    """A model in the platform's store; `size` is in bytes."""

    key: str
    sha256: str
    size: int


def store_model(where: Environment, content: bytes, round: int, kind: str, *, time_limit: float = 300.0) -> StoredModel:
    """Stores the bytes of a safetensors file. Does not report it: see `report_model`.

    `kind` is "aggregated" (the aggregator alone) or "client"; `round` -1 is before the first. The same bytes again get
    the same key. Raises PlatformError, after retries for at most `time_limit` seconds.
    """
    digest = hashlib.sha256(content).hexdigest()
    query = urllib.parse.urlencode({"kind": kind, "round": round, "sha256": digest})
    path = f"/api/runs/{where.run_id}/models?{query}"
    answer = request(where, "POST", path, content, time_limit=time_limit)
    try:
        return StoredModel(str(json.loads(answer)["key"]), digest, len(content))
    except (ValueError, KeyError, TypeError):
        raise PlatformError("the model store's answer has no key") from None


def initial_model(where: Environment, *, time_limit: float = 300.0) -> StoredModel | None:
    """The model of another run that this run is to start from, or None where it starts anew.

    Fetch its bytes as those of any model of this run: `request(where, "GET", f"/api/runs/{run_id}/models/{key}")`.
    Raises PlatformError, after retries for at most `time_limit` seconds.
    """
    answer = request(where, "GET", f"/api/runs/{where.run_id}/initial-model", time_limit=time_limit)
    try:
        model = json.loads(answer)["model"]
        return None if model is None else StoredModel(str(model["key"]), str(model["sha256"]), int(model["size"]))
    except (ValueError, KeyError, TypeError):
        raise PlatformError("the platform's answer does not say which model to start from") from None


# --- the background reporter ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Upload:
    content: bytes
    round: int
    kind: str
    metrics: dict[str, float | str]


@dataclass
class _Sent:
    """A message on its way to the platform's database."""

    topic: str
    body: str
    held: bool = False  # by the broker, for the platform
    tries: int = 0  # how often nobody heard it
    again_at: float = math.inf  # monotonic seconds


class _Outbox:
    """Messages that the platform has not stored yet, by `seq`. Every method expects the reporter's lock.

    A message is outstanding until the broker holds it for the platform: one that meets no listener (the broker is back
    before the platform) is due again after a pause. One that the broker holds is kept until the platform has stored it,
    because a broker that was killed has forgotten it: after each new connection all of these are due again.
    """

    def __init__(self) -> None:
        self.heard = False  # somebody was there for one of the messages
        self.confirming = False  # the platform says what it has stored
        self.trusting = False  # it cannot be heard: what the broker holds is given up
        self._kept: dict[int, _Sent] = {}
        self._size = 0  # bytes, about
        self._seq_of: dict[int, int] = {}  # by the MQTT client's message id
        self._early: dict[int, int] = {}  # answers that came before the message id was known

    @property
    def outstanding(self) -> int:
        """How many messages the broker does not hold for the platform."""
        return sum(not sent.held for sent in self._kept.values())

    @property
    def unheard(self) -> int:
        """How many of them it had nobody to give to."""
        return sum(sent.tries > 0 and not sent.held for sent in self._kept.values())

    @property
    def unconfirmed(self) -> int:
        """How many messages the platform may not have stored."""
        return len(self._kept)

    def add(self, seq: int, topic: str, body: str) -> None:
        self._kept[seq] = _Sent(topic, body)
        self._size += len(body)
        if len(self._kept) > KEPT_LIMIT or self._size > KEPT_BYTES:
            for old in [old for old, sent in self._kept.items() if sent.held]:
                self._forget(old)
                if len(self._kept) <= KEPT_LIMIT and self._size <= KEPT_BYTES:
                    return

    def published(self, seq: int, mid: int) -> None:
        self._seq_of[mid] = seq
        if (reason := self._early.pop(mid, None)) is not None:
            self.answered(mid, reason)

    def answered(self, mid: int, reason: int) -> None:
        """Takes the broker's answer to a message."""
        seq = self._seq_of.pop(mid, None)
        if seq is None:
            self._early[mid] = reason
            return
        sent = self._kept.get(seq)
        if sent is None:
            return
        if reason == NO_MATCHING_SUBSCRIBERS:
            sent.again_at = time.monotonic() + AGAIN_SECONDS[min(sent.tries, len(AGAIN_SECONDS) - 1)]
            sent.tries += 1
        elif reason >= 128:
            self._forget(seq)
        else:
            sent.held = self.heard = True
            if self.trusting:
                self._forget(seq)

    def stored(self, seqs: list[Any]) -> None:
        """Forgets what the platform has stored, or will never store."""
        self.heard = self.confirming = True
        for seq in seqs:
            self._forget(seq)

    def _forget(self, seq: int) -> None:
        if (sent := self._kept.pop(seq, None)) is not None:
            self._size -= len(sent.body)

    def connected(self) -> None:
        """Makes everything that the broker held due again: it may have come back without it."""
        for sent in self._kept.values():
            if sent.held:
                sent.held, sent.tries, sent.again_at = False, 0, 0.0

    def take_due(self) -> list[tuple[int, _Sent]]:
        """Returns what is to be sent again now."""
        now = time.monotonic()
        due = [(seq, sent) for seq, sent in self._kept.items() if sent.again_at <= now]
        for _, sent in due:
            sent.again_at = math.inf
        return due


class _Reporter:
    """The queue of reports and the two threads that send them: one for messages, one for models."""

    def __init__(self, where: Environment) -> None:
        self.where = where
        self.instance = secrets.token_hex(8)
        self.first_round_at: float | None = None
        self.last_round = 0
        self.next_step = 0
        self._sequence = 0
        self._dropped = 0
        self._pending: collections.deque[tuple[str, dict[str, Any]]] = collections.deque()
        self._outbox = _Outbox()
        self._uploads: collections.deque[_Upload] = collections.deque()
        self._uploading = False
        self._sending = False
        self._hurry = False
        self._closed = False
        self._changed = threading.Condition()
        self._client = new_mqtt_client(where, "sdk")
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        self._client.connect_async(where.broker_host, where.broker_port, keepalive=30)
        self._client.loop_start()
        for target in (self._send_messages, self._send_models):
            threading.Thread(target=target, name=f"roundtable{target.__name__}", daemon=True).start()

    def put(self, topic: str, payload: dict[str, Any]) -> None:
        """Queues one report; a metric point is sent together with its neighbours."""
        with self._changed:
            if len(self._pending) >= QUEUE_LIMIT:
                self._pending.popleft()
                self._dropped += 1
            self._pending.append((topic, payload))
            self._changed.notify_all()

    def put_stored(self, stored: StoredModel, round: int, kind: str, metrics: Mapping[str, float | str]) -> None:
        """Queues the report of a model that is in the store."""
        self.put("model", {"round_index": round, "kind": kind, **asdict(stored), "metrics": dict(metrics)})

    def put_model(self, upload: _Upload) -> None:
        """Queues a model for its upload."""
        with self._changed:
            if len(self._uploads) >= UPLOAD_LIMIT:
                lost = self._uploads.popleft()
                logger.warning("the model of round %d is dropped: %d others wait", lost.round, UPLOAD_LIMIT)
            self._uploads.append(upload)
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Waits until everything queued is delivered; False when `timeout` seconds were not enough, or nobody listens.

        Delivered is what the platform has stored, or the broker holds for a platform that is busy or away.
        """
        deadline = time.monotonic() + timeout
        nobody = time.monotonic() + UNHEARD_SECONDS
        stored: float | None = None  # until when the platform may take to store what the broker holds
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
        try:
            while True:
                with self._changed:
                    undelivered, unheard = self._undelivered(), self._outbox.unheard
                    if not undelivered and not (self._outbox.confirming and self._outbox.unconfirmed):
                        return True
                    listened = self._outbox.heard
                now = time.monotonic()
                if not undelivered:
                    stored = stored or now + STORED_SECONDS
                    if now >= min(stored, deadline):
                        return True
                elif now >= deadline or (undelivered == unheard and not listened and now >= nobody):
                    return False
                time.sleep(0.02)
        finally:
            self._hurry = False

    def close(self, timeout: float) -> bool:
        """Flushes, then ends the threads and the connection; says in the log what may be lost."""
        complete = self.flush(timeout)
        with self._changed:
            self._closed = True
            left, unheard = self._undelivered(), self._outbox.unheard
            unconfirmed = self._outbox.unconfirmed if self._outbox.confirming else 0
            self._changed.notify_all()
        if not complete:
            logger.warning("closed with %d reports undelivered, of which nobody heard %d", left, unheard)
        elif unconfirmed:
            logger.warning("closed; the platform has %d messages still to take from the broker", unconfirmed)
        self._client.disconnect()
        self._client.loop_stop()
        return complete

    def _undelivered(self) -> int:
        """How many reports, messages and models the broker or the store do not have; expects the lock."""
        queued = len(self._pending) + len(self._uploads) + self._sending + self._uploading
        return queued + self._outbox.outstanding

    def _send_messages(self) -> None:
        """Until closed: 1. wait for a report, 2. wait a little for its neighbours, 3. send them.

        In between, what has to be sent again is, at every turn.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._outbox.unconfirmed or self._closed)
                self._changed.wait_for(
                    lambda: self._closed or self._hurry or len(self._pending) >= BATCH_POINTS, BATCH_SECONDS
                )
                if self._closed:
                    return
                again = self._outbox.take_due() if self._client.is_connected() else []
                full = self._outbox.outstanding >= UNACKNOWLEDGED_LIMIT
                if not again and (full or not self._pending or not self._client.is_connected()):
                    self._changed.wait(BATCH_SECONDS)
                    continue
                if self._dropped:
                    logger.warning("dropped the %d oldest reports: the platform was away too long", self._dropped)
                    self._dropped = 0
                messages = [] if full else self._take()
                self._sending = True
            try:
                for seq, sent in again:
                    self._publish_body(seq, sent.topic, sent.body)
                for topic, payload in messages:
                    self._publish(topic, payload)
            except Exception:
                logger.exception("some reports could not be sent")
            finally:
                self._sending = False

    def _take(self) -> list[tuple[str, dict[str, Any]]]:
        """Takes up to BATCH_POINTS reports off the queue; neighbouring metric points become one message."""
        messages: list[tuple[str, dict[str, Any]]] = []
        for _ in range(min(BATCH_POINTS, len(self._pending))):
            topic, payload = self._pending.popleft()
            if topic != "metrics":
                messages.append((topic, payload))
            elif messages and messages[-1][0] == "metrics":
                messages[-1][1]["metrics"].append(payload)
            else:
                messages.append(("metrics", {"metrics": [payload]}))
        return messages

    def _publish(self, topic: str, payload: dict[str, Any]) -> None:
        self._sequence += 1
        seq = self._sequence
        body = json.dumps({"instance": self.instance, "seq": seq, **payload}, allow_nan=False)
        topic = f"runs/{self.where.run_id}/{self.where.edge_id}/{topic}"
        with self._changed:
            self._outbox.add(seq, topic, body)
        self._publish_body(seq, topic, body)

    def _publish_body(self, seq: int, topic: str, body: str) -> None:
        info = publish(self._client, topic, body)  # without the lock: the client calls back under one of its own
        with self._changed:
            self._outbox.published(seq, info.mid)

    def _send_models(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._uploads or self._closed)
                if self._closed:
                    return
                upload = self._uploads.popleft()
                self._uploading = True
            try:
                stored = store_model(self.where, upload.content, upload.round, upload.kind)
                self.put_stored(stored, upload.round, upload.kind, upload.metrics)
            except Exception as error:
                logger.warning("the model of round %d was not stored: %s", upload.round, error)
            finally:
                self._uploading = False

    def _on_connect(self, client: Client, userdata: Any, flags: Any, reason_code: Any, properties: Any) -> None:
        if reason_code.is_failure:
            logger.warning("the broker refused the connection: %s", reason_code)
            return
        client.subscribe(f"runs/{self.where.run_id}/{self.where.edge_id}/stored")
        with self._changed:
            self._outbox.connected()
            self._changed.notify_all()

    def _on_subscribe(self, client: Client, userdata: Any, mid: int, reason_codes: Any, properties: Any) -> None:
        with self._changed:  # a device that was bound before the platform said what it has stored may not hear it
            self._outbox.trusting = any(reason.is_failure for reason in reason_codes)

    def _on_message(self, client: Client, userdata: Any, message: Any) -> None:
        """The platform says what it has stored, and what it refused."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            stored = json.loads(message.payload)
            if stored["instance"] != self.instance:
                return
            with self._changed:
                self._outbox.stored(list(stored["seqs"]))
                self._changed.notify_all()
            for refused in stored.get("refused", ()):
                reason = str(refused["reason"])
                _complain(f"refused: {reason}", "the platform refused a report: %s", reason)

    def _on_publish(self, client: Client, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:
        with self._changed:
            self._outbox.answered(mid, reason_code.value)
        if reason_code.is_failure:
            _complain("refused by the broker", "the broker refused a report: %s", reason_code)


_reporter: _Reporter | None = None
_start = threading.Lock()
_silent = False
_complaints: set[str] = set()


def _get_reporter() -> _Reporter | None:
    """The reporter of this process, made at the first call; None outside of a run."""
    global _reporter, _silent
    with _start:
        if _reporter is None and not _silent:
            try:
                _reporter = _Reporter(environment())
            except (NotInARun, ImportError) as error:
                _silent = True
                logger.warning("nothing is reported to Roundtable: %s", error)
        return _reporter


def _after_fork() -> None:
    """A forked worker reports as an instance of its own: threads and sockets do not survive a fork."""
    global _reporter, _start
    _reporter, _start = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _complain(subject: str, message: str, *arguments: object) -> None:
    """Warns once per subject, so that a mistake in a loop does not fill the log."""
    if subject not in _complaints and len(_complaints) < COMPLAINT_LIMIT:
        _complaints.add(subject)
        logger.warning(message, *arguments)


def _never_failing(function: Callable[P, None]) -> Callable[P, None]:
    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except Exception as error:
            _complain(function.__name__, "%s: %s: %s", function.__name__, type(error).__name__, error)

    return guarded


# --- what training code calls --------------------------------------------------------------------------------------


@_never_failing
def init() -> None:
    """Connects now instead of at the first report. Optional."""
    _get_reporter()


@_never_failing
def log(metrics: Mapping[str, Any], step: float | None = None, round: int | None = None) -> None:
    """Reports named numbers of one moment.

    `metrics` maps names to numbers (Python's, NumPy's or one-element tensors); NaN and infinities are kept as such.
    Names may hold letters, digits and `_ - . / : space %`; other characters become `_`.
    `step` is the place on the x axis: by default the round, else a count of the calls. `round` is the FL round.
    """
    reporter = _get_reporter()
    if reporter is None:
        return
    now = time.time()
    if round is not None:
        round = int(round)
        reporter.last_round = round
    if step is None:
        step = round if round is not None else reporter.next_step
    step = float(step)
    if not math.isfinite(step):
        raise ValueError("step must be a finite number")
    reporter.next_step = int(step) + 1
    for name, value in metrics.items():
        number = _as_number(name, value)
        if number is None:
            continue
        point = {"name": _as_name(name), "step": step, "time": now, "value": number}
        if round is not None:
            point["round"] = round
        reporter.put("metrics", point)


@_never_failing
def log_round(round_index: int, total_rounds: int) -> None:
    """Reports that a round is finished: 0-based, -1 before the first. For the aggregator; others are ignored."""
    reporter = _get_reporter()
    if reporter is None:
        return
    if reporter.where.edge_id != 0:
        _complain("log_round by a client", "log_round is for the aggregator; the call is ignored")
        return
    now = time.monotonic()
    if reporter.first_round_at is None:
        reporter.first_round_at = now
    reporter.last_round = max(int(round_index), 0)
    reporter.put(
        "round",
        {
            "round_index": int(round_index),
            "total_rounds": int(total_rounds),
            "running_time": now - reporter.first_round_at,
        },
    )


@contextlib.contextmanager
def event(name: str, value: object = "") -> Iterator[None]:
    """Reports when a span of work starts and ends. `value` tells spans of one name apart, such as the round."""
    _event_edge(name, value, "started_time")
    try:
        yield
    finally:
        _event_edge(name, value, "ended_time")


@_never_failing
def _event_edge(name: str, value: object, edge: str) -> None:
    reporter = _get_reporter()
    if reporter is not None:
        text = str(value)[:VALUE_LIMIT]
        reporter.put("event", {"event_name": _as_name(name), "event_value": text, edge: time.time()})


@_never_failing
def log_model(
    model: str | os.PathLike[str] | Mapping[str, Any],
    round: int | None = None,
    kind: str | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Stores a model in the platform and reports it, in the background.

    `model` is a path of a safetensors file, or named arrays (also a PyTorch `state_dict`); it is read before the call
    returns, so that training may change it. `round` is by default the last one reported. `kind` is "aggregated" or
    "client", by default what this reporter is. `metrics` are shown beside the model.
    """
    reporter = _get_reporter()
    if reporter is None:
        return
    content = encode_safetensors(model) if isinstance(model, Mapping) else Path(model).read_bytes()
    reporter.put_model(
        _Upload(
            content=content,
            round=reporter.last_round if round is None else int(round),
            kind=kind or _default_kind(reporter),
            metrics=_as_metrics(metrics),
        )
    )


@_never_failing
def report_model(
    stored: StoredModel, round: int, kind: str | None = None, metrics: Mapping[str, Any] | None = None
) -> None:
    """Reports a model that is in the platform's store already. The arguments are those of `log_model`."""
    reporter = _get_reporter()
    if reporter is not None:
        reporter.put_stored(stored, int(round), kind or _default_kind(reporter), _as_metrics(metrics))


def flush(timeout: float = 10.0) -> bool:
    """Waits at most `timeout` seconds until every report is delivered; False when some are not. True outside a run.

    Delivered means stored by the platform, or held by the broker where the platform takes more than 3 seconds to store
    it. Where nobody has ever listened it gives up after 2 seconds.
    """
    reporter = _reporter
    return reporter is None or reporter.flush(timeout)


@_never_failing
def close(timeout: float = 10.0) -> None:
    """Delivers what is queued, for at most `timeout` seconds, and disconnects. Done by itself at exit."""
    global _reporter
    with _start:
        reporter, _reporter = _reporter, None
    if reporter is not None:
        reporter.close(timeout)


@atexit.register
def _at_exit() -> None:
    global _silent
    close()
    _silent = True


def _default_kind(reporter: _Reporter) -> str:
    return "aggregated" if reporter.where.edge_id == 0 else "client"


def _as_name(name: object) -> str:
    text = str(name)
    clean = _NOT_IN_A_NAME.sub("_", text)[:NAME_LIMIT] or "_"
    if clean != text:
        _complain(f"name {clean}", "the name %.250r is reported as %r", text, clean)
    return clean


def _as_number(name: object, value: Any) -> float | str | None:
    """A finite number, or the name of one that JSON lacks; None with a warning for what is no number."""
    try:
        number = float(value.item() if hasattr(value, "item") else value)
    except Exception as error:
        _complain(f"value of {name}", "%.250r is not reported: %s", name, error)
        return None
    if math.isfinite(number):
        return number
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


def _as_metrics(metrics: Mapping[str, Any] | None) -> dict[str, float | str]:
    numbers = ((_as_name(name), _as_number(name, value)) for name, value in (metrics or {}).items())
    return {name: number for name, number in numbers if number is not None}
