"""curl at the bare backend and at the proxy before it: the same bytes, however HTTP is spoken.

What a shell script sees is compared here: status, body byte for byte, and the ways of asking that no official client
uses but scripts and old middlemen do.
"""

from __future__ import annotations

import gzip
import json
import shutil
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests import fakes
from tests.builders import DONE, chunk
from tests.compared import BODY_BYTES_MAX, VIEWS, Way, Ways, both_ways
from tests.scripted import TEXT, scripted

pytestmark = [pytest.mark.anyio, pytest.mark.clients]
HEARD = "The lamp was heard to burn."
SOUND = bytes(range(256)) * 64
PACKED = {"gzip": gzip.compress, "deflate": zlib.compress}


@dataclass
class Gate:
    """Held between the first event and the next, until the client has the first."""

    opened: anyio.Event


gate = Gate(anyio.Event())


async def rote(request: fakes.RawRequest, write: Any) -> None:
    """Everything `scripted` answers, and what only curl asks for here."""
    path = request.target.partition("?")[0]
    named = {name.lower(): value for name, value in request.headers}
    if request.method == "HEAD":
        await write(fakes.http_reply(b"{}").removesuffix(b"{}"))
    elif request.method == "OPTIONS":
        await write(
            b"HTTP/1.1 204 No Content\r\nAllow: GET, OPTIONS\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    elif path == "/v1/audio/transcriptions":
        boundary = named[b"content-type"].partition(b"boundary=")[2]
        parts = request.body.replace(boundary, b"BOUNDARY").count(b"--BOUNDARY")
        heard = {"text": HEARD, "parts": parts, "is_whole": SOUND in request.body}
        await write(fakes.http_reply(json.dumps(heard).encode()))
    elif (asked := json.loads(request.body or b"{}")).get("model", "").startswith("packed "):
        name = asked["model"].partition(" ")[2]
        body = PACKED[name](json.dumps({"choices": [], "model": "packed"}).encode())
        await write(fakes.http_reply(body, more=f"Content-Encoding: {name}\r\n"))
    elif asked.get("model") == "gated":
        await write(fakes.STREAM_HEAD + fakes.http_chunk(chunk("The lamp ")))
        await gate.opened.wait()
        await write(fakes.http_chunk(chunk("burned.") + chunk(finish="stop") + DONE) + fakes.STREAM_END)
    else:
        await scripted(request, write)


@pytest.fixture(scope="module")
async def ways(tmp_path_factory) -> AsyncIterator[Ways]:
    async with both_ways(tmp_path_factory.mktemp("proxy"), rote) as ways:
        yield ways


def command(way: Way, path: str, *arguments: str) -> list[str]:
    curl = shutil.which("curl")
    assert curl, "curl is not installed: apt-get install curl, as .ci/run does"
    key = f"authorization: Bearer {way.key}"
    return [
        curl,
        "-q",
        "-sS",
        "--noproxy",
        "*",
        "--max-time",
        "60",
        "-H",
        key,
        *arguments,
        f"{way.base}{path}",
    ]


async def curl(way: Way, path: str, *arguments: str, fed: bytes | None = None) -> bytes:
    ran = await anyio.run_process(command(way, path, *arguments), input=fed, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout


def chat(model: str, **more: Any) -> list[str]:
    body = {"model": model, "messages": [{"role": "user", "content": "tell me of the sea"}], **more}
    return ["-H", "content-type: application/json", "-d", json.dumps(body)]


STATUS = ("-w", "\n%{http_code} %{content_type}")
WIRES = {
    "/chat/completions": {"messages": [{"role": "user", "content": "a"}]},
    "/completions": {"prompt": "a"},
    "/responses": {"input": "a"},
    "/messages": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 9},
}


def unspliced(body: bytes) -> bytes:
    """The bytes without our one member, which stands last in its object."""
    start = body.find(b',"attribution":{')
    if start < 0:
        return body
    text = body[start + len(b',"attribution":') :].decode()
    _, length = json.JSONDecoder().raw_decode(text)
    return body[:start] + text[length:].encode()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("view", ["body", "headers", "off"])
@pytest.mark.parametrize("path", WIRES)
async def test_every_byte_is_the_backends_but_the_one_member(ways, path, view, stream):
    body = json.dumps({"model": ways.model, "stream": stream, **WIRES[path]})
    asked = [
        "-N",
        "-H",
        f"x-attribution: {view}",
        "-H",
        "content-type: application/json",
        "-d",
        body,
        *STATUS,
    ]
    straight = await curl(ways.straight, path, *asked)
    async with ways.metering(1, tokens=(14, 7) if path == "/messages" else (11, 7)):
        through = await curl(ways.through, path, *asked)
    assert b"lit the lamp" in straight
    assert (b'"attribution":' in through) is (view == "body")
    assert unspliced(through) == straight


async def test_the_annotations_view_adds_a_citation_and_nothing_else(ways):
    asked = chat(ways.model)
    straight = json.loads(await curl(ways.straight, "/chat/completions", *asked))
    through = json.loads(
        await curl(ways.through, "/chat/completions", "-H", "x-attribution: annotations", *asked)
    )
    (cited,) = through["choices"][0]["message"].pop("annotations")
    start, end = cited["url_citation"]["start_index"], cited["url_citation"]["end_index"]
    assert through["choices"][0]["message"]["content"][start:end] == ways.model
    assert through.pop("attribution")["status"] == "settled"
    assert through == straight


async def test_the_first_event_is_there_before_the_second_is_made(ways):
    gate.opened = anyio.Event()
    asked = command(ways.through, "/chat/completions", "-N", *chat("gated", stream=True))
    async with await anyio.open_process(asked) as process:
        first = await process.stdout.receive()
        assert b"The lamp " in first
        assert b"burned." not in first
        gate.opened.set()
        rest = b"".join([piece async for piece in process.stdout])
        assert await process.wait() == 0
    assert rest.endswith(b"data: [DONE]\n\n")


async def test_a_file_to_be_transcribed_arrives_whole(ways, tmp_path: Path):
    sound = tmp_path / "a.wav"
    sound.write_bytes(SOUND)
    form = ["-F", f"file=@{sound};type=audio/wav", "-F", "model=ears-1", "-F", "response_format=json"]
    straight = json.loads(await curl(ways.straight, "/audio/transcriptions", *form))
    through = json.loads(await curl(ways.through, "/audio/transcriptions", *form))
    assert straight == {"text": HEARD, "parts": 4, "is_whole": True}
    assert through.pop("attribution")["status"] == "settled"
    assert through == straight


@pytest.mark.parametrize("model", [f"packed {name}" for name in PACKED])
async def test_a_packed_answer_is_read_whether_asked_for_or_not(ways, model):
    straight = json.loads(await curl(ways.straight, "/chat/completions", "--compressed", *chat(model)))
    for asked in (["--compressed"], []):
        through = json.loads(await curl(ways.through, "/chat/completions", *asked, *chat(model)))
        through.pop("attribution")
        assert through == straight


async def test_head_and_options_are_passed(ways):
    for asked in (["-I"], ["-X", "OPTIONS", "-i"]):
        told = []
        for way in (ways.straight, ways.through):
            lines = (await curl(way, "/models", *asked)).decode().lower().splitlines()
            kept = [
                line for line in lines[1:] if line and not line.startswith(("connection:", "x-attribution"))
            ]
            told.append((lines[0].split()[1], sorted(kept)))
        assert told[0] == told[1]


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on_once(ways):
    asked = ["-v", "-H", "expect: 100-continue", *chat(ways.model)]
    ran = await anyio.run_process(command(ways.through, "/chat/completions", *asked), check=True)
    said = ran.stderr.decode()
    assert said.count("< HTTP/1.1 100 ") == 1
    assert said.count("< HTTP/1.1 200 ") == 1
    assert TEXT in ran.stdout.decode()


async def test_what_is_too_large_is_refused_before_it_is_sent(ways, tmp_path: Path):
    large = tmp_path / "large.json"
    large.write_bytes(b" " * 50 * BODY_BYTES_MAX)
    counted = ["-H", "content-type: application/json", "--data-binary", f"@{large}", "-H", "expect: 100-continue",
               "--expect100-timeout", "60", "-w", "\n%{http_code} %{size_upload}"]  # fmt: skip
    told = (await curl(ways.through, "/chat/completions", *counted)).decode()
    body, _, counts = told.rpartition("\n")
    assert json.loads(body)["error"]["code"] == "too_large"
    assert counts.split() == ["413", "0"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_old_http_is_answered_and_its_connection_ends(ways, stream):
    asked = ["-N", "-H", "x-attribution: headers", *chat(ways.model, stream=stream)]
    straight = await curl(ways.straight, "/chat/completions", *asked)
    head, _, body = (await curl(ways.through, "/chat/completions", "-0", "-i", *asked)).partition(b"\r\n\r\n")
    assert b"\r\nconnection: close" in head
    # A stream comes in the pieces of HTTP/1.1, which docs/wire.md says; a whole answer has its length.
    assert (b"\r\ntransfer-encoding: chunked" in head) is stream
    assert body == straight


@pytest.mark.parametrize("how", [["--http1.1"], ["--http2"]], ids=["http1.1", "http2 offered"])
async def test_one_connection_serves_several_requests(ways, how):
    address = f"{ways.through.base}/chat/completions"
    asked = [
        *how,
        *chat(ways.model),
        "-o",
        "/dev/null",
        "-w",
        "%{num_connects} %{http_version} ",
        "-o",
        "/dev/null",
    ]
    told = (await curl(ways.through, "/chat/completions", *asked, address)).decode()
    assert told.split() == ["1", "1.1", "0", "1.1"]


async def test_a_body_sent_in_pieces_is_the_same_request(ways):
    body = json.dumps({"model": ways.model, "messages": [{"role": "user", "content": "a"}]}).encode()
    asked = ["-X", "POST", "-H", "content-type: application/json", "-H", "transfer-encoding: chunked",
             "-H", "x-attribution: off", "--data-binary", "@-"]  # fmt: skip
    straight = await curl(ways.straight, "/chat/completions", *asked, fed=body)
    assert await curl(ways.through, "/chat/completions", *asked, fed=body) == straight


@pytest.mark.parametrize("model", ["refused", "busy", "broken"])
@pytest.mark.parametrize("view", VIEWS)
async def test_a_refusal_of_the_backend_is_the_same_bytes(ways, model, view):
    asked = ["-H", f"x-attribution: {view}", *chat(model), *STATUS]
    straight = await curl(ways.straight, "/chat/completions", *asked)
    assert await curl(ways.through, "/chat/completions", *asked) == straight


async def test_a_script_that_fails_on_refusals_sees_ours_fail(ways):
    asked = command(
        Way(ways.through.base, "none"), "/chat/completions", "--fail-with-body", *chat(ways.model)
    )
    ran = await anyio.run_process(asked, check=False)
    assert ran.returncode == 22
    assert json.loads(ran.stdout)["error"]["code"] == "invalid_api_key"
