"""What an app may ask for, seen from its client: rates, models, budgets, and what is never let past them."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from proxy.access.keys import Principal
from proxy.access.limits import Limits, month_of
from proxy.errors import Unavailable
from proxy.settings import Access, Backend, Server, Settings
from tests import fakes
from tests.builders import World, chat_reply, chat_request
from tests.proxy.wire.test_multipart import form

pytestmark = pytest.mark.anyio
GOOD = {"content-type": "application/json"}


class Keys:
    """One app's key, with these limits."""

    def __init__(self, limits):
        self.limits = limits

    def lists(self, origin):
        return origin in self.limits.origins

    async def find(self, secret):
        return Principal("app", "key_1", app_id="app_1", name="test", limits=self.limits)


class Months:
    """Budgets in memory, as the store keeps them."""

    def __init__(self):
        self.spent = 0
        self.holds = {}
        self.most_held = 0
        self.is_away = False

    def reserve(self, hold_id, app_id, *, month, grains, budget_grains, now_us):
        if self.is_away:
            raise Unavailable("the store is away", remedy="wait", code="store_unavailable")
        assert month == month_of(now_us)
        if self.spent + sum(self.holds.values()) + max(grains, 1) > budget_grains:
            return False
        self.holds[hold_id] = grains
        self.most_held = max(self.most_held, grains)
        return True

    def settle(self, hold_id, grains):
        if self.is_away:
            raise Unavailable("the store is away", remedy="wait", code="store_unavailable")
        held = self.holds.pop(hold_id, None)
        if held is None:
            return False
        self.spent += held if grains is None else grains
        return True


def world(limits, *, settings=None, backend=None, **changes):
    return World(
        backend or fakes.FakeBackend([chat_reply()]),
        settings=settings or Settings(),
        keyring=Keys(limits),
        budgets=changes.pop("budgets", Months()),
        **changes,
    )


def code_of(client):
    return json.loads(client.body)["error"]["code"]


async def ask(made, body=None, path="/v1/chat/completions", method="POST", kind="application/json"):
    client = fakes.AsgiClient(made.relay)
    await client.call(method, path, {"content-type": kind}, chat_request() if body is None else body)
    return client


async def test_requests_beyond_the_rate_are_refused_until_retry_after():
    made = world(Limits(requests_per_min=2))
    assert [(await ask(made)).status for _ in range(2)] == [200, 200]
    refused = await ask(made)
    assert (refused.status, refused.headers["retry-after"]) == (429, "30")
    error = json.loads(refused.body)["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    made.clock.advance(30)
    assert (await ask(made)).status == 200


async def test_passed_through_requests_count_against_the_same_rate():
    made = world(Limits(requests_per_min=1))
    assert (await ask(made, path="/v1/files", method="GET", body=b"")).status == 200
    assert (await ask(made)).status == 429


async def test_workers_share_a_rate():
    made = world(Limits(requests_per_min=4), settings=Settings(server=Server(workers=4)))
    assert [(await ask(made)).status for _ in range(2)] == [200, 429]


async def test_tokens_are_charged_by_what_was_used():
    made = world(Limits(tokens_per_min=60))
    statuses = [(await ask(made)).status for _ in range(4)]  # 18 tokens each; some 20 are foreseen
    assert statuses == [200, 200, 200, 429]
    made.clock.advance(60)
    assert (await ask(made)).status == 200


async def test_an_answer_longer_than_foreseen_makes_the_next_wait():
    long = chat_reply(usage={"prompt_tokens": 10, "completion_tokens": 390, "total_tokens": 400})
    made = world(Limits(tokens_per_min=100), backend=fakes.FakeBackend([long]))
    assert (await ask(made)).status == 200
    refused = await ask(made)
    assert refused.status == 429
    assert int(refused.headers["retry-after"]) > 180


async def test_a_request_that_was_refused_upstream_takes_no_tokens():
    made = world(
        Limits(tokens_per_min=100), backend=fakes.FakeBackend([b'{"error":{"message":"no"}}'], status=400)
    )
    assert [(await ask(made)).status for _ in range(9)] == [400] * 9


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (chat_request(model="gpt-4o"), 200, None),
        (chat_request(model="o3"), 403, "model_not_allowed"),
        (b'{"model":"o3","model":"gpt-4o","messages":[]}', 400, "invalid_request"),
        (b'{"Model":"o3","model":"gpt-4o","messages":[]}', 400, "invalid_request"),
        (b'{"messages":[]}', 400, "invalid_request"),
        (b"nonsense", 400, "invalid_request"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/something/new"])
async def test_an_allow_list_holds_for_every_path_and_is_not_fooled_by_two_names(body, status, code, path):
    made = world(Limits(models=("gpt-*",)))
    client = await ask(made, body, path)
    assert client.status == status
    assert code is None or code_of(client) == code
    assert len(made.backend.requests) == (1 if status == 200 else 0)


async def test_a_body_that_is_not_read_cannot_pass_an_allow_list():
    made = world(Limits(models=("gpt-*",)))
    client = await ask(made, b"x" * 50, "/v1/files", kind="application/octet-stream")
    assert (client.status, code_of(client)) == (400, "invalid_request")
    assert (await ask(made, b"", "/v1/files", "GET")).status == 200


async def test_an_app_limited_to_known_endpoints_meets_no_others():
    made = world(Limits(known_endpoints_only=True))
    assert (await ask(made)).status == 200
    assert (await ask(made, b"", "/v1/models", "GET")).status == 200
    client = await ask(made, b"", "/v1/files", "GET")
    assert (client.status, code_of(client)) == (403, "endpoint_not_allowed")


# The builders' price: 10 grains an input token, 20 an output token; the reply has 11 and 7 of them.
COST = 10 * 11 + 20 * 7


def budget(grains):
    return Limits(budget_grains=grains, currency="USD")


async def settled(made):
    await made.relay.aclose()
    return made


async def test_a_budget_is_held_for_the_most_and_charged_what_it_was():
    months = Months()
    made = world(budget(10**9), budgets=months)
    body = chat_request(max_tokens=100)
    assert (await ask(made, body)).status == 200
    await settled(made)
    assert months.most_held == 10 * len(body) + 20 * 100
    assert (months.spent, months.holds) == (COST, {})
    assert made.journal.used[0].price_grains == COST


async def test_a_request_that_names_no_limit_is_held_for_the_longest_and_every_choice():
    months = Months()
    made = world(budget(10**9), budgets=months, settings=Settings(access=Access(output_tokens_max=50)))
    body = chat_request(n=3)
    await ask(made, body)
    await settled(made)
    assert months.most_held == 10 * len(body) + 20 * 150


async def test_what_does_not_fit_is_refused_as_openai_refuses_it_and_costs_nothing():
    months = Months()
    made = world(budget(COST), budgets=months)
    client = await ask(made, chat_request(max_tokens=100))
    error = json.loads(client.body)["error"]
    assert (client.status, error["type"], error["code"]) == (429, "insufficient_quota", "insufficient_quota")
    assert made.backend.requests == []
    assert months.holds == {}


async def test_requests_that_come_together_cannot_spend_more_than_there_is():
    months = Months()
    body = chat_request(max_tokens=10)
    most = 10 * len(body) + 20 * 10
    made = world(budget(3 * most), budgets=months)
    clients = await asyncio.gather(*(ask(made, body) for _ in range(20)))
    await settled(made)
    passed = sum(client.status == 200 for client in clients)
    assert months.spent == passed * COST
    assert months.spent <= 3 * most
    assert {client.status for client in clients} <= {200, 429}
    assert months.holds == {}


async def test_a_request_that_brings_no_answer_gives_back_what_it_held():
    months = Months()
    refusing = fakes.FakeBackend([b'{"error":{"message":"no"}}'], status=400)
    made = world(budget(10**9), budgets=months, backend=refusing)
    assert (await ask(made)).status == 400
    await settled(made)
    assert (months.spent, months.holds) == (0, {})


async def test_an_answer_without_a_price_costs_what_was_held():
    months = Months()

    def price_of(model, *_):
        return "p1", 1_000 if model == "small-1" else None, "USD"

    made = world(budget(10**9), budgets=months, price_of=price_of)
    assert (await ask(made)).status == 200
    await settled(made)
    assert months.spent == 1_000


async def test_an_alias_is_held_at_the_dearest_of_its_names():
    months = Months()

    def price_of(model, *_):
        return "p1", {"small-1": 5, "dear": 500}.get(model, 7), "USD"

    settings = Settings(backends=(Backend(aliases={"small-1": "dear"}),))
    made = world(budget(10**9), budgets=months, price_of=price_of, settings=settings)
    await ask(made)
    await settled(made)
    assert (months.most_held, months.spent) == (500, 7)


@pytest.mark.parametrize("unpriced", ["refuse", "allow"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/something/new"])
async def test_what_has_no_price_is_refused_unless_the_operator_allows_it_while_the_budget_lasts(
    path, unpriced
):
    months = Months()
    settings = Settings(access=Access(unpriced=unpriced))
    made = world(budget(100), budgets=months, price_of=lambda *_: ("p1", None, "USD"), settings=settings)
    client = await ask(made, path=path)
    if unpriced == "refuse":
        assert (client.status, code_of(client)) == (403, "price_unknown")
        return
    assert client.status == 200
    await settled(made)
    months.spent = 100
    client = await ask(made, path=path)
    assert (client.status, code_of(client)) == (429, "insufficient_quota")


async def test_a_price_in_another_currency_is_no_price():
    made = world(Limits(budget_grains=10**9, currency="EUR"))
    assert code_of(await ask(made)) == "price_unknown"


async def test_reading_lists_asks_nothing_of_a_budget():
    made = world(budget(0))
    assert (await ask(made, b"", "/v1/models", "GET")).status == 200


async def test_a_store_that_is_away_spends_no_budget_and_stops_nobody_else():
    months = Months()
    months.is_away = True
    made = world(budget(10**9), budgets=months)
    client = await ask(made)
    assert (client.status, code_of(client)) == (503, "store_unavailable")
    assert "retry-after" in client.headers
    assert (await ask(world(Limits(), budgets=months))).status == 200


async def test_what_cannot_be_settled_now_stays_held_and_is_told():
    months = Months()
    made = world(budget(10**9), budgets=months)
    made.journal.on_attributed = lambda: setattr(months, "is_away", True)
    assert (await ask(made)).status == 200
    await settled(made)
    assert len(months.holds) == 1
    assert "budget_not_settled" in [name for name, _ in made.log.events]


# -- forms
# ---------------------------------------------------------------------------------------------------------------

FORM_KIND = "multipart/form-data; boundary=xx"


def audio_form(model, *more):
    return form(
        (b'name="file"; filename="a.mp3"', b"\x00\xff" * 40), (b'name="model"', model.encode()), *more
    )


@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "whisper-1"])
async def test_a_form_is_held_against_the_allow_list_by_its_own_model(model):
    made = world(Limits(models=("gpt-*",)), backend=fakes.FakeBackend([b'{"text":"a b"}']))
    client = await ask(made, audio_form(model), path="/v1/audio/transcriptions", kind=FORM_KIND)
    if model.startswith("gpt-"):
        assert client.status == 200
        assert made.backend.bodies == [audio_form(model)]
    else:
        assert (client.status, code_of(client)) == (403, "model_not_allowed")


async def test_a_form_that_names_a_second_model_opens_nothing():
    made = world(Limits(models=("gpt-*",)))
    body = audio_form("gpt-4o", (b'name="model"', b"whisper-1"))
    client = await ask(made, body, path="/v1/audio/transcriptions", kind=FORM_KIND)
    assert (client.status, code_of(client)) == (400, "invalid_request")
    assert made.backend.requests == []


async def test_an_alias_in_a_form_goes_up_as_the_backends_own_name_and_the_rest_as_it_came():
    settings = Settings(backends=(Backend(aliases={"heard": "whisper-large-v3"}),))
    made = world(Limits(), settings=settings, backend=fakes.FakeBackend([b'{"text":"a b"}']))
    client = await ask(made, audio_form("heard"), path="/v1/audio/transcriptions", kind=FORM_KIND)
    assert client.status == 200
    assert made.backend.bodies == [audio_form("whisper-large-v3")]
    assert made.backend.requests[0].headers["content-length"] == str(len(audio_form("whisper-large-v3")))


async def test_a_form_goes_to_the_backend_that_has_its_model():
    asked = []

    async def answer(request):
        asked.append(request.url.host)
        return httpx.Response(200, json={"text": "a"})

    settings = Settings(backends=(Backend(name="a", url="http://a.test/v1", models=("big-*",)),
                                  Backend(name="b", url="http://b.test/v1", models=("whisper-*",))))  # fmt: skip
    made = world(Limits(), settings=settings, transport=httpx.MockTransport(answer))
    await ask(made, audio_form("whisper-1"), path="/v1/audio/transcriptions", kind=FORM_KIND)
    assert asked == ["b.test"]


async def test_a_budget_holds_every_answer_that_the_endpoint_reads_in_a_request():
    months = Months()
    settings = Settings(access=Access(output_tokens_max=100))
    made = world(
        budget(10**9), budgets=months, settings=settings, price_of=lambda m, at, i, o, *_: ("p1", o, "USD")
    )
    picture = form((b'name="n"', b"3"), (b'name="model"', b"draws-1"), (b'name="prompt"', b"a sea"))
    await ask(made, picture, path="/v1/images/edits", kind=FORM_KIND)
    assert months.most_held == 300
    await ask(made, json.dumps({"model": "m", "prompt": ["a", "b"], "n": 2}).encode(), path="/v1/completions")
    assert months.most_held == 400


# -- images and video
# ---------------------------------------------------------------------------------------------------------------


def by_media(_model, _at, _given, _told, images, milliseconds):
    return "p1", 1_000 * images + milliseconds, "USD"


DRAW = b'{"model":"draws-1","prompt":"a sea","n":3}'
TWO_IMAGES = b'{"data":[{"b64_json":"AAAA"},{"b64_json":"BBBB"}]}'


async def test_a_budget_is_held_for_every_image_that_is_asked_for_and_charged_those_that_came():
    months = Months()
    made = world(budget(3_000), budgets=months, price_of=by_media, backend=fakes.FakeBackend([TWO_IMAGES]))
    assert (await ask(made, DRAW, path="/v1/images/generations")).status == 200
    await settled(made)
    assert (months.most_held, months.spent, months.holds) == (3_000, 2_000, {})
    (used,) = made.journal.used
    assert (used.images, used.price_grains) == (2, 2_000)


async def test_images_beyond_the_budget_are_never_asked_for():
    months = Months()
    made = world(budget(2_999), budgets=months, price_of=by_media, backend=fakes.FakeBackend([TWO_IMAGES]))
    client = await ask(made, DRAW, path="/v1/images/generations")
    assert (client.status, code_of(client)) == (429, "insufficient_quota")
    assert (made.backend.requests, months.spent, months.holds) == ([], 0, {})


async def test_two_requests_for_images_at_once_cannot_share_the_budget_of_one():
    months, one_is_refused = Months(), asyncio.Event()

    async def draw(_request):
        async with asyncio.timeout(10):
            await one_is_refused.wait()
        return httpx.Response(200, content=TWO_IMAGES, headers=GOOD)

    async def ask_for_images(made):
        client = await ask(made, DRAW, path="/v1/images/generations")
        if client.status == 429:
            one_is_refused.set()
        return client.status

    made = world(budget(5_000), budgets=months, price_of=by_media, transport=httpx.MockTransport(draw))
    statuses = await asyncio.gather(*(ask_for_images(made) for _ in range(2)))
    await settled(made)
    assert sorted(statuses) == [200, 429]
    assert (months.spent, months.holds, len(made.journal.used)) == (2_000, {}, 1)


@pytest.mark.parametrize(
    ("seconds", "held"), [(b',"seconds":"8"', 8_000), (b',"seconds":4', 4_000), (b"", 20_000)]
)
async def test_a_budget_is_held_for_as_long_a_video_as_may_come(seconds, held):
    months = Months()
    video = b'{"id":"video_1","object":"video","status":"queued","seconds":"4"}'
    made = world(budget(20_000), budgets=months, price_of=by_media, backend=fakes.FakeBackend([video]))
    body = b'{"model":"films-1","prompt":"a sea"' + seconds + b"}"
    assert (await ask(made, body, path="/v1/videos")).status == 200
    await settled(made)
    assert (months.most_held, months.spent, months.holds) == (held, 4_000, {})


async def test_a_request_whose_price_64_bits_do_not_hold_is_refused_as_one_without_a_price():
    def beyond(_model, _at, _given, _told, images, _milliseconds):
        return "p1", None if images > 2 else 1, "USD"

    made = world(budget(10**9), budgets=Months(), price_of=beyond)
    client = await ask(made, DRAW, path="/v1/images/generations")
    assert (client.status, code_of(client)) == (403, "price_unknown")


async def test_how_long_sound_is_nobody_knows_before_and_it_is_paid_all_the_same():
    months = Months()
    heard = b'{"text":"a b","usage":{"type":"duration","seconds":9}}'
    made = world(budget(5_000), budgets=months, price_of=by_media, backend=fakes.FakeBackend([heard]))
    first = await ask(made, audio_form("hears-1"), path="/v1/audio/transcriptions", kind=FORM_KIND)
    await made.relay.admission.aclose()
    assert (first.status, months.most_held, months.spent) == (200, 0, 9_000)
    second = await ask(made, audio_form("hears-1"), path="/v1/audio/transcriptions", kind=FORM_KIND)
    assert (second.status, code_of(second)) == (429, "insufficient_quota")
