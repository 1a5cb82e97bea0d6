"""What an app made is fetched where it was made, by that app and by no other, whoever answers."""

from __future__ import annotations

import json

import httpx
import pytest

from proxy.access.keys import Principal
from proxy.access.made_store import Made
from proxy.errors import NotFound, Unavailable
from proxy.relay.makers import REMEMBERED_MAX, WAITING_MAX, Makers
from proxy.settings import Backend, Settings
from tests import fakes
from tests.builders import World, chat_reply
from tests.proxy.relay.test_endpoints import response

pytestmark = pytest.mark.anyio
OTHER = "ec_app_" + "o" * 32


class MemoryMade:
    """The store, in memory."""

    def __init__(self):
        self.rows = {}
        self.is_away = False

    def note(self, things):
        self._ask()
        self.rows.update({(thing.id, thing.app_id): thing for thing in things})

    def find(self, ids):
        self._ask()
        return [thing for thing in self.rows.values() if thing.id in ids]

    def _ask(self):
        if self.is_away:
            raise Unavailable("the store is away", remedy="wait", code="store_unavailable")


class TwoApps(fakes.MemoryKeys):
    async def find(self, secret):
        if secret == OTHER:
            return Principal("app", "key_3", app_id="app_2", name="other")
        return await super().find(secret)


class Two:
    """Two backends, each with its own things; what it made it has, everything else it has not."""

    def __init__(self):
        self.asked = []
        self.things = {"a.test": {}, "b.test": {}}
        self.next = {"id": "file-1", "object": "file"}

    async def answer(self, request):
        await request.aread()
        host, path = request.url.host, request.url.path
        self.asked.append((request.method, host, path))
        if path == "/v1/responses" and request.method == "POST":
            self.things[host]["resp_1"] = response("The sea")
            return httpx.Response(200, json=response("The sea"))
        if request.method == "POST" and path.count("/") == 2:
            self.things[host][self.next["id"]] = self.next
            return httpx.Response(200, json=self.next)
        thing = self.things[host].get(path.split("/")[3] if path.count("/") > 2 else "")
        return (
            httpx.Response(200, json=thing)
            if thing
            else httpx.Response(404, json={"error": {"message": "none"}})
        )

    def hosts(self):
        return [host for _, host, _ in self.asked]


BACKENDS = (Backend(name="a", url="http://a.test/v1", models=("big-*",)),
            Backend(name="b", url="http://b.test/v1", models=("small-*", "*")))  # fmt: skip


def world(backend, store=None, **changes):
    return World(
        transport=httpx.MockTransport(backend.answer), settings=Settings(backends=BACKENDS), keyring=TwoApps(),
        made=store, **changes,
    )  # fmt: skip


async def call(made, method, path, body=None, *, key=fakes.MemoryKeys.app_key):
    client = fakes.AsgiClient(made.relay)
    sent = b"" if body is None else json.dumps(body).encode()
    await client.call(method, path, {"content-type": "application/json"}, sent, key=key)
    return client


ASK = {"model": "small-1", "input": "a b c"}


async def test_a_response_is_fetched_cancelled_and_deleted_where_it_was_made():
    backend = Two()
    made = world(backend)
    await call(made, "POST", "/v1/responses", ASK)
    for method, path in (("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")):
        client = await call(made, method, f"/v1/responses/resp_1{path}")
        assert client.status == 200
    assert backend.hosts() == ["b.test"] * 5
    assert len(made.journal.used) == 1, "fetching is never metered"


async def test_another_app_cannot_fetch_it_and_no_backend_hears_of_the_try():
    backend = Two()
    made = world(backend)
    await call(made, "POST", "/v1/responses", ASK)
    for method, path, body in (
        ("GET", "/v1/responses/resp_1", None),
        ("DELETE", "/v1/responses/resp_1", None),
        ("POST", "/v1/responses", {**ASK, "previous_response_id": "resp_1"}),
        ("POST", "/v1/batches", {"input_file_id": "resp_1"}),
    ):
        client = await call(made, method, path, body, key=OTHER)
        assert (client.status, json.loads(client.body)["error"]["code"]) == (404, "id_not_found")
    assert len(backend.asked) == 1


async def test_what_goes_on_from_a_response_goes_to_its_backend():
    backend = Two()
    made = world(backend)
    await call(made, "POST", "/v1/responses", ASK)
    await call(
        made, "POST", "/v1/responses", {"model": "small-1", "input": "d", "previous_response_id": "resp_1"}
    )
    assert backend.hosts() == ["b.test", "b.test"]


async def test_a_streamed_response_is_known_as_soon_as_it_is_created():
    created = b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_7","model":"m"}}\n\n'
    ended = b'data: {"type":"response.completed","response":' + json.dumps(response("a")).encode() + b"}\n\n"
    seen = []

    async def pieces():
        yield created
        seen.append(await made.relay.makers.backend_of(["resp_7"], "app_1"))
        yield ended

    made = World(fakes.FakeBackend(pieces, headers=[(b"Content-Type", b"text/event-stream")]))
    await call(made, "POST", "/v1/responses", {**ASK, "stream": True})
    assert seen == ["default"]


@pytest.mark.parametrize(("store", "known"), [(True, "default"), (False, "")])
async def test_a_chat_completion_is_known_where_it_is_kept(store, known):
    made = World(fakes.FakeBackend([chat_reply()]))
    body = {"model": "small-1", "messages": [{"role": "user", "content": "a"}], "store": store}
    await call(made, "POST", "/v1/chat/completions", body)
    assert await made.relay.makers.backend_of(["chatcmpl-1"], "app_1") == known


async def test_files_and_batches_are_known_by_what_the_backend_says_of_them():
    backend = Two()
    made = world(backend)
    await call(made, "POST", "/v1/files", {"odd": 1})
    backend.next = {"id": "batch_1", "object": "batch"}
    await call(made, "POST", "/v1/batches", {"input_file_id": "file-1"})
    backend.things["a.test"]["batch_1"] = {"id": "batch_1", "output_file_id": "file-out9"}
    await call(made, "GET", "/v1/batches/batch_1")
    client = await call(made, "GET", "/v1/files/file-out9/content", key=OTHER)
    assert client.status == 404
    assert set(backend.hosts()) == {"a.test"}


async def test_an_id_that_nobody_knows_is_looked_for_at_one_backend_after_the_other():
    backend = Two()
    backend.things["b.test"]["file-old1"] = {"id": "file-old1"}
    made = world(backend)
    assert (await call(made, "GET", "/v1/files/file-old1")).status == 200
    assert (await call(made, "GET", "/v1/files/file-none1")).status == 404
    assert (await call(made, "DELETE", "/v1/files/file-none1")).status == 404
    assert backend.hosts() == ["a.test", "b.test"] * 2 + ["a.test"]


async def test_what_one_worker_made_another_finds_and_so_does_the_next_process():
    store, backend = MemoryMade(), Two()
    one = world(backend, store)
    await call(one, "POST", "/v1/responses", ASK)
    await one.relay.aclose()
    two = world(backend, store)
    assert (await call(two, "GET", "/v1/responses/resp_1")).status == 200
    assert (await call(two, "GET", "/v1/responses/resp_1", key=OTHER)).status == 404
    assert backend.hosts() == ["b.test", "b.test"]


async def test_while_the_store_is_away_what_is_in_memory_is_answered_and_the_rest_waits():
    store, backend = MemoryMade(), Two()
    made = world(backend, store)
    await call(made, "POST", "/v1/responses", ASK)
    store.is_away = True
    assert (await call(made, "GET", "/v1/responses/resp_1")).status == 200
    client = await call(made, "GET", "/v1/responses/resp_2")
    assert (client.status, json.loads(client.body)["error"]["code"]) == (503, "store_unavailable")
    await made.relay.aclose()
    assert ("makers_not_written" in [event for event, _ in made.log.events]) is (store.rows == {})


async def test_an_id_that_two_apps_were_given_is_each_ones_own():
    store = MemoryMade()
    store.note([Made("resp_1", "app_2", "b", 9)])
    makers = Makers(store, clock=fakes.FrozenClock(), log=fakes.QuietLog())
    with pytest.raises(NotFound):
        await makers.backend_of(["resp_1"], "app_1")
    store.note([Made("resp_1", "app_1", "a", 9)])
    assert await makers.backend_of(["resp_1"], "app_1") == "a"
    assert await makers.backend_of(["resp_1"], "app_2") == "b"


async def test_what_is_kept_in_memory_is_bounded():
    makers = Makers(None, clock=fakes.FrozenClock(), log=fakes.QuietLog())
    makers.note([f"resp_{n}" for n in range(REMEMBERED_MAX + 10)], "app_1", "a")
    assert (len(makers._known), len(makers._waiting)) == (REMEMBERED_MAX, WAITING_MAX)
    assert await makers.backend_of(["resp_1"], "app_2") == ""


async def test_a_video_is_remixed_where_it_was_made_and_metered():
    backend = Two()
    made = world(backend)
    backend.next = {"id": "video_1", "object": "video", "model": "small-films"}
    await call(made, "POST", "/v1/videos", {"model": "small-films", "prompt": "a sea"})
    backend.things["b.test"]["video_1"] = {"id": "video_2", "object": "video", "model": "small-films"}
    assert (await call(made, "POST", "/v1/videos/video_1/remix", {"prompt": "a calm sea"})).status == 200
    assert (await call(made, "GET", "/v1/videos/video_2/content")).status == 404
    assert (await call(made, "POST", "/v1/videos/video_1/remix", {"prompt": "b"}, key=OTHER)).status == 404
    assert backend.hosts() == ["b.test"] * 3
    assert [used.endpoint for used in made.journal.used] == ["videos", "videos"]
