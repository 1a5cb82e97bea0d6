"""A list shows an app what it made and what nobody here knows, and never what another app made."""

from __future__ import annotations

import gzip
import json

import httpx
import pytest

from proxy.relay.owned import PAGES_MAX
from proxy.settings import Settings
from tests import fakes
from tests.builders import World
from tests.proxy.relay.test_makers import OTHER, MemoryMade, TwoApps

pytestmark = pytest.mark.anyio
MINE = fakes.MemoryKeys.app_key


class Shelf:
    """A backend that keeps what is made and lists it, `limit` rows a page, as OpenAI's does."""

    def __init__(self, prefix="file", **rows):
        self.kept = []
        self.prefix, self.rows = prefix, rows
        self.asked = []
        self.packs = False

    async def answer(self, request):
        await request.aread()
        self.asked.append(str(request.url.query, "ascii"))
        if request.method == "POST":
            made = {"id": f"{self.prefix}-{len(self.kept):03}", "object": "thing", **self.rows}
            self.kept.append(made)
            return httpx.Response(200, json=made)
        if (last := request.url.path.rpartition("/")[2]) in {row["id"] for row in self.kept}:
            return httpx.Response(200, json=next(row for row in self.kept if row["id"] == last))
        name = "after_id" if "/messages/" in request.url.path else "after"
        behind, limit = request.url.params.get(name, ""), int(request.url.params.get("limit", "100"))
        rows = [row for row in self.kept if row["id"] > behind]
        page, more = rows[:limit], len(rows) > limit
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {}
        body = json.dumps({"object": "list", "data": page, **ends, "has_more": more}, indent=2).encode()
        if self.packs:
            headers = {"content-type": "application/json", "content-encoding": "gzip"}
            return httpx.Response(200, headers=headers, stream=httpx.ByteStream(gzip.compress(body)))
        return httpx.Response(200, headers={"content-type": "application/json"}, content=body)


def world(backend, store=None, **changes):
    return World(transport=httpx.MockTransport(backend.answer), keyring=TwoApps(), made=store, **changes)


async def call(made, method, path, *, key=MINE, query="", body=b""):
    client = fakes.AsgiClient(made.relay)
    await client.call(method, path, {"content-type": "application/json"}, body, key=key, query=query)
    return client


async def listed(made, path="/v1/files", *, key=MINE, query=""):
    client = await call(made, "GET", path, key=key, query=query)
    assert client.status == 200, client.body
    assert int(client.headers["content-length"]) == len(client.body)
    return [row["id"] for row in json.loads(client.body)["data"]]


@pytest.mark.parametrize(
    "path", ["/v1/files", "/v1/batches", "/v1/messages/batches", "/v1/fine_tuning/jobs", "/v1/new"]
)
async def test_each_app_sees_what_it_made_and_what_was_made_past_the_proxy(path):
    shelf = Shelf()
    shelf.kept.append({"id": "file-000"})
    made = world(shelf)
    await call(made, "POST", path, body=b"{}")
    await call(made, "POST", path, body=b"{}", key=OTHER)
    assert await listed(made, path) == ["file-000", "file-001"]
    assert await listed(made, path, key=OTHER) == ["file-000", "file-002"]
    assert (await call(made, "GET", f"{path}/file-002")).status == 404


async def test_a_list_without_others_things_goes_by_byte_for_byte():
    shelf = Shelf()
    made = world(shelf)
    await call(made, "POST", "/v1/files", body=b"{}")
    client = await call(made, "GET", "/v1/files")
    assert client.body == json.dumps(json.loads(client.body), indent=2).encode()


async def test_pages_that_are_all_others_are_passed_over():
    shelf = Shelf()
    made = world(shelf)
    for number in range(9):
        await call(made, "POST", "/v1/files", body=b"{}", key=OTHER if number < 7 else MINE)
    assert await listed(made, query="limit=3") == ["file-007", "file-008"]
    assert shelf.asked[-3:] == ["limit=3", "limit=3&after=file-002", "limit=3&after=file-005"]
    shelf.asked.clear()
    assert await listed(made, "/v1/messages/batches", query="limit=3") == ["file-007", "file-008"]
    assert shelf.asked[-1] == "limit=3&after_id=file-005"


async def test_not_all_pages_in_the_world_are_looked_through():
    shelf = Shelf()
    made = world(shelf)
    for number in range(PAGES_MAX + 5):
        await call(made, "POST", "/v1/files", body=b"{}", key=OTHER if number < PAGES_MAX + 3 else MINE)
    shelf.asked.clear()
    client = await call(made, "GET", "/v1/files", query="limit=1")
    said = json.loads(client.body)
    assert (said["data"], said["has_more"], len(shelf.asked)) == ([], True, PAGES_MAX)
    assert await listed(made, query=f"limit=1&after={said['last_id']}") == [f"file-{PAGES_MAX + 3:03}"]


async def test_what_another_worker_saw_made_is_known_from_the_store_and_not_told_while_it_is_away():
    shelf, store = Shelf(), MemoryMade()
    first, second = world(shelf, store), world(shelf, store)
    await call(first, "POST", "/v1/files", body=b"{}")
    await call(first, "POST", "/v1/files", body=b"{}", key=OTHER)
    await first.relay.aclose()
    assert await listed(second) == ["file-000"]
    store.is_away = True
    third = world(shelf, store)
    client = await call(third, "GET", "/v1/files")
    assert (client.status, json.loads(client.body)["error"]["code"]) == (503, "store_unavailable")


async def test_a_list_of_batches_tells_whose_their_outputs_are():
    shelf = Shelf("batch")
    made = world(shelf)
    await call(made, "POST", "/v1/batches", body=b"{}")
    shelf.kept[0]["output_file_id"] = "file-out9"
    await listed(made, "/v1/batches")
    assert (await call(made, "GET", "/v1/files/file-out9", key=OTHER)).status == 404
    assert made.relay.makers._known["file-out9"] == {"app_1": "default"}


async def test_a_list_that_comes_packed_is_unpacked_and_read():
    shelf = Shelf()
    shelf.packs = True
    made = world(shelf)
    await call(made, "POST", "/v1/files", body=b"{}", key=OTHER)
    client = await call(made, "GET", "/v1/files")
    assert json.loads(client.body)["data"] == []
    assert "content-encoding" not in client.headers


async def test_one_that_cannot_be_read_is_not_passed_on():
    headers = {"content-type": "application/json", "content-encoding": "br"}

    async def answer(request):
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(b"x"))

    made = World(transport=httpx.MockTransport(answer), settings=Settings())
    client = await call(made, "GET", "/v1/files")
    assert (client.status, json.loads(client.body)["error"]["code"]) == (502, "backend_protocol")


@pytest.mark.parametrize("body", [b'{"status":"ok"}', b"[1,2]", b"", b"no json"])
async def test_what_is_no_list_goes_by_as_it_came(body):
    async def answer(request):
        return httpx.Response(200, headers={"content-type": "application/json"}, content=body)

    made = World(transport=httpx.MockTransport(answer))
    assert (await call(made, "GET", "/v1/health")).body == body
