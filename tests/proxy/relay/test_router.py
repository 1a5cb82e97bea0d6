"""Which backend gets the request, which one next, and which one none for a while."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.router import (
    REST_MS_MAX,
    TRIAL_US_MAX,
    Failure,
    Health,
    began,
    choose,
    failed,
    next_attempt,
    retry_after_ms,
    unheard,
    worked,
)
from proxy.settings import Backend, Routing

A = Backend(name="a", models=("gpt-*", "o?"))
B = Backend(name="b", models=("*",))
C = Backend(name="c", models=("llama",))
POLICY = Routing(circuit_failures=3, circuit_ms=1_000, circuit_ms_max=4_000)
REFUSED = Failure("connect")
SECOND_US = 1_000_000


def names(choice):
    return [route.backend.name for route in choice.routes]


def test_the_first_backend_whose_patterns_match_comes_first():
    assert names(choose("gpt-9", (A, B, C))) == ["a", "b"]
    assert names(choose("llama", (A, B, C))) == ["b", "c"]
    assert names(choose("o3", (A, C))) == ["a"]


def test_patterns_tell_upper_from_lower_case():
    assert choose("GPT-9", (A, C)).routes == ()


def test_a_request_without_a_model_may_go_anywhere():
    choice = choose(None, (A, B, C))
    assert names(choice) == ["a", "b", "c"]
    assert {route.model for route in choice.routes} == {None}


def test_an_alias_is_served_and_called_by_the_backends_own_name():
    backend = Backend(name="d", models=("llama",), aliases={"small": "llama-3.2-1b"})
    (route,) = choose("small", (A, backend)).routes
    assert (route.model, route.is_alias) == ("llama-3.2-1b", True)
    (plain,) = choose("llama", (A, backend)).routes
    assert (plain.model, plain.is_alias) == ("llama", False)


def weighted(**weights):
    return tuple(Backend(name=name, weight=weight) for name, weight in weights.items())


def test_the_same_id_always_draws_the_same_order():
    backends = weighted(x=1, y=2, z=3)
    orders = {tuple(names(choose("m", backends, draw="rct_1"))) for _ in range(5)}
    assert len(orders) == 1


def test_traffic_is_shared_by_weight():
    backends = weighted(x=1, y=3)
    firsts = [names(choose("m", backends, draw=f"rct_{n}"))[0] for n in range(2_000)]
    assert 400 < firsts.count("x") < 600


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.text(max_size=8))
def test_every_able_backend_is_in_the_order_once_and_those_without_weight_come_last_as_written(weights, draw):
    backends = tuple(Backend(name=str(place), weight=weight) for place, weight in enumerate(weights))
    order = names(choose("m", backends, draw=draw))
    assert sorted(order) == sorted(backend.name for backend in backends)
    unweighted = [backend.name for backend in backends if not backend.weight]
    assert order[len(order) - len(unweighted) :] == unweighted


def failing(times, now_us=SECOND_US, failure=REFUSED, health=None):
    health = health or {}
    for _ in range(times):
        health = failed(health, "b", failure, POLICY, now_us=now_us)
    return health


def test_a_backend_that_fails_again_and_again_is_left_alone():
    assert names(choose("m", (B,), failing(2), now_us=SECOND_US)) == ["b"]
    choice = choose("m", (B,), failing(3), now_us=SECOND_US)
    assert (choice.routes, choice.opens_us) == ((), 2 * SECOND_US)


def test_the_others_go_on_while_one_is_left_alone():
    assert names(choose("gpt-9", (B, A), failing(3), now_us=SECOND_US)) == ["a"]


def test_a_model_nobody_serves_is_told_from_backends_that_are_left_alone():
    assert choose("gpt-9", (C,)).opens_us == 0


def test_after_the_pause_one_request_tries_and_the_others_wait_for_it():
    health = failing(3)
    after_us = 2 * SECOND_US
    assert names(choose("m", (B,), health, now_us=after_us)) == ["b"]
    trying = began(health, "b", now_us=after_us)
    assert choose("m", (B,), trying, now_us=after_us).routes == ()
    assert names(choose("m", (B,), worked(trying, "b"), now_us=after_us)) == ["b"]


def test_a_trial_that_is_never_heard_of_again_stands_in_nobodys_way():
    trying = began(failing(3), "b", now_us=2 * SECOND_US)
    assert names(choose("m", (B,), trying, now_us=2 * SECOND_US + TRIAL_US_MAX)) == ["b"]


def test_each_failed_trial_doubles_the_pause_up_to_its_bound():
    health, now_us, pauses = failing(3), SECOND_US, []
    for _ in range(4):
        pauses.append(health["b"].open_until_us - now_us)
        now_us = health["b"].open_until_us
        health = failing(1, now_us, health=began(health, "b", now_us=now_us))
    assert [pause_us // SECOND_US for pause_us in pauses] == [1, 2, 4, 4]


def test_many_that_fail_together_open_the_circuit_once():
    assert failing(50)["b"].pauses == 1


def test_a_trial_whose_client_left_makes_room_for_the_next_and_changes_nothing_else():
    broken = {"a": Health(failures=3, pauses=1, open_until_us=5, trial_us=10)}
    after = unheard(broken, "a")
    assert after == {"a": Health(failures=3, pauses=1, open_until_us=5)}
    assert after["a"].state(20) == "half_open"
    assert unheard({}, "a") == {}


def test_one_answer_makes_a_backend_well_again():
    assert worked(failing(9), "b") == {}


def test_no_circuit_opens_when_the_operator_wants_none():
    health = {}
    for _ in range(50):
        health = failed(health, "b", REFUSED, Routing(circuit_failures=0), now_us=0)
    assert health["b"].state(0) == "closed"


def test_a_busy_backend_is_asked_last_until_its_time_and_opens_no_circuit():
    busy = failing(9, failure=Failure("refused", 429, 2_000))
    assert busy["b"].state(SECOND_US) == "closed"
    assert names(choose("gpt-9", (B, A), busy, now_us=SECOND_US)) == ["a", "b"]
    assert names(choose("gpt-9", (B, A), busy, now_us=3 * SECOND_US)) == ["b", "a"]


def test_a_backend_that_asks_for_an_hour_is_asked_again_in_a_minute():
    busy = failing(1, failure=Failure("refused", 429, 3_600_000))
    assert busy["b"].rests_until_us - SECOND_US == REST_MS_MAX * 1_000


def test_observing_never_changes_what_was_known():
    before = failing(1)
    failing(1, health=before)
    assert before["b"] == Health(failures=1)


def routes(*backends):
    return choose("m", backends or (B, Backend(name="e"))).routes


@pytest.mark.parametrize("failure", [REFUSED, Failure("refused", 429), Failure("refused", 503)])
def test_what_cost_nothing_is_tried_at_the_next_backend(failure):
    found = next_attempt(routes(), [failure], Routing())
    assert found is not None
    assert (found[0].backend.name, found[1]) == ("e", 0)


@pytest.mark.parametrize(
    "failure", [Failure("timeout"), Failure("cut"), Failure("protocol"), Failure("refused", 500)]
)
def test_what_may_have_cost_is_never_repeated(failure):
    assert next_attempt(routes(), [failure], Routing()) is None


def test_the_same_backend_is_asked_again_only_when_it_said_when_and_that_is_soon():
    policy = Routing(retry_after_ms=500, attempts_max=3)
    soon, late = Failure("refused", 503, 400), Failure("refused", 503, 600)
    found = next_attempt(routes(B), [soon], policy)
    assert found is not None
    assert (found[0].backend.name, found[1]) == ("b", 400)
    assert next_attempt(routes(B), [late], policy) is None
    assert next_attempt(routes(B), [Failure("refused", 503)], policy) is None
    assert next_attempt(routes(B), [REFUSED], policy) is None


def test_attempts_are_bounded():
    many = routes(*(Backend(name=str(n)) for n in range(9)))
    assert next_attempt(many, [REFUSED] * 2, Routing(attempts_max=3)) is not None
    assert next_attempt(many, [REFUSED] * 3, Routing(attempts_max=3)) is None


@pytest.mark.parametrize(
    ("value", "wait_ms"),
    [
        (b"2", 2_000), (b" 0 ", 0), (b"", None), (b"soon", None), (b"-1", None), (b"99999999999", None),
        (b"Thu, 01 Jan 1970 00:00:10 GMT", 9_000), (b"Thu, 01 Jan 1970 00:00:00 GMT", 0), ("²".encode("latin-1"), None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value, wait_ms):
    assert retry_after_ms([(b"Retry-After", value)], now_us=SECOND_US) == wait_ms


def test_retry_after_in_milliseconds_wins():
    assert retry_after_ms([(b"retry-after", b"9"), (b"Retry-After-Ms", b"40")], now_us=0) == 40


def test_no_retry_after_is_no_wait():
    assert retry_after_ms([], now_us=0) is None
