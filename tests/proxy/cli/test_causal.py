from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from proxy.metering.audited import AuditedExchanges, Exchange, Message
from tests.commands import Commands
from tests.proxy.cli.test_logprobs import cut

WORKS = {
    "lamp": "Forty paper lanterns drifted under the viaduct while the miller argued with his own echo about rent.",
    "kite": "Nobody in the valley repaired umbrellas, so rain was counted among the permanent residents there.",
    "well": "Behind the observatory a dry well kept seven winters of letters addressed to a retired comet hunter.",
}
CONTEXT = "\n".join(f"[{number}] {text}" for number, text in enumerate(WORKS.values(), 1))
KEY = "sk-not-to-be-shown"


class CopyingModel(BaseHTTPRequestHandler):
    """A server that finds a word likely when it has read it: what leaves the prompt is missed."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.keys.add(self.headers.get("authorization"))
        tokens = cut(body["prompt"])
        if "too long" in body["prompt"]:
            self.answer(400, {"error": {"type": "exceed_context_size_error", "message": body["prompt"]}})
            return
        told = [
            -0.5 if t.strip() in {one.strip() for one in tokens[:n]} else -6.0 for n, t in enumerate(tokens)
        ]
        choice = {"logprobs": {"tokens": [*tokens, "x"], "token_logprobs": [None, *told[1:], -1.0]}}
        usage = {"prompt_tokens": len(tokens), "completion_tokens": 1}
        self.answer(200, {"choices": [choice], "usage": usage})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def backend():
    server = ThreadingHTTPServer(("127.0.0.1", 0), CopyingModel)
    server.keys = set()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def audit(tmp_path, backend):
    catalogue = tmp_path / "works.jsonl"
    catalogue.write_text(
        "".join(
            json.dumps(
                {"work_id": work, "creator_id": f"c-{work}", "text": text, "registered_at": "2024-01-01"}
            )
            + "\n"
            for work, text in WORKS.items()
        )
    )
    ec = Commands(tmp_path / "data")
    url = f"http://127.0.0.1:{backend.server_address[1]}/v1"

    def run(*exchanges, options=(), as_json=True):
        fed = "".join(json.dumps(one) + "\n" for one in exchanges)
        given = ("audit-causal", "--backend", url, "--catalogue", catalogue, *options)
        return (ec.json if as_json else ec)(*given, fed=fed)

    return run


def exchange(name: str, answer: str, context: str | list = CONTEXT) -> dict:
    said = [{"role": "system", "content": context}, {"role": "user", "content": "What is told here?"}]
    return {"id": name, "messages": said, "answer": answer, "model": "m"}


def test_the_work_an_answer_copies_moves_it_most_and_both_orders_agree(audit):
    ran = audit(*(exchange(work, text) for work, text in WORKS.items()))
    assert ran.status == 0, ran.err
    *lines, last = ran.rows
    assert {line["id"]: line["works"][0]["work_id"] for line in lines} == {work: work for work in WORKS}
    for line in lines:
        assert line["scored_tokens"] == line["tokens"] > 10
        assert [work["share_ppm"] > 900_000 for work in line["works"]] == [True, False, False]
        assert line["works"][0]["influence_nats"] > 20 > line["works"][1]["influence_nats"]
        assert line["top_agrees"] is True
    assert last["summary"]["exchanges"] == last["summary"]["top"]["count"] == 3
    assert last["summary"]["tau_b"]["value"] > 0.8
    assert last["summary"]["dialect"] == "echo"


def test_exchanges_that_cannot_be_scored_are_named_with_the_reason(audit):
    ran = audit(
        exchange("good", WORKS["lamp"]),
        exchange("plain", "Hello.", context="You are helpful."),
        exchange("silent", "  "),
        exchange("long", "It is too long"),
    )
    assert ran.status == 0
    assert {row["id"]: row["why"] for row in ran.rows[-1]["summary"]["skipped"]} == {
        "plain": "no registered work stands in its messages",
        "silent": "its answer is empty",
        "long": "/v1/completions: 400 exceed_context_size_error",
    }


def test_an_audit_that_scored_nothing_fails(audit):
    ran = audit(exchange("plain", "Hello.", context="You are helpful."), as_json=False)
    assert ran.status == 1
    assert "no exchange was scored" in ran.out


def test_a_sample_is_the_same_in_any_order_and_another_with_another_seed(audit):
    many = [exchange(f"x{number}", WORKS["kite"]) for number in range(6)]

    def drawn(exchanges, *options):
        return [row["id"] for row in audit(*exchanges, options=("--sample", "2", *options)).rows[:-1]]

    first = drawn(many)
    assert len(first) == 2
    assert drawn(many[::-1]) == first
    assert any(set(drawn(many, "--seed", str(seed))) != set(first) for seed in range(1, 5))


def test_people_read_a_table_and_what_it_means_and_no_text_is_printed(audit):
    parts = [{"type": "text", "text": CONTEXT}, {"type": "image_url", "image_url": {"url": "data:"}}]
    ran = audit(exchange("one", WORKS["well"], parts), as_json=False)
    assert "well" in ran.out
    assert "100.0 %" in ran.out
    assert "same work first: 1.00 over 1 exchanges" in ran.out
    assert "It says nothing of training" in " ".join(ran.out.split())
    assert "observatory" not in ran.out + ran.err


def test_the_key_is_taken_from_the_variable_that_is_named_and_never_shown(audit, backend, monkeypatch):
    monkeypatch.setenv("SCORING_KEY", KEY)
    ran = audit(exchange("one", WORKS["well"]), options=("--key-env", "SCORING_KEY"))
    assert backend.keys == {f"Bearer {KEY}"}
    assert KEY not in ran.out + ran.err
    missing = audit(exchange("one", WORKS["well"]), options=("--key-env", "NO_SUCH_KEY"))
    assert missing.status == 1
    assert "NO_SUCH_KEY" in missing.err


def test_a_bad_line_is_named_with_its_number(audit):
    ran = audit(exchange("one", WORKS["well"]), {"id": "two", "messages": "none", "answer": "x"})
    assert ran.status == 1
    assert "-:2:" in ran.err
    assert "remedy:" in ran.err


def test_without_a_backend_it_is_wrong_usage(tmp_path):
    assert Commands(tmp_path)("audit-causal", fed="").status == 2


def test_exchanges_that_are_kept_of_an_opted_in_app_are_audited_without_a_file(audit, tmp_path):
    ec = Commands(tmp_path / "data")
    ec("keys", "create", "--role", "app", "--name", "shop")
    assert "apps audit on shop" in audit(options=("--app", "shop"), as_json=False).err
    assert ec("apps", "audit", "on", "shop").status == 0
    kept = AuditedExchanges(tmp_path / "data", exchanges_max=9, days=9)
    (app_id,) = (path.name for path in (tmp_path / "data" / "audit-keys").iterdir())
    for name, text in WORKS.items():
        assert kept.put(app_id, Exchange(name, "m", (Message("system", CONTEXT),), text), 0.0)
    ran = audit(options=("--app", "shop", "--sample", "2"))
    assert ran.status == 0, ran.err
    assert ran.rows[-1]["summary"]["exchanges"] == 2
    assert not any(text in ran.out for text in WORKS.values())
    ec("apps", "audit", "off", "shop")
    assert audit(options=("--app", "shop")).status == 1
