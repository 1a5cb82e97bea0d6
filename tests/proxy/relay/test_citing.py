"""Which works an answer cites, decided; and the evidence that a real client is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from proxy.catalogue.works import CatalogueSnapshot, NewWork, WorkCredit
from proxy.relay.citing import ADDRESSES_MAX, WORKS_MAX, cited, nobody_is_there
from proxy.relay.told import Told
from tests.builders import SSE, World, chat_reply, chunk, frame
from tests.live import Live, live, settings_in

pytestmark = pytest.mark.anyio
URL = "https://works.example/barge"


def snapshot(*urls: str) -> CatalogueSnapshot:
    works = [WorkCredit(f"w_{n:02}", "", (), "", url, "paid") for n, url in enumerate(urls)]
    return CatalogueSnapshot().with_changes(1, works)


def told(text: str, *sources: str) -> Told:
    made = Told(1 << 20)
    made.add(0, text)
    made.cite(sources)
    return made


def test_sources_come_first_then_addresses_in_the_text_each_work_once():
    known = snapshot("https://a.example/x", "https://b.example", "https://c.example")
    answer = told("As [this](https://a.example/x#1) and https://c.example say.", "http://B.example/")
    assert cited(answer, known.works_at) == ("w_01", "w_00", "w_02")
    assert cited(answer, nobody_is_there) == ()


def test_only_the_very_address_of_a_work_is_its_own():
    known = snapshot("https://a.example/x")
    for other in ("https://a.example", "https://a.example/x/y", "https://a.example/x?y", "a.example/x"):
        assert cited(told(f"See {other} there.", other), known.works_at) == ()


def test_a_list_of_links_is_looked_at_within_bounds():
    urls = [f"https://a.example/{number}" for number in range(ADDRESSES_MAX + 1)]
    assert len(cited(told(" ".join(urls)), snapshot(*urls).works_at)) == WORKS_MAX
    assert cited(told(" ".join(urls)), snapshot(urls[-1]).works_at) == ()
    assert cited(told(" ".join(urls)), snapshot(urls[-2]).works_at) == ("w_00",)


async def test_works_that_are_cited_are_told_to_the_scorer_and_wait_with_the_text_of_late_shares():
    known = snapshot(URL)
    world = World(works_at=known.works_at)
    world.backend.pieces = [chat_reply("The lamp.", citations=[URL])]
    world.attributing.result = None
    client = await world.ask()
    event_id = client.headers["x-attribution-id"]
    assert world.attributing.cited[event_id] == ("w_00",)
    assert world.pending.cited[event_id] == ("w_00",)


async def registered(app: Live) -> str:
    text = "The barge carried tar past the lock at dawn, and nobody paid the toll."
    (made,) = app.catalogue.add_works([NewWork("ada-1", "ada", "The barge", text, url=URL)])
    await app.running.registry.refresh()
    return made.work_id


def annotated(stream: bool, text: str, url: str) -> list[bytes]:
    citation = {
        "type": "url_citation",
        "url_citation": {"url": url, "title": "", "start_index": 0, "end_index": 2},
    }
    if not stream:
        message = {"role": "assistant", "content": text, "annotations": [citation]}
        return [chat_reply(choices=[{"index": 0, "message": message, "finish_reason": "stop"}])]
    cites = {"index": 0, "delta": {"annotations": [citation]}, "finish_reason": None}
    return [chunk(text), chunk(choices=[cites]), chunk(finish="stop"), frame(b"[DONE]")]


def listed(stream: bool, text: str, url: str) -> list[bytes]:
    if not stream:
        return [chat_reply(text, citations=[url])]
    return [chunk(text, citations=[url]), chunk(finish="stop", citations=[url]), frame(b"[DONE]")]


def written(stream: bool, text: str, url: str) -> list[bytes]:
    text += f" ([source]({url}))"
    return [chunk(text), chunk(finish="stop"), frame(b"[DONE]")] if stream else [chat_reply(text)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", [annotated, listed, written])
async def test_a_work_whose_address_the_backend_names_is_cited_evidence(
    tmp_path: Path, way: Any, stream: bool
):
    async with live(settings_in(tmp_path)) as app:
        work = await registered(app)
        for url, kind in ((URL.upper().replace("/BARGE", "/barge"), "cited"), (URL + "s", "verbatim")):
            # A text is searched for what clients would make a link of.
            app.backend.pieces = way(stream, f"As {work} says.", url if way is not written else url.lower())
            app.backend.headers = SSE if stream else [(b"Content-Type", b"application/json")]
            reply = await app.chat({**app.key(), "x-attribution": "full"}, stream=stream)
            assert f'"kind":"{kind}"' in reply.text.replace(" ", "")


async def test_the_official_client_reads_cited_evidence_and_the_backends_annotations(tmp_path: Path):
    async with live(settings_in(tmp_path)) as app:
        work = await registered(app)
        app.backend.pieces = annotated(False, f"As {work} says.", URL)
        key = app.key()["authorization"].removeprefix("Bearer ")
        async with AsyncOpenAI(base_url=f"{app.base}/v1", api_key=key, max_retries=0) as client:
            reply = await client.chat.completions.create(
                model="small-1",
                messages=[{"role": "user", "content": "read on"}],
                extra_headers={"x-attribution": "full"},
            )
        assert [note.url_citation.url for note in reply.choices[0].message.annotations or ()] == [URL]
        (credit,) = (reply.model_extra or {})["attribution"]["works"]
        assert [piece["kind"] for piece in credit["evidence"]] == ["cited"]
