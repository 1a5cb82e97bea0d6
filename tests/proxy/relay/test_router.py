"""Which backend gets the request."""

from __future__ import annotations

from proxy.relay.router import FAILURES_MAX, SHUNNED_US, choose, observe
from proxy.settings import Backend

A = Backend(name="a", models=("gpt-*", "o?"))
B = Backend(name="b", models=("*",))
C = Backend(name="c", models=("llama",))


def names(backends):
    return [backend.name for backend in backends]


def test_the_first_backend_whose_patterns_match_comes_first():
    assert names(choose("gpt-9", (A, B, C))) == ["a", "b"]
    assert names(choose("llama", (A, B, C))) == ["b", "c"]
    assert names(choose("o3", (A, C))) == ["a"]


def test_patterns_tell_upper_from_lower_case():
    assert choose("GPT-9", (A, C)) == ()


def test_a_request_without_a_model_may_go_anywhere():
    assert names(choose(None, (A, B, C))) == ["a", "b", "c"]


def failing(name, times, now_us=0):
    health = {}
    for _ in range(times):
        health = observe(health, name, connected=False, now_us=now_us)
    return health


def test_a_backend_that_cannot_be_reached_again_and_again_is_tried_last_for_a_while():
    assert names(choose("gpt-9", (A, B), failing("a", FAILURES_MAX - 1), now_us=1)) == ["a", "b"]
    shunned = failing("a", FAILURES_MAX)
    assert names(choose("gpt-9", (A, B), shunned, now_us=1)) == ["b", "a"]
    assert names(choose("gpt-9", (A, B), shunned, now_us=SHUNNED_US)) == ["a", "b"]


def test_one_connection_makes_a_backend_well_again():
    assert observe(failing("a", 9), "a", connected=True, now_us=1) == {}


def test_observing_never_changes_what_was_known():
    before = failing("a", 1)
    observe(before, "a", connected=False, now_us=5)
    assert before["a"].failures == 1
