"""Who may read our answers from a page of another site."""

from __future__ import annotations

import json

import pytest

from proxy.access.keys import Principal
from proxy.access.limits import Limits
from tests import fakes
from tests.builders import SSE, World, chat_reply, chat_request, chat_stream

pytestmark = pytest.mark.anyio
PAGE, OTHER = "https://app.example", "https://other.example"


class Keys:
    """`mine` is an app's that lists PAGE, `theirs` an app's that lists OTHER."""

    async def find(self, secret):
        origins = {"mine": (PAGE,), "theirs": (OTHER,)}.get(secret)
        if origins is None:
            return None
        return Principal("app", "key_1", app_id=secret, limits=Limits(origins=origins))

    def lists(self, origin):
        return origin in {PAGE, OTHER}


def world(backend=None):
    return World(backend or fakes.FakeBackend([chat_reply()]), keyring=Keys())


async def call(made, headers, *, key="mine", method="POST", body=None):
    client = fakes.AsgiClient(made.relay)
    sent = (chat_request() if method == "POST" else b"") if body is None else body
    await client.call(method, "/v1/chat/completions", headers, sent, key=key)
    return client


def asking(origin, **more):
    return {"origin": origin, "access-control-request-method": "POST", **more}


async def test_a_preflight_needs_no_key_and_never_goes_up():
    made = world()
    headers = asking(PAGE, **{"access-control-request-headers": "authorization, content-type"})
    client = await call(made, headers, key=None, method="OPTIONS")
    assert client.status == 204
    assert client.headers["access-control-allow-origin"] == PAGE
    assert client.headers["access-control-allow-headers"] == "authorization, content-type"
    assert "POST" in client.headers["access-control-allow-methods"]
    assert "origin" in client.headers["vary"]
    assert made.backend.requests == []


async def test_a_preflight_of_a_page_that_nobody_lists_is_refused_like_any_request_without_a_key():
    client = await call(world(), asking("https://evil.example"), key=None, method="OPTIONS")
    assert client.status == 401
    assert "access-control-allow-origin" not in client.headers


async def test_a_listed_page_may_read_the_answer_and_our_headers():
    client = await call(world(), {"origin": PAGE})
    assert (client.status, client.headers["access-control-allow-origin"]) == (200, PAGE)
    exposed = client.headers["access-control-expose-headers"]
    assert {"x-attribution-id", "x-attribution", "retry-after"} <= set(exposed.split(", "))
    assert client.headers["vary"] == "origin"


async def test_a_page_that_another_app_lists_may_not():
    client = await call(world(), {"origin": OTHER})
    assert client.status == 200
    assert "access-control-allow-origin" not in client.headers


async def test_streams_are_readable_too():
    client = await call(
        world(fakes.FakeBackend(chat_stream(), headers=SSE)), {"origin": PAGE}, body=chat_request(stream=True)
    )
    assert client.headers["access-control-allow-origin"] == PAGE
    assert client.is_complete


async def test_a_refusal_is_readable_so_that_the_page_can_say_why():
    client = await call(world(), {"origin": PAGE}, key="unknown")
    assert (client.status, client.headers["access-control-allow-origin"]) == (401, PAGE)
    assert json.loads(client.body)["error"]["code"] == "invalid_api_key"


async def test_what_a_backend_says_about_other_sites_is_dropped():
    said = [(b"Content-Type", b"application/json"), (b"Access-Control-Allow-Origin", b"*"), (b"Access-Control-Allow-Credentials", b"true")]  # fmt: skip
    backend = fakes.FakeBackend([chat_reply()], headers=said)
    refused = await call(world(backend), {"origin": OTHER})
    assert not any(name.startswith("access-control-") for name in refused.headers)
    allowed = await call(world(backend), {"origin": PAGE})
    assert allowed.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-credentials" not in allowed.headers


async def test_without_an_origin_nothing_is_said_of_it():
    client = await call(world(), {})
    assert not {"vary", "access-control-allow-origin"} & set(client.headers)


async def test_names_beyond_any_browsers_are_not_echoed():
    headers = asking(PAGE, **{"access-control-request-headers": "x" * 5_000})
    client = await call(world(), headers, key=None, method="OPTIONS")
    assert "access-control-allow-headers" not in client.headers
