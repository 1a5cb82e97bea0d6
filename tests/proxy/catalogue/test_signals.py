"""Rights signals: a file of each kind is read, with its own words, and what nobody knows is told."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.catalogue.licences import Condition
from proxy.catalogue.signals import AIPREF, CAWG, CONTENT_SIGNAL, FILE_BYTES_MAX, IPTC, reach, read_signals
from proxy.catalogue.works import Use
from proxy.errors import BadRequest

FILES = Path(__file__).parent / "signals"


def read(name):
    return read_signals((FILES / name).read_bytes())


def effects(signal):
    return {term.use.value: term.effect for term in signal.terms}


def test_aipref_is_read_by_path_and_a_rule_for_another_crawler_is_not_for_us():
    everywhere, open_, lab = read("robots-aipref.txt")
    assert everywhere.source == "aipref"
    assert effects(everywhere) == {
        "train_gen": "deny", "train_other": "deny", "finetune": "deny", "search": "allow", "index": "allow",
    }  # fmt: skip
    assert (open_.about, set(effects(open_).values())) == ("/open/", {"allow"})
    assert (lab.about, lab.terms, lab.unread) == ("/lab/", (), ("tea=y", "train-ai=perhaps"))


def test_content_signal_is_read_and_what_is_beside_its_vocabulary_is_told():
    (signal,) = read("robots-content-signal.txt")
    assert signal.source == "content-signal"
    assert effects(signal)["output_influence"] == effects(signal)["ground"] == "deny"
    assert effects(signal)["search"] == "allow"
    assert signal.unread == ("use=reference",)


def test_tdmrep_with_a_policy_is_a_condition_and_without_one_a_denial():
    essays, letters, open_, odd = read("tdmrep.json")
    policy = Condition("see", "https://lamplighters.example/policy.json")
    assert {term.effect for term in essays.terms} == {"constrained"}
    assert {term.ways for term in essays.terms} == {((policy,),)}
    assert set(effects(letters).values()) == {"deny"}
    assert set(effects(open_).values()) == {"allow"}
    assert (odd.terms, odd.unread) == ((), ("tdm-reservation: maybe",))


def test_tdmrep_is_read_from_headers_too():
    (signal,) = read("headers.txt")
    assert signal.source == "tdmrep"
    assert signal.terms[0].ways == ((Condition("see", "https://lamplighters.example/policy.json"),),)


def test_cawg_constrained_without_saying_how_is_not_allowed():
    (signal,) = read("cawg-training-mining.json")
    found = {term.said.partition(":")[0]: term for term in signal.terms}
    assert found["cawg.ai_generative_training"].effect == "deny"
    assert found["cawg.ai_training"].effect == "deny"
    assert found["cawg.ai_inference"].ways == ((Condition("see", "https://lamplighters.example/terms"),),)
    assert found["cawg.data_mining"].effect == "allow"
    assert signal.unread == ("example.lamp_oil: allowed",)


def test_a_bare_map_of_entries_is_read_like_an_assertion():
    (signal,) = read_signals(b'{"entries": {"c2pa.ai_inference": {"use": "notAllowed"}}}')
    assert effects(signal) == {"ground": "deny", "output_influence": "deny"}


def test_iptc_see_constraint_points_to_the_constraint():
    (signal,) = read("photo.xmp")
    assert {term.effect for term in signal.terms} == {"constrained"}
    assert signal.terms[0].ways == ((Condition("see", "Ask the keeper of the lamps."),),)


@pytest.mark.parametrize(
    "packet",
    [
        '<x:xmpmeta><a plus:DataMining="http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED"/></x:xmpmeta>',
        "<x:xmpmeta><plus:DataMining>http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED</plus:DataMining></x:xmpmeta>",
        '<x:xmpmeta><plus:DataMining rdf:resource="http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED"/></x:xmpmeta>',
    ],
)
def test_iptc_is_found_however_the_packet_writes_it(packet):
    (signal,) = read_signals(packet.encode())
    assert effects(signal)["output_influence"] == effects(signal)["search"] == "deny"


def test_every_word_of_every_vocabulary_is_read_into_some_use():
    silent = {"DMI-UNSPECIFIED"}
    for vocabulary in (AIPREF, CONTENT_SIGNAL, CAWG):
        assert all(vocabulary.values())
    assert {key for key, rules in IPTC.items() if not rules} == silent


def test_what_was_said_stays_beside_every_term():
    for file in sorted(FILES.iterdir()):
        for signal in read_signals(file.read_bytes()):
            assert all(term.said for term in signal.terms), file.name


@pytest.mark.parametrize(
    "raw", [b"", b"User-agent: *\nAllow: /\n", b"{}", b"[]", b"<html></html>", b"x" * (FILE_BYTES_MAX + 1)]
)
def test_a_file_without_a_signal_says_what_could_be_given(raw):
    with pytest.raises(BadRequest, match="says nothing of rights") as refused:
        read_signals(raw)
    assert "RSL" in refused.value.remedy


@given(st.binary(max_size=400) | st.text(alphabet='{}[]":,<>=/ntdmrep-ai \n', max_size=200).map(str.encode))
@example(b"[" * 100_000)
@example(b'{"data": 3}')
@example(b'{"entries": {"cawg.x": null}}')
def test_no_bytes_do_more_than_be_read_or_refused(raw):
    try:
        signals = read_signals(raw)
    except BadRequest:
        return
    assert all(term.use in set(Use) for signal in signals for term in signal.terms)


@pytest.mark.parametrize(
    ("about", "url", "covers"),
    [
        ("", "", 0),
        ("/*", "https://a.example/x", 0),
        ("/letters/", "https://a.example/letters/1", 9),
        ("/letters/", "https://a.example/essays/letters/", -1),
        ("/*/1$", "https://a.example/letters/1", 5),
        ("/*/1$", "https://a.example/letters/12", -1),
        ("/letters$", "https://a.example/letters", 9),
        ("https://a.example/*", "https://a.example/x", 19),
        ("https://a.example/*", "https://b.example/x", -1),
        ("/x", "", -1),
        ("/a*a*b", "https://a.example/aab", 6),
    ],
)
def test_a_longer_pattern_covers_more_closely(about, url, covers):
    assert reach(about, url) == covers


def test_a_pattern_of_many_stars_is_no_burden():
    assert reach("/" + "*a" * 100 + "b", "https://a.example/" + "a" * 2_000) == -1
