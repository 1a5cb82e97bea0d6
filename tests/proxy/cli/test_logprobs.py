from __future__ import annotations

import json
import re

import httpx
import pytest
import respx

from proxy.cli.logprobs import Asking, NotScored, open_scoring
from proxy.errors import Problem

ROOT = "http://scoring.test"
KEY = "sk-not-to-be-shown"
SECRET = "the beekeeper's answer"


def cut(text: str) -> list[str]:
    """Return a text's tokens: words with the space before them, and line ends."""
    return re.findall(r"\n|[^\S\n]*\S+|[^\S\n]+", text)


class Fake:
    """A server with one dialect; a word costs its length, less when it stands in what came before."""

    def __init__(self, dialect: str) -> None:
        self.router = respx.MockRouter(assert_all_called=False, assert_all_mocked=False)
        self.words: list[str] = []
        self.change = lambda _path, reply: reply
        self.asked: list[tuple[str, dict]] = []
        if dialect == "echo":
            self.router.post(f"{ROOT}/v1/completions").mock(side_effect=self.completions)
        if dialect == "forced":
            # As llama.cpp does: echo is taken and ignored, logprobs have another shape.
            self.router.post(f"{ROOT}/v1/completions").respond(
                json={
                    "choices": [{"text": "x", "logprobs": {"content": [{"id": 1, "logprob": -1.0}]}}],
                    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
                }
            )
            self.router.post(f"{ROOT}/tokenize").mock(side_effect=self.tokenize)
            self.router.post(f"{ROOT}/completion").mock(side_effect=self.completion)
        self.router.route().respond(404, json={"error": {"type": "not_found", "message": SECRET}})

    def asking(self, url: str = f"{ROOT}/v1", **more) -> Asking:
        return Asking(url, transport=httpx.MockTransport(self.router.handler), **more)

    def reply(self, request: httpx.Request, body) -> httpx.Response:
        changed = self.change(request.url.path, body)
        return changed if isinstance(changed, httpx.Response) else httpx.Response(200, json=changed)

    def cost(self, word: str, before: list[str]) -> float:
        return -0.5 if word.strip() in {one.strip() for one in before} else -float(len(word))

    def completions(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.asked.append((request.url.path, body))
        tokens = cut(body["prompt"])
        choice = {"text": " next"}
        if body.get("echo"):
            choice["logprobs"] = {
                "tokens": [*tokens, " next"],
                "token_logprobs": [
                    None,
                    *(self.cost(t, tokens[:n]) for n, t in enumerate(tokens[1:], 1)),
                    -0.1,
                ],
            }
        usage = {"prompt_tokens": len(tokens), "completion_tokens": 1}
        return self.reply(request, {"choices": [choice], "usage": usage})

    def tokenize(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        fresh = [word for word in cut(body["content"]) if word not in self.words]
        self.words.extend(dict.fromkeys(fresh))
        return self.reply(request, {"tokens": [self.words.index(word) for word in cut(body["content"])]})

    def completion(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.asked.append((request.url.path, body))
        ((token, _bias),) = body["logit_bias"]
        cost = self.cost(self.words[token], [self.words[one] for one in body["prompt"]])
        return self.reply(request, {"completion_probabilities": [{"id": token, "logprob": cost}]})


def every(count: int) -> range:
    return range(count)


@pytest.mark.parametrize("dialect", ["echo", "forced"])
def test_a_dialect_is_found_by_trying_and_gives_the_answers_own_tokens(dialect):
    fake = Fake(dialect)
    scoring = open_scoring(fake.asking())
    assert scoring.dialect == dialect
    found = scoring.score("a bee in the box\n", "the bee hums", every)
    assert len(found.tokens) == 3
    assert found.positions == (0, 1, 2)
    assert found.logprobs[1] == -0.5, "it stands in the prompt"
    assert found.logprobs[2] < -3


def test_forcing_asks_only_for_the_tokens_picked_each_after_those_before_it():
    fake = Fake("forced")
    scoring = open_scoring(fake.asking())
    fake.asked.clear()
    found = scoring.score("p q\n", "a b c d e f", lambda count: range(0, count, 2))
    assert found.positions == (0, 2, 4)
    assert [len(body["prompt"]) for _, body in fake.asked] == [3, 5, 7]
    assert all(body["n_predict"] == 1 and body["samplers"] == [] for _, body in fake.asked)


@pytest.mark.parametrize("url", [ROOT, f"{ROOT}/", f"{ROOT}/v1", f"{ROOT}/v1/"])
def test_the_address_is_taken_with_and_without_v1(url):
    assert open_scoring(Fake("echo").asking(url)).dialect == "echo"


def test_the_model_and_the_key_reach_the_server():
    fake = Fake("echo")
    open_scoring(fake.asking(model="m1", key=KEY))
    assert {body["model"] for _, body in fake.asked} == {"m1"}
    assert fake.router.calls.last.request.headers["authorization"] == f"Bearer {KEY}"


def test_an_address_without_a_scheme_is_refused():
    with pytest.raises(Problem, match="no http://"):
        Asking("localhost:8080")


def test_a_server_with_neither_dialect_is_refused_with_what_it_said_and_a_remedy():
    with pytest.raises(Problem) as refused:
        open_scoring(Fake("neither").asking(key=KEY))
    assert "no log-probabilities of a given text" in refused.value.cause
    assert "404 not_found" in refused.value.cause
    assert "llama.cpp" in refused.value.remedy
    assert SECRET not in str(refused.value)
    assert KEY not in str(refused.value)


def test_a_server_whose_probabilities_are_taken_after_the_bias_is_refused():
    fake = Fake("forced")
    fake.change = lambda path, reply: (
        {"completion_probabilities": [{"id": reply["completion_probabilities"][0]["id"], "logprob": 0.0}]}
        if path == "/completion"
        else reply
    )
    with pytest.raises(Problem, match="certain"):
        open_scoring(fake.asking())


def without_usage(reply):
    return {**reply, "usage": None}


def shorter(reply):
    logprobs = reply["choices"][0].get("logprobs")
    if logprobs:
        logprobs["token_logprobs"] = logprobs["token_logprobs"][-2:]
    return reply


def no_number(reply):
    logprobs = reply["choices"][0].get("logprobs")
    if logprobs:
        logprobs["token_logprobs"][-2] = "NaN"
    return reply


def above_one(reply):
    logprobs = reply["choices"][0].get("logprobs")
    if logprobs:
        logprobs["token_logprobs"][-2] = 0.7
    return reply


@pytest.mark.parametrize(
    ("dialect", "change", "said"),
    [
        ("echo", without_usage, "usage"),
        ("echo", shorter, "log-probabilities for"),
        ("echo", no_number, "no number"),
        ("echo", above_one, "above 0"),
        ("echo", lambda _: {"choices": []}, "usage"),
        ("echo", lambda _: httpx.Response(200, text="<html>"), "no JSON"),
        ("echo", lambda _: httpx.Response(200, json=[]), "no JSON object"),
        ("echo", lambda _: httpx.Response(500, json={"error": {"message": SECRET}}), "500"),
        ("echo", lambda _: httpx.Response(400, json={"error": {"type": "exceed_context"}}), "exceed_context"),
        ("forced", lambda _: {"tokens": "none"}, "token ids"),
        ("forced", lambda _: {"tokens": []}, "no tokens"),
        ("forced", lambda reply: reply if "tokens" in reply else {"content": "x"}, "no log-probability"),
        (
            "forced",
            lambda reply: (
                reply if "tokens" in reply else {"completion_probabilities": [{"id": -1, "logprob": -1}]}
            ),
            "did not follow",
        ),
    ],
)
def test_a_reply_that_does_not_fit_leaves_the_exchange_out_and_never_repeats_its_text(dialect, change, said):
    fake = Fake(dialect)
    scoring = open_scoring(fake.asking())
    fake.change = lambda _path, reply: change(reply)
    with pytest.raises(NotScored, match=said) as refused:
        scoring.score("prompt\n", SECRET, every)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (httpx.ReadTimeout("slow"), NotScored, "in time"),
        (httpx.ReadError("cut"), NotScored, "ReadError"),
        (httpx.ConnectError("refused"), Problem, "no connection"),
        (httpx.ConnectTimeout("gone"), Problem, "no connection"),
    ],
)
def test_a_slow_server_loses_one_exchange_and_an_absent_one_ends_the_audit(error, kind, said):
    fake = Fake("echo")
    scoring = open_scoring(fake.asking())

    def fail(_path, _reply):
        raise error

    fake.change = fail
    with pytest.raises(kind, match=said):
        scoring.score("prompt\n", "answer", every)


def test_a_refused_key_ends_the_audit_with_the_option_that_names_one():
    fake = Fake("echo")
    fake.change = lambda _path, _reply: httpx.Response(401)
    with pytest.raises(Problem) as refused:
        open_scoring(fake.asking(key=KEY))
    assert "--key-env" in refused.value.remedy
    assert KEY not in str(refused.value)


def test_an_endless_reply_is_given_up(monkeypatch):
    monkeypatch.setattr("proxy.cli.logprobs.REPLY_BYTES_MAX", 1_000)
    fake = Fake("echo")
    scoring = open_scoring(fake.asking())
    fake.change = lambda _path, _reply: httpx.Response(200, content=b" " * 2_000)
    with pytest.raises(NotScored, match="longer than"):
        scoring.score("prompt\n", "answer", every)
