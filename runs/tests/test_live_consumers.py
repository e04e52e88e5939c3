"""The sockets of the live pages, through the whole ASGI application, with a real Redis."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groups.models import GroupMembership
from groups.services import group_create, member_leave
from mlops_site.asgi import application
from mlops_site.notices import notice_send
from runs.live import consumers, frames
from runs.live.broadcast import frame_record, frames_record, log_lines_record
from runs.live.consumers import CLOSE_BAD_REQUEST, CLOSE_LOGGED_OUT, CLOSE_NO_ACCESS
from runs.models import Membership, Role, Run
from runs.projects import project_group_set
from runs.tests.rows import run_make, user_make

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _redis(redis_url: str) -> Iterator[None]:
    frames._away_until.clear()
    yield
    frames.redis_client().flushdb()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter waits."""
    monkeypatch.setattr(consumers, "SEND_SECONDS", 0.01)
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(consumers, "GAP_PATIENCE_SECONDS", 0.03)
    monkeypatch.setattr(consumers, "GAP_LIMIT_SECONDS", 0.1)


class Page:
    """An open page: what it was told, in order. ``numbers`` are those of the frames that it applied."""

    def __init__(self, path: str, cookie: str) -> None:
        headers = [
            (b"cookie", f"sessionid={cookie}".encode()),
            (b"host", b"localhost"),
            (b"origin", b"http://localhost"),
        ]
        self.socket = WebsocketCommunicator(application, path, headers=headers)

    async def connect(self) -> bool:
        connected, _ = await self.socket.connect(timeout=10)
        return bool(connected)

    async def say(self, cursor: Any) -> None:
        await self.socket.send_to(text_data=orjson.dumps({"cursor": cursor}).decode())

    async def hear(self, timeout: float = 10) -> dict[str, Any]:
        # The communicator's own receive_output would end the application when nothing comes.
        output = await asyncio.wait_for(self.socket.output_queue.get(), timeout)
        assert output["type"] == "websocket.send", output
        message: dict[str, Any] = orjson.loads(output["text"])
        return message

    async def closed(self, timeout: float = 10) -> int:
        """Wait for the socket's end, and return the code of it."""
        while True:
            output = await self.socket.receive_output(timeout)
            if output["type"] == "websocket.close":
                return int(output["code"])

    async def leave(self) -> None:
        await self.socket.disconnect(timeout=10)


def login(user: User) -> tuple[Client, str]:
    client = Client()
    client.force_login(user)
    return client, client.cookies["sessionid"].value


@asynccontextmanager
async def page_of(path: str, cookie: str) -> AsyncIterator[Page]:
    page = Page(path, cookie)
    assert await page.connect()
    try:
        yield page
    finally:
        await page.leave()


def in_database(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run on a thread with a connection of its own, as another process would."""

    def work(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        finally:
            connection.close()

    return sync_to_async(work, thread_sensitive=False)


def tell(run: Run, *numbers: int) -> None:
    """Record a frame each, whose only item says its number."""
    for number in numbers:
        with transaction.atomic():
            assert frame_record(run.pk, [{"t": "test", "n": number}]) == number  # type: ignore[list-item]


def numbers_of(message: dict[str, Any]) -> list[int]:
    assert message["type"] == "frames"
    return [item["n"] for item in message["items"]]


@pytest.fixture
def owner() -> User:
    return user_make()


@pytest.fixture
def run(owner: User) -> Run:
    return run_make(user=owner)


@pytest.fixture
def cookie(owner: User) -> str:
    return login(owner)[1]


# --- who may listen -------------------------------------------------------------------------------------------------


async def test_a_member_gets_a_snapshot_and_then_frames(run: Run, cookie: str) -> None:
    async with page_of(f"/ws/runs/{run.pk}/", cookie) as page:
        await page.say(None)
        snapshot = await page.hear()
        assert (snapshot["type"], snapshot["cursor"], snapshot["run"]["id"]) == ("snapshot", 0, run.pk)
        await in_database(tell)(run, 1, 2)
        heard = await page.hear()
        if heard["cursor"] < 2:
            heard["items"] += (await page.hear())["items"]
        assert numbers_of(heard) == [1, 2]


async def test_a_stranger_and_somebody_logged_out_are_refused(run: Run) -> None:
    for user_cookie, code in (
        (await in_database(lambda: login(user_make())[1])(), 4403),
        ("nonsense", 4401),
        ("", 4401),
    ):
        page = Page(f"/ws/runs/{run.pk}/", user_cookie)
        await page.connect()
        assert await page.closed() == code
        await page.leave()
    assert (CLOSE_NO_ACCESS, CLOSE_LOGGED_OUT) == (4403, 4401)


async def test_a_run_that_is_not_there_is_refused_like_a_strangers(cookie: str) -> None:
    page = Page("/ws/runs/999999/", cookie)
    await page.connect()
    assert await page.closed() == CLOSE_NO_ACCESS


async def test_another_origin_is_refused(run: Run, cookie: str) -> None:
    headers = [(b"cookie", f"sessionid={cookie}".encode()), (b"origin", b"http://evil.example")]
    socket = WebsocketCommunicator(application, f"/ws/runs/{run.pk}/", headers=headers)
    connected, _ = await socket.connect()
    assert not connected


async def test_a_removed_member_is_shown_out(quick: None, run: Run) -> None:
    member = await in_database(user_make)()
    membership = await in_database(
        lambda: Membership.objects.create(project=run.project, user=member, role=Role.VIEWER)
    )()
    member_cookie = await in_database(lambda: login(member)[1])()
    async with page_of(f"/ws/runs/{run.pk}/", member_cookie) as page:
        await page.say(None)
        await page.hear()
        await in_database(membership.delete)()
        assert await page.closed() == CLOSE_NO_ACCESS


async def test_who_leaves_the_projects_group_is_shown_out_at_once(
    monkeypatch: pytest.MonkeyPatch, run: Run, owner: User
) -> None:
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 3600.0)  # the page does not find out by itself
    member = await in_database(user_make)()
    member_cookie = await in_database(lambda: login(member)[1])()

    def group_make() -> GroupMembership:
        group = group_create(user=owner, name="Hospitals", people=[member])
        project_group_set(project=run.project, user=owner, group=group)
        return group.memberships.get(user=member)

    membership = await in_database(group_make)()
    async with page_of(f"/ws/runs/{run.pk}/", member_cookie) as page:
        await page.say(None)
        await page.hear()
        await in_database(member_leave)(membership=membership, by=owner)
        assert await page.closed() == CLOSE_NO_ACCESS


async def test_a_page_is_closed_when_its_user_logs_out(quick: None, run: Run, owner: User) -> None:
    client, user_cookie = await in_database(login)(owner)
    async with page_of(f"/ws/runs/{run.pk}/", user_cookie) as page:
        await page.say(None)
        await page.hear()
        await in_database(client.logout)()
        assert await page.closed() == CLOSE_LOGGED_OUT


async def test_a_page_is_closed_when_the_password_changes(quick: None, run: Run, owner: User, cookie: str) -> None:
    async with page_of(f"/ws/runs/{run.pk}/", cookie) as page:
        await page.say(None)
        await page.hear()

        def change() -> None:
            owner.set_password("a new one")
            owner.save()

        await in_database(change)()
        assert await page.closed() == CLOSE_LOGGED_OUT


async def test_a_page_is_closed_when_the_run_is_deleted(quick: None, run: Run, cookie: str) -> None:
    async with page_of(f"/ws/runs/{run.pk}/", cookie) as page:
        await page.say(None)
        await page.hear()
        await in_database(run.delete)()
        assert await page.closed() == CLOSE_NO_ACCESS


@pytest.mark.parametrize("said", ["[]", "{}", '{"cursor": -1}', '{"cursor": "5"}', '{"cursor": true}', "{"])
async def test_a_first_message_that_is_no_cursor_ends_it(run: Run, cookie: str, said: str) -> None:
    async with page_of(f"/ws/runs/{run.pk}/", cookie) as page:
        await page.socket.send_to(text_data=said)
        assert await page.closed() == CLOSE_BAD_REQUEST


async def test_a_page_that_says_nothing_is_closed(run: Run, cookie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "FIRST_MESSAGE_SECONDS", 0.1)
    async with page_of(f"/ws/runs/{run.pk}/", cookie) as page:
        assert await page.closed() == CLOSE_BAD_REQUEST


async def test_what_a_page_says_later_changes_nothing(run: Run, cookie: str) -> None:
    async with page_of(f"/ws/runs/{run.pk}/", cookie) as page:
        await page.say(None)
        await page.hear()
        await page.say(None)
        await page.socket.send_to(bytes_data=b"\x00")
        await in_database(tell)(run, 1)
        assert numbers_of(await page.hear()) == [1]


# --- exactly what was missed ----------------------------------------------------------------------------------------


async def test_a_page_that_comes_back_gets_exactly_what_it_missed(run: Run, cookie: str) -> None:
    await in_database(tell)(run, 1, 2, 3, 4, 5)
    async with page_of(f"/ws/runs/{run.pk}/", cookie) as page:
        await page.say(2)
        heard = await page.hear()
        assert (numbers_of(heard), heard["cursor"]) == ([3, 4, 5], 5)
    async with page_of(f"/ws/runs/{run.pk}/", cookie) as page:
        await page.say(5)
        assert await page.hear() == {"type": "frames", "cursor": 5, "items": []}


async def test_what_is_not_kept_any_more_is_told_anew(run: Run, cookie: str) -> None:
    await in_database(tell)(run, 1, 2, 3)
    frames.redis_client().flushdb()
    for cursor in (1, 99):
        async with page_of(f"/ws/runs/{run.pk}/", cookie) as page:
            await page.say(cursor)
            heard = await page.hear()
            assert (heard["type"], heard["cursor"]) == ("snapshot", 3)


async def test_a_frame_that_was_not_heard_is_found_in_redis(
    quick: None, run: Run, cookie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with page_of(f"/ws/runs/{run.pk}/", cookie) as page:
        await page.say(None)
        await page.hear()
        real = frames._group_channel
        monkeypatch.setattr(frames, "_group_channel", lambda group: "nobody")
        await in_database(tell)(run, 1)  # kept, but told to nobody
        monkeypatch.setattr(frames, "_group_channel", real)
        await in_database(tell)(run, 2)
        told: list[int] = []
        while len(told) < 2:
            told += numbers_of(await page.hear())
        assert told == [1, 2]


async def test_a_frame_that_is_lost_is_made_good_by_a_snapshot(
    quick: None, run: Run, cookie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the last one, after which nothing comes that would show the gap."""
    async with page_of(f"/ws/runs/{run.pk}/", cookie) as page:
        await page.say(None)
        await page.hear()
        with monkeypatch.context() as patch:
            patch.setattr("runs.live.broadcast.frames_send", lambda some: False)
            await in_database(tell)(run, 1)
        heard = await page.hear()
        assert (heard["type"], heard["cursor"]) == ("snapshot", 1)
        await in_database(tell)(run, 2)
        assert numbers_of(await page.hear()) == [2]


async def test_frames_that_arrive_in_the_other_order_are_told_in_order(run: Run, cookie: str) -> None:
    async with page_of(f"/ws/runs/{run.pk}/", cookie) as page:
        await page.say(None)
        await page.hear()
        send = sync_to_async(frames.frames_send, thread_sensitive=False)
        await send([frames.Frame(run.pk, number, f'{{"n":{number}}}') for number in (2, 3, 1)])
        await in_database(lambda: Run.objects.filter(pk=run.pk).update(frame_number=3))()
        told: list[int] = []
        while len(told) < 3:
            told += numbers_of(await page.hear())
        assert told == [1, 2, 3]


async def test_at_most_ten_messages_a_second_whatever_comes(run: Run, cookie: str) -> None:
    async with page_of(f"/ws/runs/{run.pk}/", cookie) as page:
        await page.say(None)
        await page.hear()
        writer = threading.Thread(target=_write_slowly, args=(run, 60))
        began = time.monotonic()
        writer.start()
        told: list[int] = []
        messages = 0
        while len(told) < 60:
            told += numbers_of(await page.hear())
            messages += 1
        writer.join()
        assert told == list(range(1, 61))
        assert messages <= (time.monotonic() - began) * 10 + 2


def _write_slowly(run: Run, count: int) -> None:
    for number in range(1, count + 1):
        tell(run, number)
        time.sleep(0.005)
    connection.close()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_random_disconnects_see_every_frame_exactly_once(quick: None, data: st.DataObject) -> None:
    """A page is cut off at random moments while frames are written, and comes back with its cursor each time."""
    owner = await in_database(user_make)()
    run = await in_database(lambda: run_make(user=owner))()
    user_cookie = await in_database(lambda: login(owner)[1])()
    count = data.draw(st.integers(5, 40))
    stays = data.draw(st.lists(st.floats(0.0, 0.12), min_size=1, max_size=5))
    writer = threading.Thread(target=_write_slowly, args=(run, count))
    writer.start()
    cursor: int | None = None
    told: list[int] = []

    async def listen(seconds: float | None) -> None:
        nonlocal cursor
        async with page_of(f"/ws/runs/{run.pk}/", user_cookie) as page:
            await page.say(cursor)
            until = None if seconds is None else time.monotonic() + seconds
            while cursor is None or cursor < count:
                try:
                    message = await page.hear(10 if until is None else max(0.001, until - time.monotonic()))
                except TimeoutError:
                    return
                if message["type"] == "snapshot":
                    assert cursor is None, "everything was still kept"
                    told.extend(range(1, message["cursor"] + 1))
                else:
                    told.extend(numbers_of(message))
                cursor = message["cursor"]
                assert told == list(range(1, cursor + 1))

    for stay in stays:
        await listen(stay)
    await listen(None)
    await asyncio.to_thread(writer.join)
    assert told == list(range(1, count + 1))


# --- slow pages -----------------------------------------------------------------------------------------------------


async def test_a_slow_page_holds_nobody_up_and_is_told_anew(
    quick: None, run: Run, cookie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One page does not read. Writing and another page go on; what waits for the slow one is bounded."""
    monkeypatch.setattr(consumers, "PENDING_MAX_CHARACTERS", 2_000)
    slow_consumers: list[Any] = []
    gate = asyncio.Event()
    real_send = consumers.RunConsumer.send

    async def send(self: Any, *args: Any, **kwargs: Any) -> None:
        if self.scope["query_string"] == b"slow":
            slow_consumers.append(self)
            await gate.wait()  # as a socket whose buffer is full
        await real_send(self, *args, **kwargs)

    async with (
        page_of(f"/ws/runs/{run.pk}/?slow", cookie) as slow,
        page_of(f"/ws/runs/{run.pk}/", cookie) as quick_page,
    ):
        await quick_page.say(None)
        await quick_page.hear()
        await slow.say(None)
        await slow.hear()
        monkeypatch.setattr(consumers.RunConsumer, "send", send)
        await asyncio.gather(in_database(_write_slowly)(run, 200))
        told: list[int] = []
        while len(told) < 200:
            told += numbers_of(await quick_page.hear())
        assert told == list(range(1, 201))
        consumer = slow_consumers[0]
        assert consumer._pending_characters <= 2_000
        assert len(slow_consumers) == 1
        gate.set()
        first = await slow.hear()
        assert first["type"] == "frames"
        heard = await slow.hear()
        assert (heard["type"], heard["cursor"]) == ("snapshot", 200)
        await in_database(tell)(run, 201)
        assert numbers_of(await slow.hear()) == [201]


async def test_many_pages_cost_one_encoding(run: Run, cookie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    real = frames.frames_send

    def count(some: Any) -> bool:
        encoded.append(len(some))
        return real(some)

    monkeypatch.setattr("runs.live.broadcast.frames_send", count)
    pages = [Page(f"/ws/runs/{run.pk}/", cookie) for _ in range(10)]
    for page in pages:
        assert await page.connect()
        await page.say(None)
    for page in pages:
        await page.hear()
    await in_database(tell)(run, 1)
    assert [numbers_of(await page.hear()) for page in pages] == [[1]] * 10
    assert encoded == [1]
    for page in pages:
        await page.leave()


# --- what is recorded -----------------------------------------------------------------------------------------------


async def test_log_lines_of_the_platform_are_told(run: Run, cookie: str) -> None:
    async with page_of(f"/ws/runs/{run.pk}/", cookie) as page:
        await page.say(None)
        await page.hear()
        lines = [(1.0, "stdout", "INFO building\n"), (2.0, "stderr", "x" * 9000)]
        await in_database(log_lines_record)(run.pk, "stage:build_server", lines)
        (item,) = (await page.hear())["items"]
        assert (item["t"], item["reporter"]) == ("log", "stage:build_server")
        assert item["lines"][0][1:] == [1.0, "stdout", "INFO", "INFO building"]
        assert len(item["lines"][1][4]) == 8192


def test_a_frame_belongs_to_a_transaction(run: Run) -> None:
    with pytest.raises(transaction.TransactionManagementError):
        frame_record(run.pk, [])
    with pytest.raises(Run.DoesNotExist), transaction.atomic():
        frame_record(999_999, [])


def test_frames_of_several_runs_are_numbered_each_for_itself(run: Run, owner: User) -> None:
    other = run_make(user=owner)
    with transaction.atomic():
        assert frames_record({run.pk: [], other.pk: []}) == {run.pk: 1, other.pk: 1}
    with transaction.atomic():
        assert frames_record({other.pk: []}) == {other.pk: 2}
        assert frame_record(other.pk, []) == 3


def test_without_redis_changes_are_still_made(run: Run, settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    tell(run, 1)
    tell(run, 2)
    assert Run.objects.get(pk=run.pk).frame_number == 2
    assert caplog.text.count("Redis is away") == 1
    assert frames.frames_kept(run.pk, [1, 2]) == {}


# --- notices --------------------------------------------------------------------------------------------------------


async def test_notices_reach_every_page_of_their_users_alone(owner: User, cookie: str) -> None:
    stranger_cookie = await in_database(lambda: login(user_make())[1])()
    async with (
        page_of("/ws/updates/", cookie) as first,
        page_of("/ws/updates/", cookie) as second,
        page_of("/ws/updates/", stranger_cookie) as stranger,
    ):
        notice = {"kind": "toast", "text": "done", "level": "success", "url": "/"}
        await asyncio.sleep(0.1)
        await in_database(notice_send)([owner.pk], notice)
        assert [await first.hear(), await second.hear()] == [notice, notice]
        assert await stranger.socket.receive_nothing(0.2)


async def test_notices_end_with_the_login(quick: None, owner: User) -> None:
    client, user_cookie = await in_database(login)(owner)
    async with page_of("/ws/updates/", user_cookie) as page:
        await in_database(client.logout)()
        await asyncio.sleep(0.15)
        await in_database(notice_send)([owner.pk], {"kind": "toast", "text": "secret"})
        assert await page.closed() == CLOSE_LOGGED_OUT
    nobody = Page("/ws/updates/", "")
    await nobody.connect()
    assert await nobody.closed() == CLOSE_LOGGED_OUT
