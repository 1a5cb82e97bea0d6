from proxy.billing.audit_queries_store import BROKEN, COUNTED, HISTORY, INTEGERS, SUMMED
from proxy.billing.invariants import INVARIANTS


def test_every_question_is_about_an_invariant_there_is():
    assert {one[0] for one in (*BROKEN, *COUNTED, *SUMMED)} <= set(INVARIANTS)


def test_what_is_said_of_a_row_names_as_many_columns_as_it_has():
    for _, says, statement in BROKEN:
        columns = statement.replace("\n", " ").split(" FROM ")[0].count(",") + 1
        assert max(number for number in range(9) if "{%d}" % number in says) < columns  # noqa: UP031


def test_nothing_is_listed_twice():
    assert len(set(HISTORY)) == len(HISTORY)
    assert len(set(INTEGERS)) == len(INTEGERS)
