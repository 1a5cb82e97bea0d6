"""From a price file to a signed receipt: what images, sound and video cost, over HTTP and down to the store."""

from __future__ import annotations

import asyncio
import json

import pytest

from proxy.receipts.verify import Keys, check_file, open_jws
from proxy.settings import Billing
from tests.builders import SSE
from tests.journeys.test_metering_truth import booked
from tests.live import live, settings_in
from tests.proxy.wire.test_multipart import KIND, form

pytestmark = pytest.mark.anyio
PRICES = """version = "media"
currency = "USD"
effective_from = 2026-01-01
[[models]]
pattern = "painter"
input_per_million = "0.0005"
per_image = "0.04"
[[models]]
pattern = "ear"
per_second = "0.0001"
[[models]]
pattern = "camera"
per_second = "0.10"
"""
JSON, FORM = {"content-type": "application/json"}, {"content-type": KIND.decode()}
USAGE = {"input_tokens": 3, "output_tokens": 0}
DRAWN = [
    f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()
    for kind, more in (
        ("image_generation.partial_image", {"b64_json": "AA"}),
        ("image_generation.completed", {"b64_json": "AAAA", "usage": USAGE}),
    )
]
# path, headers, body, the backend's pieces, (images, milliseconds, price in nano-dollars)
ASKED = {
    "an image": (
        "/v1/images/generations", JSON, b'{"model":"painter","prompt":"the sea","n":2}',
        [json.dumps({"data": [{"b64_json": "AAAA"}, {"b64_json": "BBBB"}], "usage": USAGE}).encode()],
        (2, 0, 80_000_002),  # one grain and a half of tokens, rounded up with the rest
    ),
    "a streamed image": (
        "/v1/images/generations", JSON, b'{"model":"painter","prompt":"the sea","stream":true}', DRAWN, (1, 0, 40_000_002),
    ),
    "a transcription": (
        "/v1/audio/transcriptions", FORM, form((b'name="model"', b"ear"), (b'name="file"; filename="a.mp3"', b"\xff")),
        [b'{"text":"the sea","usage":{"type":"duration","seconds":8.4705}}'], (0, 8_471, 847_100),
    ),
    "a video": (
        "/v1/videos", JSON, b'{"model":"camera","prompt":"the sea","seconds":"8"}',
        [b'{"id":"video_1","object":"video","status":"queued","seconds":"8"}'], (0, 8_000, 800_000_000),
    ),
}  # fmt: skip


async def settled(app, path, headers):
    """Return a receipt with its place in the log, once it has one."""
    async with asyncio.timeout(30):
        while (reply := await app.client.get(path, headers=headers)).status_code == 202:  # noqa: ASYNC110  nobody is told
            await asyncio.sleep(0.02)
    return reply.json()


async def test_images_sound_and_video_are_priced_by_the_file_and_signed(tmp_path):
    (tmp_path / "prices").mkdir()
    (tmp_path / "prices" / "media.toml").write_text(PRICES)
    settings = settings_in(tmp_path / "data", billing=Billing(prices_dir=str(tmp_path / "prices")))
    async with live(settings) as app:
        shop = app.key(name="shop")
        expected = {}
        for path, headers, body, pieces, told in ASKED.values():
            app.backend.pieces = pieces
            app.backend.headers = SSE if pieces is DRAWN else [(b"Content-Type", b"application/json")]
            reply = await app.client.post(path, content=body, headers={**shop, **headers})
            assert reply.status_code == 200
            expected[reply.headers["x-attribution-id"]] = told
        events = await booked(app, len(ASKED))
        assert {one.id: (one.images, one.milliseconds, one.price_grains) for one in events} == expected
        keys = Keys.parse((await app.client.get("/.well-known/endcredits.json")).content)
        for event_id, (images, milliseconds, grains) in expected.items():
            shown = (await app.client.get(f"/api/receipts/{event_id}", headers=shop)).json()
            assert (shown["images"], shown["milliseconds"]) == (images, milliseconds)
            token = (await settled(app, f"/api/receipts/{event_id}/proof", shop))["receipt"]
            assert check_file(token.encode(), keys)
            said = json.loads(open_jws(token, keys.kids))
            assert (said.get("img", 0), said.get("ms", 0), said["price"]) == (images, milliseconds, grains)
