"""Kill -9 the server in the middle of what lasts: the download of a batch's output, and a realtime session.

    python tests/crash/long_kill.py --kills 20

While a server lives, one client downloads the same file of LINES answers from its beginning and another holds a
realtime session; then it is killed and started again on the same data folder. A line counts as acknowledged when
its last byte was read, a realtime answer when its `response.done` was. Each realtime answer has a number, which it
reports as its input tokens. After the last kill every acknowledged line must have its event; then the file is
downloaded once to its end, and each line must have exactly one, and so must each answer that was acknowledged;
answers that were cut have at most one each. Prints the counts; exits 1 when any was lost or doubled.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from server_kill import command, free_port, start, wait_for, wait_until_carried
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from proxy.metering.batches import line_id

LINES = 300
PIECE_S = 0.004  # between lines, and between the messages of an answer
FILE = "file-long1"
BACKEND = "upstream"  # what `serve --upstream` calls it


# -- the backend, in a process of its own


def line(number: int) -> bytes:
    """Return one answer of the batch."""
    message = {"role": "assistant", "content": f"The sea has a shore, and this is wave {number}."}
    body = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "small-1",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7},
    }
    said = {"custom_id": f"request-{number}", "response": {"status_code": 200, "body": body}, "error": None}
    return json.dumps(said).encode() + b"\n"


class Backend:
    """An ASGI application with one batch's output, said slowly, and realtime sessions."""

    def __init__(self) -> None:
        self.answers = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self.converse(receive, send)
        elif scope["path"].endswith("/content"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for number in range(LINES):
                await send({"type": "http.response.body", "body": line(number), "more_body": True})
                await asyncio.sleep(PIECE_S)
            await send({"type": "http.response.body", "body": b""})
        else:
            about = {"id": FILE, "object": "file", "purpose": "batch_output", "created_at": 1_700_000_000}
            kind = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": kind})
            await send({"type": "http.response.body", "body": json.dumps(about).encode()})

    async def converse(self, receive: Any, send: Any) -> None:
        """Answer every message with a response whose input tokens are its number."""
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            self.answers += 1
            its_id = f"resp_{self.answers}"
            told = {"type": "response.output_text.delta", "response_id": its_id, "delta": "The sea"}
            usage = {"input_tokens": self.answers, "output_tokens": 7}
            done = {"id": its_id, "status": "completed", "usage": usage}
            for event in (
                {"type": "response.created", "response": {"id": its_id}},
                told,
                told,
                {"type": "response.done", "response": done},
            ):
                await send({"type": "websocket.send", "text": json.dumps(event)})
                await asyncio.sleep(PIECE_S)


def be_backend(port: int) -> int:
    """Serve the backend until it is killed."""
    import uvicorn

    uvicorn.run(
        Backend(), port=port, lifespan="off", log_level="error", loop="uvloop", ws="websockets-sansio"
    )
    return 0


# -- the clients


@dataclass
class Acknowledged:
    """What clients have read to its end."""

    lines: set[str] = field(default_factory=set)
    answers: list[int] = field(default_factory=list)
    downloads: int = 0


async def download(base: str, key: str, acked: Acknowledged) -> None:
    """Download the output from its beginning for as long as the server lives."""
    headers = {"authorization": f"Bearer {key}"}
    rest = b""
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        with contextlib.suppress(httpx.HTTPError):
            async with client.stream("GET", f"{base}/v1/files/{FILE}/content", headers=headers) as response:
                assert response.status_code == 200, await response.aread()
                async for piece in response.aiter_raw():
                    *whole, rest = (rest + piece).split(b"\n")
                    acked.lines.update(json.loads(one)["custom_id"] for one in whole)
                acked.downloads += 1


async def converse(base: str, key: str, acked: Acknowledged) -> None:
    """Ask for one realtime answer after the other for as long as the server lives."""
    url = base.replace("http:", "ws:") + "/v1/realtime?model=small-1"
    with contextlib.suppress(WebSocketException, OSError, EOFError):
        async with connect(url, additional_headers={"authorization": f"Bearer {key}"}, proxy=None) as socket:
            while True:
                await socket.send('{"type":"response.create"}')
                event: dict[str, Any] = {}
                while event.get("type") != "response.done":
                    event = json.loads(await socket.recv())
                acked.answers.append(event["response"]["usage"]["input_tokens"])


async def until_killed(base: str, key: str, acked: Acknowledged, pid: int, life_s: float) -> None:
    """Let both clients do for a while, then kill the server under them."""
    async with asyncio.TaskGroup() as group:
        group.create_task(download(base, key, acked))
        group.create_task(converse(base, key, acked))
        await asyncio.sleep(life_s)
        os.killpg(pid, signal.SIGKILL)


def run(folder: Path, options: argparse.Namespace) -> int:
    """Do it all inside `folder`."""
    log, data = folder / "log", folder / "data"
    backend_port, port = free_port(), free_port()
    base, rng, acked = f"http://127.0.0.1:{port}", random.Random(options.seed), Acknowledged()
    with log.open("ab") as out:
        itself = [sys.executable, __file__, "--be-backend", str(backend_port)]
        backend = subprocess.Popen(itself, stdout=out, stderr=out, start_new_session=True)
    processes = [backend]
    try:
        wait_for(f"http://127.0.0.1:{backend_port}/", backend)
        key = str(command(data, "keys", "create", "--role", "app", "--json")[0]["key"])
        upstream = f"http://127.0.0.1:{backend_port}/v1"
        for number in range(options.kills + 1):
            server = start(
                "proxy", "serve", "--data", str(data), "--port", str(port), "--upstream", upstream, log=log
            )
            processes.append(server)
            wait_for(f"{base}/readyz", server)
            if number < options.kills:
                asyncio.run(until_killed(base, key, acked, server.pid, rng.uniform(0.2, options.seconds)))
                server.wait()
        wait_until_carried(base)
        booked = {str(event["id"]) for event in command(data, "usage", "--events", "--json")}
        unbooked = sum(line_id(BACKEND, FILE, name) not in booked for name in acked.lines)
        asyncio.run(download(base, key, acked))
        wait_until_carried(base)
        server.send_signal(signal.SIGTERM)
        stopped = server.wait(60)
        return report(command(data, "usage", "--events", "--json"), acked, unbooked, options.kills, stopped)
    except BaseException:
        sys.stderr.write(log.read_text(errors="replace")[-4000:])
        raise
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def report(events: list[dict[str, Any]], acked: Acknowledged, unbooked: int, kills: int, stopped: int) -> int:
    """Compare what clients have read with what was metered."""
    count = collections.Counter(str(event["id"]) for event in events)
    ids = {f"request-{number}": line_id(BACKEND, FILE, f"request-{number}") for number in range(LINES)}
    spoken = [event for event in events if event["endpoint"] == "realtime"]
    whole = collections.Counter(
        event["tokens"]["input"] for event in spoken if event["outcome"] == "complete"
    )
    cut = sum(event["outcome"] == "cut" for event in spoken)
    lost = (
        unbooked
        + sum(count[its_id] == 0 for its_id in ids.values())
        + sum(whole[one] == 0 for one in acked.answers)
    )
    doubled = sum(times > 1 for times in count.values()) + sum(times > 1 for times in whole.values())
    odd = len(events) - len(spoken) - LINES
    print(
        f"kills {kills}, lines acknowledged {len(acked.lines)} ({unbooked} of them unbooked before the last download), "
        f"realtime answers acknowledged {len(acked.answers)}, events of lines {len(events) - len(spoken)}, of realtime "
        f"answers {sum(whole.values())} and {cut} cut, lost {lost}, doubled {doubled}, last stop exited {stopped}"
    )
    is_whole = len(acked.lines) == LINES and acked.downloads >= 1 and acked.answers
    return 1 if lost or doubled or odd or cut > kills or stopped or not is_whole else 0


def main() -> int:
    """Run the rounds and print the counts."""
    parser = argparse.ArgumentParser(description="kill -9 the server under a download and a realtime session")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.5, help="longest life of a server under load")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--be-backend", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be_backend:
        return be_backend(options.be_backend)
    with tempfile.TemporaryDirectory(prefix="endcredits-crash-") as folder:
        return run(Path(folder), options)


if __name__ == "__main__":
    sys.exit(main())
