"""Shares with the registry's word on them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.metering.usage import PPM
from proxy.relay.credits import citations_of, credited, unscored, view_of
from proxy.relay.scored import Evidence, Scored, ScoredWork
from tests import fakes


@st.composite
def scores(draw):
    shares = draw(st.lists(st.integers(min_value=1, max_value=90_000), max_size=10))
    works = tuple(ScoredWork(f"w_{place}", ppm) for place, ppm in enumerate(shares))
    return Scored(unattributed_ppm=PPM - sum(shares), works=works)


@given(scores(), st.sets(st.integers(min_value=0, max_value=9)))
def test_shares_always_sum_to_a_million_whichever_works_were_erased(score, erased):
    def credit_of(work):
        return None if int(work[2:]) in erased else fakes.Credit(work)

    credits_ = credited(score, credit_of, registry_seq=3)
    assert credits_.unattributed_ppm + sum(work.ppm for work in credits_.works) == PPM
    assert not {int(work.work[2:]) for work in credits_.works} & erased
    assert [work.ppm for work in credits_.works] == sorted(
        (work.ppm for work in credits_.works), reverse=True
    )
    record = credits_.record("rct_a")  # the journal's own value refuses what does not sum
    assert (record.id, record.registry_seq) == ("rct_a", 3)


def test_a_prohibited_work_is_listed_and_marked_and_metered_as_such():
    credits_ = credited(fakes.scored(), lambda work: fakes.Credit(work, verdict="prohibited"), registry_seq=1)
    assert credits_.record("rct_a").lines[0].verdict == "prohibited"
    view = view_of("rct_a", credits_, view="body", top=10, choices=1, method="m")
    assert view.works[0].verdict == "prohibited"


def test_an_ordinary_credit_shows_no_verdict_and_top_bounds_the_list():
    score = Scored(unattributed_ppm=0, works=(ScoredWork("w_a", 600_000), ScoredWork("w_b", 400_000)))
    credits_ = credited(score, fakes.Credit, registry_seq=1)
    view = view_of("rct_a", credits_, view="body", top=1, choices=1, method="m")
    assert [(work.work, work.verdict) for work in view.works] == [("w_a", None)]


def test_an_unscored_answer_is_fully_unattributed_and_says_why():
    record = unscored("not_attributed").record("rct_a")
    assert (record.unattributed_ppm, record.reason, record.lines) == (PPM, "not_attributed", ())


def test_citations_point_into_their_choice_and_need_a_url():
    evidence = (Evidence("verbatim", 0, 0, 5, 0.9, 0, 5), Evidence("restated", 1, 7, 9, 0.8, 0, 5))
    score = Scored(
        unattributed_ppm=PPM - 2, works=(ScoredWork("w_a", 1, evidence), ScoredWork("w_b", 1, evidence))
    )
    credits_ = credited(
        score, lambda work: fakes.Credit(work, url="" if work == "w_b" else "https://a"), registry_seq=1
    )
    found = citations_of(credits_, top=10)
    assert {choice: [(c.work, c.url_citation.start_index) for c in entries] for choice, entries in found.items()} == {
        0: [("w_a", 0)], 1: [("w_a", 7)],
    }  # fmt: skip
    assert citations_of(None, top=10) == {}
