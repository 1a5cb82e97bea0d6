"""A page that closes a period asks a child, and says what the child was refused."""

from __future__ import annotations

import pytest

from proxy.errors import BadRequest, Problem, Unavailable
from proxy.portal.closing import Closer, answer_of
from proxy.settings import Settings

pytestmark = pytest.mark.anyio


def test_what_a_child_was_refused_is_refused_here_with_the_same_words():
    said = b'{"error": {"cause": "no price", "remedy": "add one", "code": "unpriced_models", "status": 409}}'
    with pytest.raises(Problem) as refused:
        answer_of(said)
    told = refused.value
    assert (told.cause, told.remedy, told.code, told.status) == (
        "no price",
        "add one",
        "unpriced_models",
        409,
    )


@pytest.mark.parametrize("said", [b"", b"Traceback", b"[1]"])
def test_a_child_that_broke_is_no_answer(said):
    with pytest.raises(Unavailable):
        answer_of(said)


async def test_one_period_is_closed_at_a_time_and_no_label_is_an_option(tmp_path):
    closer = Closer(Settings(data_dir=tmp_path))
    for label in ("", "--help", "\n", "ü"):
        with pytest.raises(BadRequest):
            await closer.close(label, dry_run=True)
    async with closer._one:
        with pytest.raises(Unavailable):
            await closer.close("2026-11", dry_run=True)
