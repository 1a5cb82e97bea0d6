"""A real server whose files cannot grow any more, and then can again: the kernel refuses, not a fake.

The limit is the process's own (RLIMIT_FSIZE), set and lifted from outside while it serves. It holds for every file:
journal, store, waiting texts, and the log that says so.
"""

from __future__ import annotations

import json
import resource
import time

import httpx

from tests.commands import Commands
from tests.processes import children, serving
from tests.proxy.test_crew import backend

SOON_S = 60  # a bound for a slow machine
ASKED = {"model": "demo-credits-1", "messages": [{"role": "user", "content": "Tell me about bees"}]}


def limit_files(pid: int, size: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def ask(client: httpx.Client, mode: str = "inline", *, stream: bool = False) -> tuple[int, str, bytes]:
    """Return the status, the id and the body; what was broken off has status 0."""
    content = b""
    with client.stream(
        "POST", "/v1/chat/completions", json={**ASKED, "stream": stream}, headers={"x-attribution-mode": mode}
    ) as answer:
        try:
            for piece in answer.iter_raw():
                content += piece
        except httpx.HTTPError:
            return 0, answer.headers["x-attribution-id"], content
    return answer.status_code, answer.headers["x-attribution-id"], content


def test_a_full_disk_refuses_what_it_cannot_record_and_loses_nothing_that_was_given(tmp_path):
    data = tmp_path / "data"
    run = Commands(data)
    key = run.json("keys", "create", "--role", "app").row["key"]
    headers = {"authorization": f"Bearer {key}"}
    with backend() as upstream, serving(data, "--upstream", upstream) as base:
        (pid,) = children(b"proxy.worker")
        with httpx.Client(base_url=base, headers=headers, timeout=SOON_S, trust_env=False) as client:
            given = [ask(client), ask(client, stream=True), ask(client, "deferred")]
            assert [status for status, _, _ in given] == [200, 200, 200]
            limit_files(pid, 0)
            try:
                for mode in ("inline", "deferred"):
                    status, _, content = ask(client, mode)
                    assert (status, json.loads(content)["error"]["code"]) == (503, "journal_unavailable")
                    status, _, content = ask(client, mode, stream=True)
                    assert (status, b"[DONE]" in content) == (0, False)
                assert client.get("/healthz").status_code == 200
                unready = client.get("/readyz")
                assert unready.status_code == 503, unready.text
                assert client.get("/v1/models").status_code == 200
            finally:
                limit_files(pid, resource.RLIM_INFINITY)
            until_s = time.monotonic() + SOON_S
            while (again := ask(client))[0] != 200:
                assert time.monotonic() < until_s, again
            given += [again, ask(client, stream=True), ask(client, "deferred")]
            while client.get("/readyz").status_code != 200:
                assert time.monotonic() < until_s
    events = run.json("usage", "--events").rows
    ids = [event["id"] for event in events]
    assert len(set(ids)) == len(ids)
    assert {name for _, name, _ in given} <= set(ids)
