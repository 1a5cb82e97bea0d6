import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.policies import (
    Activation,
    Agenda,
    Policy,
    from_text,
    medium_of,
    of_settings,
    read_policy,
)
from proxy.errors import BadRequest
from proxy.settings import Billing, DirectRate, Scheme

HOUSE = b"""
name = "house 2"
scheme = "direct"
rate = "0.004"
schemes = [{scheme = "royalty", app = "app_1", royalty_ppm = 400000}, {scheme = "pool", medium = "picture"}]
rates = [{creator = "c_1", medium = "sound", amount = "0.01"}]
"""


def test_a_policy_is_read_from_a_file_with_the_settings_own_words():
    policy = read_policy(HOUSE)
    assert policy.name == "house 2"
    assert policy.rules.schemes == (
        Scheme(scheme="royalty", app="app_1", royalty_ppm=400_000),
        Scheme(scheme="pool", medium="picture"),
    )
    assert policy.rules.rates == (DirectRate(amount="0.01", creator="c_1", medium="sound"),)


def test_a_policy_is_named_by_what_it_says_and_not_by_how_it_is_written():
    again = read_policy(HOUSE.replace(b'rate = "0.004"\n', b"") + b'rate   = "0.004" # a comment\n')
    assert read_policy(HOUSE).id == again.id
    assert read_policy(HOUSE.replace(b"0.004", b"0.005")).id != again.id
    assert again.id.startswith("pol_")


def test_the_canonical_text_says_every_rule_and_reads_back_as_the_same_policy():
    policy = read_policy(b'name = "short"')
    assert '"unattributed":"common"' in policy.text
    assert "prices_dir" not in policy.text
    assert from_text(policy.text) == policy
    assert from_text(policy.text).id == policy.id


def test_where_price_files_lie_is_no_rule():
    assert of_settings(Billing(prices_dir="/elsewhere")).id == of_settings(Billing()).id


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"name = ", "not TOML"),
        (b"\xff", "not TOML"),
        (b"scheme = 'direct'", "name"),
        (b"name = 'a'\nroyalty_ppm = 0.3", "royalty_ppm"),
        (b"name = 'a'\nroyalty = 3", "royalty"),
        (b"name = 'a'\nprices_dir = '/x'", "no rule"),
        (b"name = 'a'\nschemes = [{scheme = 'pool', medium = 'film'}]", "film"),
        (b"name = 'a'\ncommon_rule = 'to'", "common_to"),
        (b"name = 'a'\ncommon_to = 'c_1'", "common_to"),
        (b"#" * 1_100_000, "bytes"),
        (b"name = 'a'\nrates = [" + b"{amount='1'}," * 10_001 + b"]", "10001 rates"),
    ],
)
def test_rules_that_cannot_be_followed_are_refused_by_name(raw, says):
    with pytest.raises(BadRequest, match=says):
        read_policy(raw)


def named(name):
    return Policy(name=name, rules=Billing())


def test_each_policy_holds_from_its_time_on_and_the_later_word_wins_for_one_time():
    agenda = Agenda(
        named("default"),
        (
            Activation(1, 100, named("a")),
            Activation(2, 300, named("mistake")),
            Activation(3, 200, named("b")),
            Activation(4, 300, named("c")),
        ),
    )
    assert [agenda.at(us).name for us in (0, 99, 100, 199, 200, 299, 300, 10**15)] == [
        "default", "default", "a", "a", "b", "b", "c", "c",
    ]  # fmt: skip
    assert agenda.seq == 4


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from("abcd")), max_size=12), st.integers(0, 60))
def test_what_is_activated_for_later_never_changes_what_held_before(rows, at_us):
    activations = tuple(Activation(n, us, named(name)) for n, (us, name) in enumerate(rows, 1))
    known_then = tuple(one for one in activations if one.effective_from_us <= at_us)
    assert Agenda(named("x"), activations).at(at_us) == Agenda(named("x"), known_then).at(at_us)


def test_an_endpoint_says_which_medium_an_answer_is():
    assert [medium_of(name) for name in ("batch.chat.completions", "batch.images.edits", "audio.speech", "realtime", "")] == [
        "text", "picture", "sound", "sound", "text",
    ]  # fmt: skip
