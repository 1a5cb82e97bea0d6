"""What the measurements of a whole server stand on: an index, a backend that costs little, and /proc.

INDEX=folder takes an index that is there already, with BENCH=folder answers made of the labelled outputs beside
it (dev/outputs.jsonl.gz); without them both are made of words drawn here. The server runs on core 1, client and
backend on core 0: what a core can carry is then read off one process tree.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from attribution import SourceWork, build_index
from attribution.scale import answers
from tests.commands import Commands

ANSWER_WORDS = 220  # about 300 tokens
WORKS, WORK_SENTENCES = 200, 30
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
INDEX_NAME = "0" * 19 + "1"


def written(chance: random.Random, vocabulary: list[str]) -> str:
    words = chance.choices(vocabulary, k=chance.randint(8, 20))
    return " ".join(words).capitalize() + ". "


def made_index(folder: Path) -> tuple[Path, list[str]]:
    """Return an index and answers that draw on it."""
    if given := os.environ.get("INDEX"):
        outputs = Path(os.environ["BENCH"]) / "dev" / "outputs.jsonl.gz"
        with gzip.open(outputs, "rt", encoding="utf-8") as file:
            texts = [json.loads(line)["text"] for line in file]
        return Path(given), answers(texts, count=60, length=ANSWER_WORDS)
    chance = random.Random(7)
    letters = "abcdefghiklmnoprstuvw"
    vocabulary = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(4_000)]
    texts = ["".join(written(chance, vocabulary) for _ in range(WORK_SENTENCES)) for _ in range(WORKS)]
    works = [SourceWork(f"w_{number}", text, number) for number, text in enumerate(texts)]
    index = folder / "made"
    build_index(works, index)
    half = [
        "".join([written(chance, vocabulary), sentence])
        for text in texts
        for sentence in text.split(". ")[:20]
    ]
    return index, answers(half, count=60, length=ANSWER_WORDS)


class Backend:
    """A backend on the loop of the client: prepared answers, whole, in one burst or paced."""

    def __init__(self, texts: list[str], *, token_s: float = 0.02) -> None:
        self._texts, self._token_s = texts, token_s
        self._asked = 0
        self.sent_s: dict[bytes, float] = {}  # when a paced token left, by its mark

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                await self._answer(writer, head, body)
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
        self._asked += 1
        text = self._texts[self._asked % len(self._texts)]
        if b"/embeddings" in head:
            _whole(
                writer,
                {
                    "object": "list",
                    "model": "m",
                    "data": [],
                    "usage": {"prompt_tokens": 3, "total_tokens": 3},
                },
            )
        elif b"FAIL" in body:
            writer.write(
                b"HTTP/1.1 500 Oops\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
            )
        elif b'"stream":true' in body:
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            for number, word in enumerate(text.split(" ")):
                event = _event({"choices": [{"index": 0, "delta": {"content": f"{word} "}}]}, number)
                _chunk(writer, event)
                if b"PACED" in body:
                    await asyncio.sleep(self._token_s)
            _chunk(writer, _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, 0))
            _chunk(
                writer, _event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 300}}, 0)
            )
            _chunk(writer, b"data: [DONE]\n\n")
            writer.write(b"0\r\n\r\n")
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 9, "completion_tokens": 300, "total_tokens": 309}
            _whole(
                writer,
                {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage},
            )
        await writer.drain()


def _event(members: dict[str, object], number: int) -> bytes:
    return b"data: " + json.dumps({"id": "c", "created": number, "model": "m", **members}).encode() + b"\n\n"


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


def _whole(writer: asyncio.StreamWriter, value: object) -> None:
    body = json.dumps(value).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % len(body) + body)


@dataclass(frozen=True)
class Tree:
    """A process and all below it."""

    pid: int
    index: Path

    def pids(self) -> list[int]:
        found, open_ = [], [self.pid]
        while open_:
            pid = open_.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    open_ += map(int, (task / "children").read_text().split())
        return found

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds so far, of the relay and of the scorer."""
        spent = {"relay": 0.0, "scorer": 0.0}
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            spent[_role(pid)] += (int(fields[11]) + int(fields[12])) * TICK_S
        return spent

    def private_mib(self, kind: str = "Private_") -> dict[str, float]:
        """Private memory of each, pages of the index apart: they are files that any other process shares.

        kind: "Private_Dirty" for written pages alone; clean ones of a library come and go as others map it.
        """
        found = {"relay": 0, "scorer": 0, "index": 0}
        for pid in self.pids():
            place = ""
            for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
                if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                    is_index = str(self.index) in line
                    place = "index" if is_index else _role(pid)
                elif line.startswith(kind):
                    found[place] += int(line.split()[1])
        return {name: round(kib / 1024, 1) for name, kib in found.items()}


def gauge(base: str, name: str) -> float:
    """Return what the server says of itself under this name; 0 when it says nothing."""
    told = httpx.get(f"{base}/metrics", timeout=60, trust_env=False).text
    found = re.search(rf"^{name} (\S+)$", told, re.MULTILINE)
    return float(found[1]) if found else 0.0


def waits(base: str) -> float:
    """Return how much still waits: bytes of text for their shares, and records for the store."""
    return gauge(base, "endcredits_backlog_bytes") + gauge(base, "endcredits_journal_lag_records")


def _role(pid: int) -> str:
    return "scorer" if b"relay.scorer" in Path(f"/proc/{pid}/cmdline").read_bytes() else "relay"


@contextlib.contextmanager
def served(data: Path, index: Path, upstream: str, *, settings: str = "") -> Iterator[tuple[str, str, Tree]]:
    """Serve on core 1 from this index; yield base URL, an app's key, and the server's processes."""
    (data / "index").mkdir(parents=True)
    (data / "index" / INDEX_NAME).symlink_to(index.resolve())
    (data / "index" / "current").write_text(INDEX_NAME)
    key = Commands(data).json("keys", "create", "--role", "app").row["key"]
    config = data.parent / "endcredits.toml"
    config.write_text(settings)
    command = [sys.executable, "-m", "proxy", "serve", "--port", "0", "--json", "--upstream", upstream]
    command += ["--data", str(data), "--config", str(config)]
    cores = os.sched_getaffinity(0)
    with (data.parent / "server.log").open("ab") as log:
        os.sched_setaffinity(0, {max(cores)})
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        finally:
            os.sched_setaffinity(0, {min(cores)})
    try:
        assert process.stdout is not None
        base = json.loads(process.stdout.readline())["url"]
        ready = httpx.get(f"{base}/readyz", timeout=60, trust_env=False)
        assert ready.status_code == 200, ready.text
        yield base, key, Tree(process.pid, index.resolve())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        os.sched_setaffinity(0, cores)
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


@dataclass(frozen=True)
class Reply:
    """One reply: `status` -1 when it broke off."""

    status: int
    attribution: str = ""
    answer_id: str = ""


class Client:
    """One keep-alive connection, as cheap as Python makes it: what is measured runs on the other core."""

    def __init__(self, base: str, key: str) -> None:
        self._host, _, port = base.removeprefix("http://").partition(":")
        self._port, self._key = int(port), key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.pieces_s: list[float] = []  # when the pieces of a stream came

    async def ask(self, path: str, body: bytes, *, headers: str = "", leave_after: int = 0) -> Reply:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self._key}\r\n{headers}"
        writer.write(
            f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
        )
        try:
            told = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            reply = Reply(
                int(told[9:12]), _field(told, "x-attribution-status"), _field(told, "x-attribution-id")
            )
            if length := _field(told, "content-length"):
                last = await reader.readexactly(int(length))
            else:
                last = await self._chunks(reader, leave_after)
            if found := re.search(rb'"attribution":\{"id":"[^"]*","status":"(\w+)"', last):
                reply = Reply(reply.status, found[1].decode(), reply.answer_id)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            return Reply(-1)
        if leave_after:
            self.close()
        return reply

    async def _chunks(self, reader: asyncio.StreamReader, leave_after: int) -> bytes:
        self.pieces_s, last = [], b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            last = (last + await reader.readexactly(size + 2))[-65_536:]
            self.pieces_s.append(asyncio.get_running_loop().time())
            if leave_after and len(self.pieces_s) >= leave_after:
                return last
        await reader.readexactly(2)
        return last

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _field(head: str, name: str) -> str:
    found = re.search(rf"\r\n{name}: ([^\r]*)", head)
    return found[1] if found else ""


def chat(*, stream: bool = False, mark: str = "", size: int = 0) -> bytes:
    message = {"role": "user", "content": f"Say something {mark}" + " word" * (size // 5)}
    value = {"model": "m", "messages": [message], **({"stream": True} if stream else {})}
    return json.dumps(value, separators=(",", ":")).encode()
