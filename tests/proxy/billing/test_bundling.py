import zipfile

import pytest

from proxy.billing.bundling import Bundle, reading, write_bundle
from proxy.billing.proving import Prover
from proxy.errors import NotFound, Problem
from proxy.metering.usage import Line
from proxy.receipts.bundle import check_bundle
from proxy.receipts.issuing import Issuer
from proxy.receipts.verify import Keys, canonical
from tests.books import PRICES, RULES, Bookkeeping


@pytest.fixture
def issuer(engine, tmp_path):
    return Issuer(tmp_path, "credits.example/log", Bookkeeping(engine).clock)


def test_a_period_of_either_engine_is_bundled_and_recomputed_elsewhere(engine, issuer, tmp_path):
    books = Bookkeeping(engine, new=False)
    books.prover = Prover(engine, issuer)
    for work in ("w_0", "w_1", "w_5"):
        books.answer([Line(work, 400_000), Line("w_2", 100_000, "free")])
    books.close("a")
    books.close("b")
    for label, answers in (("a", 3), ("b", 0)):
        target = tmp_path / f"{label}.zip"
        write_bundle(Bundle(engine, issuer, label, RULES, PRICES), target)
        with zipfile.ZipFile(target) as file:
            proven = check_bundle(reading(file), Keys.parse(canonical(issuer.about())))
        assert f"answers: the log holds {answers} receipts of {label}, these and no other" in proven
    with pytest.raises(NotFound, match="no signed manifest"):
        Bundle(engine, issuer, "c", RULES, PRICES)


def test_a_period_after_one_without_a_manifest_is_no_bundle_and_the_next_one_is(engine, issuer, tmp_path):
    books = Bookkeeping(engine, new=False)
    books.answer([Line("w_0", 400_000)])
    books.close("a")
    books.prover = Prover(engine, issuer)
    books.answer([Line("w_1", 400_000)])
    books.close("b")
    books.answer([Line("w_1", 300_000)])
    books.close("c")
    with pytest.raises(NotFound, match="nothing says where it begins"):
        Bundle(engine, issuer, "b", RULES, PRICES)
    write_bundle(Bundle(engine, issuer, "c", RULES, PRICES), tmp_path / "c.zip")
    with zipfile.ZipFile(tmp_path / "c.zip") as file:
        proven = check_bundle(reading(file), Keys.parse(canonical(issuer.about())))
    assert "answers: the log holds 1 receipts of c, these and no other" in proven


def test_a_bundle_that_cannot_be_written_leaves_nothing(engine, issuer, tmp_path):
    books = Bookkeeping(engine, new=False)
    books.prover = Prover(engine, issuer)
    books.close("a")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(Problem, match="cannot be written"):
        write_bundle(Bundle(engine, issuer, "a", RULES, PRICES), tmp_path / "no" / "a.zip")
    assert sorted(tmp_path.iterdir()) == before
