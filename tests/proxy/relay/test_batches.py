"""A batch's output goes by byte for byte, and each of its answers is metered once."""

from __future__ import annotations

import gzip
import itertools
import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.access.limits import Limits
from proxy.errors import Unavailable
from proxy.metering.batches import line_id
from proxy.settings import Attribution, Settings
from tests import fakes
from tests.builders import World
from tests.proxy.relay.test_admission import Keys, Months
from tests.proxy.wire.test_batches import CHAT, line, result

pytestmark = pytest.mark.anyio
PATH = "/v1/files/file-out1/content"
LINES = [line(custom_id="a"), line(custom_id="b"), line(None, custom_id="c")]
OUTPUT = b"\n".join(LINES) + b"\n"
OUTPUT_FILE = {"id": "file-out1", "object": "file", "purpose": "batch_output", "created_at": 1_600_000_000}


class Files:
    """A backend with one file. pieces: its content as the network cuts it."""

    def __init__(self, pieces=(OUTPUT,), about=OUTPUT_FILE, headers=None):
        self.pieces = list(pieces)
        self.about = about
        self.headers = headers or {"content-type": "application/octet-stream"}
        self.requests = []

    async def answer(self, request):
        self.requests.append(request)
        if not request.url.path.endswith(("/content", "/results")):
            return httpx.Response(200, json=self.about) if self.about else httpx.Response(404)
        stream = fakes._Pieces(fakes._each(self.pieces))
        return httpx.Response(200, headers=self.headers, stream=stream)

    @property
    def transport(self):
        return httpx.MockTransport(self.answer)


async def fetch(world, **headers):
    client = fakes.AsgiClient(world.relay)
    await client.call("GET", PATH, headers)
    return client


async def test_each_answer_is_metered_under_an_id_of_its_own_place_and_its_shares_come_later():
    world = World(Files(), result=None)
    client = await fetch(world)
    assert (client.body, client.is_complete) == (OUTPUT, True)
    used = {one.id: one for one in world.journal.used}
    assert set(used) == {line_id("default", "file-out1", name) for name in "ab"}
    one = used[line_id("default", "file-out1", "a")]
    assert (one.endpoint, one.model, one.outcome, one.app) == (
        "batch.chat.completions",
        "small-1-2026",
        "complete",
        "app_1",
    )
    assert (one.input_tokens, one.output_tokens, one.estimated, one.price_grains) == (
        11,
        7,
        False,
        10 * 11 + 20 * 7,
    )
    assert one.occurred_us == CHAT["created"] * 1_000_000
    assert world.pending.texts[one.id] == ("app_1", {0: "The sea"})
    assert world.journal.attributed == []
    await world.relay.settle_late(one.id, fakes.scored())
    assert [shares.id for shares in world.journal.attributed] == [one.id]
    assert one.id not in world.pending.texts


async def test_where_its_answers_found_their_evidence_is_told_too():
    told = []
    world = World(Files(), drew=lambda event_id, stretches: told.append((event_id, stretches)))

    async def at_once(_event_id, **_rules):
        return fakes.scored()

    world.attributing.settle = at_once
    await fetch(world)
    assert told == [(one.id, {fakes.WORK: [(10, 15)]}) for one in world.journal.attributed]
    assert len(told) == 2


async def test_a_second_download_meters_nothing_again():
    world = World(Files(), result=None)
    for _ in range(3):
        assert (await fetch(world)).body == OUTPUT
    assert len(world.journal.used) == 2
    assert world.metrics.batch_lines.labels("known")._value.get() == 4


async def test_what_another_worker_metered_is_not_metered_again():
    metered = {line_id("default", "file-out1", "a")}
    world = World(Files(), result=None, metered=lambda ids: metered & set(ids))
    await fetch(world)
    assert [one.id for one in world.journal.used] == [line_id("default", "file-out1", "b")]


async def test_two_workers_that_cannot_ask_the_store_record_the_same_event():
    def away(ids):
        raise Unavailable("the store is away", remedy="wait", code="store_unavailable")

    worlds = [World(Files(), result=None, metered=away) for _ in range(2)]
    worlds[1].clock.advance(3600)
    for world in worlds:
        await fetch(world)
    assert worlds[0].journal.used == worlds[1].journal.used
    assert ("batch_not_compared") in [event for event, _ in worlds[0].log.events]


async def test_a_name_that_stands_twice_is_two_answers():
    world = World(Files([line(custom_id="a") + b"\n" + line(custom_id="a")]), result=None)
    await fetch(world)
    assert len({one.id for one in world.journal.used}) == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, len(OUTPUT)), max_size=6), has_end=st.booleans())
async def test_bytes_and_events_do_not_depend_on_where_the_network_cuts(cuts, has_end):
    output = OUTPUT if has_end else OUTPUT[:-1].rpartition(b"\n")[0]
    places = [0, *sorted(min(cut, len(output)) for cut in cuts), len(output)]
    pieces = [output[start:end] for start, end in itertools.pairwise(places)]
    world = World(Files(pieces), result=None)
    client = await fetch(world)
    assert client.body == output
    assert len(world.journal.used) == 2


async def test_no_byte_of_an_answers_end_leaves_before_its_event_is_on_the_disk():
    world = World(Files([LINES[0]]))
    world.journal.is_refusing = True
    client = await fetch(world)
    assert not client.is_complete
    assert client.body == b""
    assert world.journal.used == []
    assert world.relay._unrecorded == set()


async def test_a_file_that_no_batch_wrote_is_not_looked_at():
    world = World(Files(about={**OUTPUT_FILE, "purpose": "user_data"}))
    client = await fetch(world, range="bytes=0-9")
    assert client.body == OUTPUT
    assert world.journal.records == []
    assert world.backend.requests[-1].headers["range"] == "bytes=0-9"


@pytest.mark.parametrize("about", [None, {"id": "file-out1"}])
async def test_where_the_backend_does_not_say_the_lines_do(about):
    world = World(Files(about=about), result=None)
    await fetch(world)
    assert len(world.journal.used) == 2
    world = World(Files([b"\x00\x01\n", b'{"prompt":"a"}\n'], about=about))
    assert (await fetch(world)).body == b'\x00\x01\n{"prompt":"a"}\n'
    assert world.journal.used == []


async def test_a_part_of_the_output_is_never_asked_for_and_none_of_it_packed():
    world = World(Files(), result=None)
    await fetch(world, range="bytes=99-", **{"if-range": "x", "accept-encoding": "gzip"})
    asked = world.backend.requests[-1].headers
    assert ("range" in asked, "if-range" in asked, asked["accept-encoding"]) == (False, False, "identity")


async def test_one_that_comes_packed_all_the_same_is_read_and_passed_on_as_it_came():
    packed = gzip.compress(OUTPUT)
    world = World(Files([packed[:50], packed[50:]], headers={"content-encoding": "gzip"}), result=None)
    client = await fetch(world)
    assert (client.body, client.headers["content-encoding"]) == (packed, "gzip")
    assert len(world.journal.used) == 2


async def test_answers_without_text_or_shares_are_settled_at_once_and_say_why():
    embedding = {"object": "list", "data": [], "model": "e", "usage": {"prompt_tokens": 9}}
    empty = {**CHAT, "choices": []}
    odd = {"object": "new.thing", "usage": {"input_tokens": 5, "output_tokens": 6}}
    output = b"\n".join(line(body, custom_id=str(n)) for n, body in enumerate((embedding, empty, odd, CHAT)))
    world = World(Files([output]), settings=Settings(attribution=Attribution(on_backlog_full="unattributed")))
    world.attributing.is_full = True
    await fetch(world)
    assert [shares.reason for shares in world.journal.attributed] == [
        "no_text",
        "no_text",
        "not_attributed",
        "not_attributed",
    ]
    assert world.journal.used[0].occurred_us == OUTPUT_FILE["created_at"] * 1_000_000


async def test_what_the_backend_did_not_count_is_counted_and_marked():
    world = World(Files([line({**CHAT, "usage": None})]), result=None)
    await fetch(world)
    (used,) = world.journal.used
    assert (used.output_tokens, used.input_tokens, used.estimated) == (2, 0, True)


RESULTS = b"\n".join(
    (result(custom_id="a"), result(None, custom_id="b", kind="errored"), result(custom_id="c"))
)
MESSAGE_BATCH = {"id": "msgbatch_01", "type": "message_batch", "ended_at": "2020-09-13T12:26:40.435Z"}


async def results_of(world):
    client = fakes.AsgiClient(world.relay)
    await client.call("GET", "/v1/messages/batches/msgbatch_01/results", {"range": "bytes=9-"})
    return client


async def test_the_results_of_a_batch_of_messages_are_metered_like_any_output_and_once():
    world = World(Files([RESULTS[:90], RESULTS[90:]], about=MESSAGE_BATCH), result=None)
    for _ in range(2):
        client = await results_of(world)
        assert (client.body, client.is_complete) == (RESULTS, True)
    paths = [request.url.path for request in world.backend.requests[:2]]
    assert paths == ["/v1/messages/batches/msgbatch_01", "/v1/messages/batches/msgbatch_01/results"]
    assert "range" not in world.backend.requests[1].headers
    used = {one.id: one for one in world.journal.used}
    assert set(used) == {line_id("default", "msgbatch_01", name) for name in "ac"}
    one = used[line_id("default", "msgbatch_01", "a")]
    assert (one.endpoint, one.model, one.input_tokens, one.output_tokens, one.estimated) == (
        "batch.messages", "claude-1-2026", 11, 7, False
    )  # fmt: skip
    assert one.occurred_us == 1_600_000_000 * 1_000_000
    assert world.pending.texts[one.id] == ("app_1", {0: "The sea"})


async def test_results_whose_batch_cannot_be_asked_about_are_metered_by_their_lines():
    world = World(Files([RESULTS], about=None), result=None)
    assert (await results_of(world)).body == RESULTS
    assert len(world.journal.used) == 2


async def test_a_budget_pays_for_what_is_fetched_once_and_then_gives_nothing_out():
    months = Months()
    limits = Limits(budget_grains=200, currency="USD")
    world = World(
        Files(),
        keyring=Keys(limits),
        budgets=months,
        price_of=lambda *_: ("p1", 100, "USD"),
        result=None,
    )
    assert (await fetch(world)).status == 200
    await world.relay.admission.aclose()
    assert (months.spent, months.holds) == (200, {})
    client = await fetch(world)
    assert (client.status, json.loads(client.body)["error"]["code"]) == (429, "insufficient_quota")


async def test_images_and_videos_of_a_batch_are_metered_once_and_those_of_a_refusal_not_at_all():
    images = {
        "created": 1_700_000_000,
        "data": [{"url": "a"}, {"url": "b"}],
        "usage": {"input_tokens": 5, "output_tokens": 0},
    }
    video = {"object": "video", "model": "films-1", "created_at": 1_700_000_000, "seconds": "8"}
    output = b"\n".join(
        [line(images, "a"), line(video, "b"), line(images, "c", status=400), line(custom_id="d")]
    )
    world = World(
        Files([output]), result=None, price_of=lambda _m, _at, _i, _o, n, ms: ("p1", 1000 * n + ms, "USD")
    )
    for _ in range(2):
        assert (await fetch(world)).body == output
    assert [
        (one.endpoint, one.images, one.milliseconds, one.price_grains, one.outcome)
        for one in world.journal.used
    ] == [
        ("batch.images", 2, 0, 2000, "complete"),
        ("batch.videos", 0, 8000, 8000, "complete"),
        ("batch.images", 0, 0, 0, "failed"),
        ("batch.chat.completions", 0, 0, 0, "complete"),
    ]
    assert {shares.reason for shares in world.journal.attributed} == {"not_attributed"}
