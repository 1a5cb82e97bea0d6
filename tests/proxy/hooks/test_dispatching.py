import base64

import anyio
import pytest
import structlog

from proxy.errors import Unavailable
from proxy.hooks.dispatching import Dispatcher, tell
from proxy.hooks.signing import is_ours
from proxy.hooks.store import Webhooks
from proxy.metering.usage import Line
from proxy.settings import Billing
from tests.books import Bookkeeping

pytestmark = pytest.mark.anyio


class Receiver:
    """Answers as it is told to, and remembers what it was sent."""

    def __init__(self, *answers):
        self.answers, self.got = list(answers), []

    async def send(self, url, body, headers):
        self.got.append((url, body, headers))
        return self.answers.pop(0) if self.answers else (True, "204")


@pytest.fixture
def books(engine):
    return Bookkeeping(engine)


@pytest.fixture
def hooks(books):
    return Webhooks(books.engine, clock=books.clock, ids=books.ids, key=lambda: bytes(32))


def happens(books, label="2026-11"):
    books.answer([Line("w_0", 500_000)])
    books.close(label, Billing(comment_days=14))


async def test_what_happened_is_told_signed_and_once(books, hooks):
    made, secret = hooks.add("https://hooks.example/in")
    happens(books)
    receiver = Receiver()
    dispatcher = Dispatcher(hooks, receiver, books.clock)
    assert await dispatcher.turn() == 1
    assert await dispatcher.turn() == 0
    ((url, body, headers),) = receiver.got
    assert url == made.url
    key = base64.b64decode(secret.removeprefix("whsec_"))
    assert is_ours(headers, body, key, books.clock.now_us() // 1_000_000)


async def test_a_message_that_failed_comes_again_as_the_same(books, hooks):
    hooks.add("https://hooks.example/in")
    happens(books)
    receiver = Receiver((False, "503"))
    dispatcher = Dispatcher(hooks, receiver, books.clock)
    await dispatcher.turn()
    assert await dispatcher.turn() == 0
    books.clock.advance(60)
    await dispatcher.turn()
    first, second = receiver.got
    assert first[1] == second[1]
    assert first[2]["webhook-id"] == second[2]["webhook-id"]
    assert first[2]["webhook-timestamp"] != second[2]["webhook-timestamp"]
    assert [row["answer"] for row in hooks.messages()] == ["204"]


async def test_whoever_is_gone_is_told_nothing_more(books, hooks):
    hooks.add("https://hooks.example/in")
    happens(books)
    receiver = Receiver((False, "410"))
    dispatcher = Dispatcher(hooks, receiver, books.clock)
    await dispatcher.turn()
    assert hooks.living() == []
    happens(books, "2026-12")
    books.clock.advance(60)
    assert await dispatcher.turn() == 0


async def test_when_the_store_is_away_it_is_said_once_and_looked_again(books):
    looks = iter([Unavailable("away"), Unavailable("away"), ZeroDivisionError])

    class Away:
        def collect(self):
            raise next(looks)

    with structlog.testing.capture_logs() as logs, pytest.raises(ZeroDivisionError):
        await Dispatcher(Away(), Receiver(), books.clock, every_s=0).run()
    assert [one["event"] for one in logs] == ["webhooks_not_looked_at"]


async def test_telling_ends_when_it_is_told_to(books, tmp_path):
    with anyio.move_on_after(0) as scope:
        await tell(books.engine, tmp_path, books.clock)
    assert scope.cancelled_caught
