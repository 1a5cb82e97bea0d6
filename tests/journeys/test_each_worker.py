"""What is taken back acts in every worker within a second, and each of them is asked over a connection of its own.

Which worker holds a connection is read from the kernel's tables: the server's end of it is an open file of one
of them. Three workers, a scorer with the real model and the commands as processes: 15 s of processor time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path

import httpx
import pytest

from tests.commands import Commands
from tests.processes import serving
from tests.proxy.test_crew import SOON_S, WORKERS, backend, members, until

pytestmark = pytest.mark.anyio
ASKED = {"model": "demo-credits-1", "messages": [{"role": "user", "content": "Tell me about bees"}]}
ACTS_S = 1.0


def holder(server_port: int, client_port: int, pids: list[int]) -> int | None:
    """Return which process holds the server's end of a connection."""
    ends = (f":{server_port:04X}", f":{client_port:04X}")
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(ends[0]) and fields[2].endswith(ends[1]):
            for pid in pids:
                for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                    with contextlib.suppress(OSError):
                        if str(descriptor.readlink()) == f"socket:[{fields[9]}]":
                            return pid
    return None


async def one_for_each(
    base: str, headers: dict[str, str], pids: list[int], stack
) -> dict[int, httpx.AsyncClient]:
    """Return a client with one kept connection for each of these processes."""
    found: dict[int, httpx.AsyncClient] = {}
    port = int(base.rpartition(":")[2])
    async with asyncio.timeout(SOON_S):
        while len(found) < len(pids):
            limits = httpx.Limits(max_connections=1, keepalive_expiry=SOON_S)
            client = httpx.AsyncClient(
                base_url=base, headers=headers, limits=limits, timeout=SOON_S, trust_env=False
            )
            await stack.enter_async_context(client)
            answer = await client.get("/healthz")
            ours = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
            pid = holder(port, ours, pids)
            assert pid is not None
            found.setdefault(pid, client)
    return found


async def credits_of(client: httpx.AsyncClient) -> list[str]:
    """Return the verdicts of the works that an answer is credited to; "paid" is not spelled out."""
    answer = await client.post(
        "/v1/chat/completions", json=ASKED, headers={"x-attribution-deadline-ms": "20000"}
    )
    assert answer.status_code == 200, answer.text
    return [work.get("verdict", "paid") for work in answer.json()["attribution"]["works"]]


async def test_a_withdrawn_work_and_a_revoked_key_are_so_in_each_worker_within_a_second(tmp_path):
    data = tmp_path / "data"
    run = Commands(data)
    made = run.json("keys", "create", "--role", "app").row
    headers = {"authorization": f"Bearer {made['key']}"}
    async with contextlib.AsyncExitStack() as stack:
        upstream = stack.enter_context(backend())
        said = (await asyncio.to_thread(httpx.post, f"{upstream}/chat/completions", json=ASKED)).json()
        (tmp_path / "works.jsonl").write_text(
            json.dumps({"work_id": "bees", "creator_id": "ada", "title": "Bees",
                        "text": said["choices"][0]["message"]["content"]}) + "\n"
        )  # fmt: skip
        work = run.json("works", "add", tmp_path / "works.jsonl").row["work_id"]
        base = stack.enter_context(serving(data, "--upstream", upstream, "--workers", str(WORKERS)))
        await until(lambda: len(members(data)) == WORKERS + 1, "everybody starts")
        pids = [pid for name, pid in members(data).items() if name != "scorer"]
        clients = await one_for_each(base, headers, pids, stack)
        for client in clients.values():
            assert await credits_of(client) == ["paid"]
        await asyncio.to_thread(run, "works", "withdraw", work)
        ends_s = time.monotonic() + ACTS_S
        while time.monotonic() < ends_s:
            await asyncio.gather(*(credits_of(client) for client in clients.values()))
        assert [await credits_of(client) for client in clients.values()] == [["prohibited"]] * WORKERS
        await asyncio.to_thread(run, "keys", "revoke", made["id"])
        ends_s = time.monotonic() + ACTS_S
        while time.monotonic() < ends_s:
            await asyncio.gather(*(client.get("/v1/models") for client in clients.values()))
        assert [(await client.get("/v1/models")).status_code for client in clients.values()] == [
            401
        ] * WORKERS
