"""What a client sees, what is metered and what stays open when a backend misbehaves, over real sockets."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Any

import pytest

from proxy.settings import Backend, Routing, Server, Settings
from tests import fakes, misbehaving
from tests.builders import World, chat_request
from tests.misbehaving import NAMED_JSON, NAMED_STREAMS, Misbehaving

pytestmark = pytest.mark.anyio

# For whole answers: status, our error's code (or None), the event's outcome (or None), are its tokens estimated.
UNREACHED = (502, "backend_cut", None, None)
UNREADABLE = (502, "backend_protocol", None, None)
CUT = (502, "backend_cut", "failed", True)
GOOD = (200, None, "complete", False)
UNREAD = (200, None, "complete", True)
WHOLE: dict[str, tuple[int, str | None, str | None, bool | None]] = {
    "closes_at_once": UNREACHED,
    "says_nothing": (504, "backend_timeout", None, None),
    "closes_before_a_head": UNREACHED,
    "closes_inside_the_head": UNREACHED,
    "speaks_another_protocol": UNREADABLE,
    "has_a_header_of_a_megabyte": UNREADABLE,
    "has_ten_thousand_headers": UNREADABLE,
    "has_a_header_without_a_colon": UNREADABLE,
    "has_a_nul_in_a_header": UNREADABLE,
    "says_two_lengths": UNREADABLE,
    "says_a_length_and_chunked": UNREADABLE,
    "says_a_negative_length": UNREADABLE,
    "closes_after_the_head": CUT,
    "closes_in_the_body": CUT,
    "says_too_long_a_length": CUT,
    "says_too_short_a_length": UNREADABLE,
    "falls_silent_in_the_body": (504, "backend_timeout", "failed", True),
    "lies_about_gzip": (502, "backend_protocol", "failed", True),
    "cuts_its_gzip_short": (502, "backend_protocol", "failed", True),
    "sends_a_gzip_bomb": (502, "backend_protocol", "failed", True),
    "refuses_at_length": (500, None, None, None),
    "trickles_its_head": (504, "backend_timeout", None, None),
    "trickles_its_body": (504, "backend_timeout", "failed", True),
    "fails_behind_its_reply": UNREADABLE,
    "compresses_unasked": GOOD,
    "sends_html_with_200": UNREAD,
    "sends_html_as_json": UNREAD,
    "is_busy": (429, None, None, None),
    "is_busy_once": GOOD,
    "redirects_elsewhere": (307, None, None, None),
    "sends_garbage_after_its_json": UNREAD,
    "sends_an_empty_body": UNREAD,
    "has_no_content": (204, None, "complete", True),
    "says_not_modified": (304, None, None, None),
    "speaks_http_1_0": GOOD,
    "gives_no_reason_phrase": GOOD,
    "continues_unasked": GOOD,
    "hints_early": GOOD,
    "switches_protocols_unasked": UNREADABLE,
    "invents_a_status": UNREADABLE,
    "nests_ten_thousand_deep": UNREAD,
    "reports_absurd_usage": UNREAD,
    "sends_broken_utf8": GOOD,
}
# For streams: is it complete for the client, the event's outcome, are its tokens estimated.
BROKEN = (False, "cut", True)
FINE = (True, "complete", False)
COUNTED = (True, "complete", True)
STREAMS: dict[str, tuple[bool, str | None, bool | None]] = {
    "closes_after_the_streams_head": BROKEN,
    "closes_in_mid_stream": BROKEN,
    "closes_inside_an_event": BROKEN,
    "falls_silent_in_mid_stream": BROKEN,
    "pings_and_falls_silent": BROKEN,
    "never_ends": BROKEN,
    "breaks_its_chunks": (False, None, None),
    "says_a_chunk_without_end": (False, None, None),
    "sends_an_event_without_end": BROKEN,
    "never_finishes": FINE,
    "never_says_done": FINE,
    "forgets_the_last_blank_line": FINE,
    "ends_lines_with_crlf": FINE,
    "spreads_its_events_over_lines": FINE,
    "ends_lines_with_cr": FINE,
    "begins_with_a_byte_order_mark": FINE,
    "sends_only_comments": COUNTED,
    "sends_nothing_in_its_stream": COUNTED,
    "sends_broken_utf8_in_an_event": FINE,
    "cuts_a_letter_in_two": FINE,
    "ends_inside_a_letter": COUNTED,
    "says_done_twice": FINE,
    "goes_on_after_done": FINE,
    "reports_usage_twice": FINE,
    "never_reports_usage": COUNTED,
    "finishes_twice": FINE,
    "sends_an_error_in_the_stream": COUNTED,
    "fails_inside_its_stream": (False, None, None),
    "reports_a_fault_in_its_last_event": COUNTED,
    "sends_a_gzip_bomb_as_events": BROKEN,
    "trickles_its_events": BROKEN,
    "sends_json_for_a_stream": FINE,
    "sends_nonsense_between_events": FINE,
    "gives_a_stream_a_length": FINE,
    "streams_until_it_closes": FINE,
}
RUNS_OUT = {
    "says_nothing": {"first_byte_ms": 300},
    "falls_silent_in_the_body": {"idle_ms": 200},
    "falls_silent_in_mid_stream": {"idle_ms": 200},
    "pings_and_falls_silent": {"idle_ms": 200},
    "never_ends": {"whole_ms": 3_000},
    "trickles_its_head": {"first_byte_ms": 300},
    "trickles_its_body": {"whole_ms": 3_000},
    "trickles_its_events": {"whole_ms": 3_000},
}
# Read as an error before the head or in the body, as the network cuts it; the client never takes it for whole.
EITHER_WAY = {"breaks_its_chunks", "says_a_chunk_without_end", "fails_inside_its_stream"}


def world_of(server: Misbehaving, **limits: int) -> World:
    # A slow machine is no misbehaviour: only what must run out is short.
    limits = {"first_byte_ms": 20_000, "idle_ms": 20_000, "connect_ms": 20_000, **limits}
    backend = Backend(name="a", url=server.url, **limits)  # pyright: ignore[reportArgumentType]
    return World(object(), settings=Settings(backends=(backend,)))


def busy_connections(world: World) -> int:
    """Connections that some request still holds; those kept alive for the next are not among them."""
    upstream: Any = world.relay._backends._upstream
    return upstream.busy


async def asked(
    script: misbehaving.Script, *, stream: bool, **limits: int
) -> tuple[World, fakes.AsgiClient, Misbehaving]:
    async with Misbehaving(script) as server:
        world = world_of(server, **limits)
        client = await world.ask(chat_request(stream=stream))
        assert busy_connections(world) == 0, "every connection is given back or closed"
        await world.relay.aclose()
        async with asyncio.timeout(60):
            await server.everything_closed()
        return world, client, server


def error_code(client: fakes.AsgiClient) -> str | None:
    try:
        return json.loads(client.body)["error"]["code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def test_every_name_is_judged_and_there_are_many():
    assert set(WHOLE) == set(NAMED_JSON)
    assert set(STREAMS) == set(NAMED_STREAMS)
    assert len(WHOLE) + len(STREAMS) >= 60


@pytest.mark.parametrize("name", WHOLE)
async def test_a_whole_answer_of_a_backend_that(name):
    status, code, outcome, estimated = WHOLE[name]
    world, client, _ = await asked(NAMED_JSON[name], stream=False, **RUNS_OUT.get(name, {}))
    assert (client.status, error_code(client)) == (status, code)
    assert client.is_complete, "a whole answer or a whole error"
    assert client.headers["x-attribution-id"].startswith("rct_")
    assert [used.outcome for used in world.journal.used] == ([outcome] if outcome else [])
    assert [used.estimated for used in world.journal.used] == ([estimated] if outcome else [])
    assert len(world.journal.used) == len(world.journal.attributed)


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_of_a_backend_that(name):
    is_complete, outcome, estimated = STREAMS[name]
    world, client, _ = await asked(NAMED_STREAMS[name], stream=True, **RUNS_OUT.get(name, {}))
    outcomes = [used.outcome for used in world.journal.used]
    if name in EITHER_WAY:
        assert (client.status, outcomes) in [(502, []), (200, ["cut"])]
        assert client.status == 502 or not client.is_complete
        return
    assert client.status == 200
    assert client.is_complete == is_complete
    assert outcomes == [outcome]
    assert world.journal.used[0].estimated == estimated
    assert len(world.journal.attributed) == 1


async def test_the_last_reported_usage_counts_but_none_after_done():
    world, _, _ = await asked(NAMED_STREAMS["reports_usage_twice"], stream=True)
    assert world.journal.used[0].output_tokens == 7
    world, client, _ = await asked(NAMED_STREAMS["goes_on_after_done"], stream=True)
    assert world.journal.used[0].output_tokens == 7
    assert b"more" in client.body, "the bytes pass as they came"


async def test_what_cannot_be_read_passes_as_it_came():
    for name in ("sends_garbage_after_its_json", "nests_ten_thousand_deep", "sends_html_as_json"):
        _, client, _ = await asked(NAMED_JSON[name], stream=False)
        assert b"attribution" not in client.body
        assert client.body.endswith((b"}}garbage", b"]]]", b"</html>"))


async def test_a_refusal_keeps_its_retry_after_and_its_body():
    _, client, server = await asked(NAMED_JSON["is_busy"], stream=False)
    assert (client.headers["retry-after"], client.body) == ("40", b'{"error":{"message":"slow down"}}')
    assert server.requests == 1


async def test_a_redirect_is_told_and_never_followed():
    async with Misbehaving(misbehaving.replies(misbehaving.whole(b"{}"))) as elsewhere:
        moved = misbehaving.head(
            f"Location: {elsewhere.url}/x", "Content-Length: 0", status="HTTP/1.1 307 Go"
        )
        _, client, _ = await asked(misbehaving.replies(moved), stream=False)
        assert (client.status, client.headers["location"]) == (307, f"{elsewhere.url}/x")
        assert elsewhere.connections == []


async def test_a_backend_that_refuses_connections_is_502_and_nothing_is_metered():
    async with Misbehaving(misbehaving.closes_at_once) as server:
        world = world_of(server)
    client = await world.ask()
    assert (client.status, error_code(client)) == (502, "backend_unreachable")
    assert world.journal.records == []
    await world.relay.aclose()


async def test_a_second_reply_that_nobody_asked_for_never_reaches_the_next_request():
    async with Misbehaving(misbehaving.says_more_than_it_was_asked) as server:
        world = world_of(server)
        replies = [await world.ask() for _ in range(3)]
        assert [error_code(reply) for reply in replies] == ["backend_protocol"] * 3
        assert not any(b"another user" in reply.body for reply in replies)
        assert len(server.connections) == 3, "such a connection is not used again"
        await world.relay.aclose()
        async with asyncio.timeout(60):
            await server.everything_closed()


async def test_bytes_beyond_a_replys_length_are_a_broken_protocol_and_the_connection_is_not_used_again():
    async with Misbehaving(misbehaving.says_more_than_its_length) as server:
        world = world_of(server)
        replies = [await world.ask() for _ in range(2)]
        assert [error_code(reply) for reply in replies] == ["backend_protocol"] * 2
        assert [len(connection.heads) for connection in server.connections] == [1, 1]
        await world.relay.aclose()


async def test_a_connection_reset_under_the_second_request_is_502_and_never_sent_again():
    async with Misbehaving(misbehaving.resets_the_second_request) as server:
        world = world_of(server)
        assert (await world.ask()).status == 200
        client = await world.ask()
        assert (client.status, error_code(client)) == (502, "backend_cut")
        assert server.requests == 2
        assert [used.outcome for used in world.journal.used] == ["complete"]
        assert busy_connections(world) == 0
        await world.relay.aclose()


async def test_a_refusal_while_the_request_still_goes_up_reaches_the_client():
    async with Misbehaving(misbehaving.refuses_while_the_body_still_comes) as server:
        world = world_of(server)
        body = chat_request(messages=[{"role": "user", "content": "x" * (8 << 20)}])
        client = await world.ask(body)
        assert (client.status, client.body) == (400, b'{"error":{"message":"too long"}}')
        assert world.journal.used == []
        assert busy_connections(world) == 0
        await world.relay.aclose()


async def test_a_storm_of_misbehaviour_on_one_relay_leaves_nothing_open_and_meters_each_answer_once():
    scripts = [*NAMED_JSON.items(), *NAMED_STREAMS.items()]
    servers = [
        Misbehaving(script)
        for name, script in scripts
        if name != "says_nothing" and not name.startswith(("never_ends", "trickles")) and "bomb" not in name
    ]
    for server in servers:
        await server.__aenter__()
    try:
        backends = tuple(
            Backend(name=str(n), url=server.url, models=(f"m{n}",), first_byte_ms=60_000, idle_ms=300)
            for n, server in enumerate(servers)
        )
        settings = Settings(backends=backends, routing=Routing(circuit_failures=0), server=Server())
        world = World(object(), settings=settings)
        asking = [
            world.ask(chat_request(model=f"m{n}", stream=bool((n + turn) % 2)))
            for n in range(len(servers))
            for turn in range(4)
        ]
        clients = await asyncio.gather(*asking)
        assert busy_connections(world) == 0
        used = Counter(used.id for used in world.journal.used)
        assert set(used.values()) == {1}
        assert set(used) == {record.id for record in world.journal.begun}
        begun = [client for client in clients if client.headers["x-attribution-id"] in used]
        assert len(begun) == len(used)
        await world.relay.aclose()
        async with asyncio.timeout(60):
            for server in servers:
                await server.everything_closed()
    finally:
        for server in servers:
            await server.__aexit__(None, None, None)


async def streams_slowly(connection: misbehaving.Connection) -> None:
    while True:
        await connection.request()
        await connection.write(misbehaving.head(*misbehaving.SSE_HEAD))
        for piece in misbehaving.FRAMES:
            await connection.write(misbehaving.chunked(piece))
            await asyncio.sleep(0)
        await connection.write(b"0\r\n\r\n")


async def test_300_clients_that_leave_anywhere_leave_no_connection_busy_and_are_metered_once():
    rng = random.Random(3)
    async with Misbehaving(streams_slowly) as server:
        backend = Backend(name="a", url=server.url)
        world = World(object(), settings=Settings(backends=(backend,)), drain_s=0.01)

        async def one() -> None:
            client = fakes.AsgiClient(world.relay)
            body = chat_request(stream=True)
            call = client.call("POST", "/v1/chat/completions", body=body)
            async with asyncio.TaskGroup() as group:
                task = group.create_task(call)
                for _ in range(rng.randrange(200)):
                    await asyncio.sleep(0)
                if rng.random() < 0.5:
                    client.leave()
                else:
                    task.cancel()  # as a server that is stopped does

        for _ in range(10):
            await asyncio.gather(*(one() for _ in range(30)))
        assert busy_connections(world) == 0
        ids = Counter(used.id for used in world.journal.used)
        assert set(ids.values()) == {1}
        assert {used.outcome for used in world.journal.used} == {"cut", "complete"}, (
            "they left in the middle too"
        )
        await world.relay.aclose()
        async with asyncio.timeout(60):
            await server.everything_closed()
