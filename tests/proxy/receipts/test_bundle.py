"""A period's bundle says everything twice, and whatever an auditor finds said in one way only is refused."""

from __future__ import annotations

import json

import pytest

from proxy.billing.bundling import Bundle
from proxy.billing.proving import Prover
from proxy.database import open_engine
from proxy.metering.usage import Line
from proxy.receipts.bundle import PARTS_OF_A_BUNDLE, check_bundle
from proxy.receipts.issuing import Issuer
from proxy.receipts.verify import Invalid, Keys, canonical
from tests.books import PRICES, RULES, Bookkeeping, a_year_of_everything
from tests.stores import lay

ORIGIN = "credits.example/log"
JSON_LINES = {"manifests", "receipts", "changes", "statements", "rules"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Give the bundles of two periods, part by part, and the keys."""
    folder = tmp_path_factory.mktemp("bundle")
    url = f"sqlite:///{folder / 'store.db'}"
    lay(url)
    engine = open_engine(url)
    books = Bookkeeping(engine)
    issuer = Issuer(folder, ORIGIN, books.clock)
    books.prover = Prover(engine, issuer)
    a_year_of_everything(books)
    books.answer([Line("w_0", 5)])  # of the period that is still open
    books.prover.log()
    bundles = {
        label: {
            name: b"".join(pieces) for name, pieces in Bundle(engine, issuer, label, RULES, PRICES).parts()
        }
        for label in ("2026-11", "2026-12")
    }
    engine.dispose()
    return bundles, Keys.parse(canonical(issuer.about()))


def reading(parts):
    def read(part):
        raw = parts[part]
        if part in JSON_LINES:
            return raw.splitlines(keepends=True)
        return [raw[at : at + 100] for at in range(0, len(raw), 100)]

    return read


@pytest.mark.parametrize("label", ["2026-11", "2026-12"])
def test_an_auditor_recomputes_a_period_from_its_receipts(made, label):
    bundles, keys = made
    assert set(bundles[label]) == set(PARTS_OF_A_BUNDLE)
    proven = check_bundle(reading(bundles[label]), keys)
    assert [sentence.split(":")[0] for sentence in proven] == [
        "log", "periods", "answers", "statements", "trees", "works",
    ]  # fmt: skip


def rows(parts, part):
    return parts[part].splitlines(keepends=True)


def changed_row(parts, part, place, change):
    lines = rows(parts, part)
    said = json.loads(lines[place])
    change(said)
    lines[place] = canonical(said) + b"\n"
    return b"".join(lines)


CHANGES = {
    "a receipt left out": lambda p: {"receipts": b"".join(rows(p, "receipts")[1:])},
    "the last receipt left out": lambda p: {"receipts": b"".join(rows(p, "receipts")[:-1])},
    "a receipt twice": lambda p: {"receipts": p["receipts"] + rows(p, "receipts")[-1]},
    "receipts in another order": lambda p: {"receipts": b"".join(reversed(rows(p, "receipts")))},
    "a line's share": lambda p: {
        "receipts": changed_row(p, "receipts", 0, lambda said: said["lines"][0].update(ppm=1))
    },
    "a line's work": lambda p: {
        "receipts": changed_row(p, "receipts", 0, lambda said: said["lines"][0].update(work="w_9"))
    },
    "a line left out": lambda p: {
        "receipts": changed_row(p, "receipts", 0, lambda said: said["lines"].pop())
    },
    "an entry of the log": lambda p: {"entries": p["entries"][:-33] + b"\1" + bytes(32)},
    "an entry left out": lambda p: {"entries": p["entries"][33:]},
    "an entry more": lambda p: {"entries": p["entries"] + b"\1" + bytes(32)},
    "a log cut off": lambda p: {"entries": p["entries"][:-5]},
    "a statement left out": lambda p: {"statements": b"".join(rows(p, "statements")[1:])},
    "a statement twice": lambda p: {"statements": p["statements"] + rows(p, "statements")[0]},
    "an amount of a statement": lambda p: {
        "statements": changed_row(p, "statements", 0, lambda said: said.update(earned_grains=1))
    },
    "a charge": lambda p: {"charges": canonical({**json.loads(p["charges"]), "app_0": 5})},
    "an app left out": lambda p: {"charges": b"{}"},
    "a creator's leaves": lambda p: {"payees": p["payees"][104:]},
    "leaves in another order": lambda p: {"payees": p["payees"][104:] + p["payees"][:104]},
    "an app's leaves": lambda p: {"apps": p["apps"][:-104]},
    "another secret": lambda p: {"secret": bytes(32)},
    "the registry's changes left out": lambda p: {"changes": b""},
    "a batch of changes left out": lambda p: {"changes": b"".join(rows(p, "changes")[1:])},
    "a batch of changes twice": lambda p: {"changes": p["changes"] + rows(p, "changes")[-1]},
    "a batch's first number": lambda p: {
        "changes": changed_row(p, "changes", 0, lambda said: said.update(first=said["first"] + 1))
    },
    "a batch with a change fewer": lambda p: {
        "changes": changed_row(p, "changes", 0, lambda said: said.update(n=said["n"] - 1))
    },
    "another root of a batch": lambda p: {
        "changes": changed_row(p, "changes", 0, lambda said: said.update(root="A" * 43))
    },
    "no manifest": lambda p: {"manifests": b""},
    "the manifest before left out": lambda p: {"manifests": rows(p, "manifests")[-1]},
    "manifests in another order": lambda p: {"manifests": b"".join(reversed(rows(p, "manifests")))},
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_auditor_finds_out_that_was_changed(made, name):
    bundles, keys = made
    parts = bundles["2026-12"]
    with pytest.raises(Invalid):
        check_bundle(reading({**parts, **CHANGES[name](parts)}), keys)


def test_names_that_were_erased_are_told_and_nothing_else_changes(made):
    bundles, keys = made
    parts = bundles["2026-11"]
    erased = {"statements": changed_row(parts, "statements", 0, lambda said: said.update(name=""))}
    assert check_bundle(reading({**parts, **erased}), keys)[-1] == (
        "names: 1 statements bear other names than when they were signed"
    )
