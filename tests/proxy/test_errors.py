from __future__ import annotations

import re

import pytest

from proxy import errors
from proxy.errors import Problem, Unavailable

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Problem)]


def test_a_problem_says_its_cause_and_its_remedy():
    assert str(Problem("the disk is full", remedy="free some space")) == "the disk is full; free some space"
    assert str(Problem("the disk is full")) == "the disk is full"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_has_a_status_and_a_code_that_scripts_can_match(kind):
    problem = kind("cause")
    assert 400 <= problem.status <= 599
    assert re.fullmatch(r"[a-z_]+", problem.code)


def test_one_problem_may_name_a_narrower_code_without_changing_its_kind():
    assert Unavailable("cause", code="store_unavailable").code == "store_unavailable"
    assert Unavailable("cause").code == "unavailable"
    assert Problem("cause", status=418).status == 418
    assert Problem("cause").status == 500
