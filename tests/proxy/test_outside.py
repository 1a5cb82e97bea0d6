"""Asking hosts that others named: where we go, how long we wait, how much we take."""

from __future__ import annotations

import gzip

import anyio
import httpx
import pytest

from proxy.outside import Answer, Failed, Outside

pytestmark = pytest.mark.anyio
URL = "https://id.example/keys?v=1"


ENDLESS = b"x"


class Pieces(httpx.AsyncByteStream):
    """A body that is sent as it is, without an end when it is ENDLESS."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def __aiter__(self):
        yield self.body
        while self.body is ENDLESS:
            yield b"x" * 60


def reply(status: int = 200, body: bytes = b"", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=named, stream=Pieces(body))


async def asked(answer, *, url=URL, addresses=("8.8.8.8",), bytes_max=100, within_s=5.0, private=False):
    """(what came of it, the requests that went out)."""
    requests = []

    async def handle(request):
        requests.append(request)
        return await answer(request) if callable(answer) else answer

    async def resolve(host, port):
        return list(addresses)

    outside = Outside(transport=httpx.MockTransport(handle), resolve=resolve)
    more = {"bytes_max": bytes_max, "within_s": within_s, "private": private}
    try:
        return await outside.ask("GET", url, headers={"accept": "application/json"}, **more), requests
    except Failed as failed:
        return str(failed), requests
    finally:
        await outside.aclose()


async def test_an_answer_comes_from_an_address_that_was_looked_at_under_its_own_name():
    told, (request,) = await asked(reply(404, b"{}"))
    assert told == Answer(404, b"{}")
    assert (request.url.host, request.headers["host"]) == ("8.8.8.8", "id.example")
    assert request.extensions["sni_hostname"] == "id.example"
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("8.8.8.8", "10.0.0.1"), ("169.254.169.254",), ()])
async def test_a_name_that_leads_inside_is_never_connected_to(addresses):
    assert await asked(reply(), addresses=addresses) == (
        "id.example is not reachable by everybody",
        [],
    )


async def test_only_what_an_operator_calls_their_own_network_is_asked_there_and_in_the_clear():
    plain = URL.replace("https", "http")
    told, requests = await asked(reply(), url=plain, addresses=("10.0.0.1",), private=True)
    assert (told, len(requests)) == (Answer(200, b""), 1)
    assert (await asked(reply(), url=plain))[1] == []
    assert (await asked(reply(), url="ftp://id.example/", private=True))[1] == []


async def test_no_redirect_is_followed_and_nothing_packed_is_unpacked():
    told, requests = await asked(reply(302, location="https://127.0.0.1/"))
    assert (told.status, len(requests)) == (302, 1)
    packed = gzip.compress(b"0" * 10_000_000)
    told, _ = await asked(reply(200, packed, content_encoding="gzip"), bytes_max=20_000)
    assert told.body == packed


async def test_an_answer_without_an_end_is_left():
    assert (await asked(reply(200, ENDLESS)))[0] == "an answer of more than 100 bytes"
    assert (await asked(reply(200, b"y" * 100)))[0] == Answer(200, b"y" * 100)


async def test_whoever_does_not_answer_is_not_waited_for():
    async def silent(_request):
        await anyio.sleep_forever()

    assert (await asked(silent, within_s=0.01))[0] == "no answer within 0.01 s"


async def test_what_breaks_is_told_by_its_kind():
    async def breaks(_request):
        raise httpx.ReadError("gone")

    assert (await asked(breaks))[0] == "ReadError"

    async def nowhere(_host, _port):
        raise OSError("no such host")

    outside = Outside(resolve=nowhere)
    with pytest.raises(Failed, match="OSError"):
        await outside.ask("GET", URL, headers={}, bytes_max=1, within_s=5.0)
    await outside.aclose()
