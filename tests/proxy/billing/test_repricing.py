"""An operator who prices wrongly, and signs that consistently, is named: receipt, cause and remedy."""

from __future__ import annotations

import hashlib
import json
import shutil

import msgspec
import pytest

from proxy.access.links_store import link_app
from proxy.billing.bundling import Bundle
from proxy.billing.floors import Asked
from proxy.billing.pools_store import Pools
from proxy.billing.prices import PriceTable
from proxy.billing.proving import Prover
from proxy.billing.repricing import Rules, reprice
from proxy.database import open_engine
from proxy.errors import Conflict
from proxy.metering.usage import Line
from proxy.receipts.bundle import ENTRY_BYTES, check_bundle
from proxy.receipts.issuing import Issuer
from proxy.receipts.tree import Subtrees
from proxy.receipts.verify import (
    MANIFEST_TYPE,
    Invalid,
    Keys,
    canonical,
    leaf_hash,
    manifest_entry,
    open_manifest,
)
from proxy.settings import Scheme
from tests.books import DAY_US, NOVEMBER_US, PRICES, RULES, Bookkeeping, a_year_of_everything
from tests.stores import lay

JSON_LINES = {"manifests", "receipts", "changes", "statements", "rules"}
LISTED = PRICES.at(NOVEMBER_US)
PRICE = LISTED.price("demo-writer", 10, 20).grains


class Signed(Bookkeeping):
    """Books of an operator who signs everything, and whose answers are priced by the packaged table."""

    def records(self, lines, *, price_grains=PRICE, version=LISTED.version, **facts):
        used, attributed = super().records(lines, price_grains=price_grains, **facts)
        return msgspec.structs.replace(used, price_version=version), attributed

    def answer(self, lines, *, price_grains=PRICE, **facts):
        super().answer(lines, price_grains=price_grains, **facts)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('books') / 'store.db'}"
    lay(url)
    return url.removeprefix("sqlite:///")


def signing(folder):
    engine = open_engine(f"sqlite:///{folder / 'store.db'}")
    made = Signed(engine)
    made.issuer = Issuer(folder, "credits.example/log", made.clock)
    made.prover = Prover(engine, made.issuer)
    return made


def opened(template, folder):
    shutil.copyfile(template, folder / "store.db")
    made = signing(folder)
    made.split("w_1", [("c_1", 600_001), ("c_2", 399_999)])
    made.answer([Line("w_0", 400_000), Line("w_1", 100_000), Line("w_2", 50_000, "free")])
    made.answer([Line("w_1", 333_333)], app="app_1", day=1)
    return made


@pytest.fixture
def books(template, tmp_path):
    made = opened(template, tmp_path)
    yield made
    made.engine.dispose()


def bundled(books, label="a", rules=RULES, prices=PRICES):
    parts = Bundle(books.engine, books.issuer, label, rules, prices).parts()
    return {name: b"".join(pieces) for name, pieces in parts}


def audited(books, parts):
    def read(part):
        return parts[part].splitlines(keepends=True) if part in JSON_LINES else [parts[part]]

    check_bundle(read, known(books))
    return reprice(read, known(books))


def known(books):
    return Keys.parse(canonical(books.issuer.about()))


PROVEN = "prices: 2 receipts and 6 lines agree, priced again by the signed rules"


def signed_anew(books, parts, change):
    """A bundle whose operator signs and logs a manifest that was changed, as only the operator can."""
    *earlier, last = parts["manifests"].splitlines()
    said, payload = open_manifest(json.loads(last)["manifest"], known(books))
    said = change(said)
    signer = books.issuer.signer
    entries = parts["entries"].replace(manifest_entry(payload), manifest_entry(canonical(said)))
    tree = Subtrees()
    for at in range(0, len(entries), ENTRY_BYTES):
        list(tree.append(leaf_hash(entries[at : at + ENTRY_BYTES])))
    manifest = canonical({"manifest": signer.jws(canonical(said), MANIFEST_TYPE)})
    return {
        **parts,
        "entries": entries,
        "manifests": b"".join(one + b"\n" for one in [*earlier, manifest]),
        "checkpoint": signer.checkpoint(tree.size, tree.root()).encode(),
    }


def with_rules(parts, change):
    """The same bundle with other rules. change: alters (the first line, {work: its row})."""
    head, *rows = map(json.loads, parts["rules"].splitlines())
    splits = {row["work"]: row for row in rows}
    change(head, splits)
    return {**parts, "rules": b"".join(canonical(one) + b"\n" for one in [head, *splits.values()])}


def test_what_was_priced_by_its_own_rules_is_proven_to_the_grain(books):
    books.claim("w_1", "c_3")
    books.close("a")
    found = audited(books, bundled(books))
    assert not found.findings
    assert found.proven == [PROVEN]


def test_direct_rates_floors_and_own_apps_are_priced_again(books):
    link_app(books.engine, "app_1", "c_1", clock=books.clock)
    rules = msgspec.structs.replace(RULES, scheme="direct", rate="0.002")
    books.answer([Line("w_1", 333_333), Line("w_3", 7)], app="app_1", day=2)
    books.close("a", rules)
    found = audited(books, bundled(books, rules=rules))
    assert not found.findings
    assert found.proven == ["prices: 3 receipts and 9 lines agree, priced again by the signed rules"]


def test_lines_of_a_pool_are_said_not_to_be_priced_again(books):
    """Whom a pool pays depends on who asked, and no receipt says who."""
    rules = msgspec.structs.replace(RULES, schemes=[Scheme(app="app_1", scheme="pool")])
    ada, bob = (
        Pools(books.engine, clock=books.clock, ids=books.ids, by=name, currency="USD")
        for name in ("ada", "bob")
    )
    bob.decide(ada.declare("app_1", "a", "20", users=4).id, "approved")
    books.close("a", rules)
    found = audited(books, bundled(books, rules=rules))
    assert not found.findings
    assert found.proven == [
        "prices: 2 receipts and 2 lines agree, priced again by the signed rules",
        "prices: 4 lines NOT priced again (pools, and what claims let go)",
    ]


def test_claims_releases_resplits_and_unclaimed_works_are_priced_again(template, tmp_path):
    shutil.copyfile(template, tmp_path / "store.db")
    books = signing(tmp_path)
    a_year_of_everything(books, paid=False)  # a table's prices are too small to pay out
    for label, skipped in (("2026-11", 0), ("2026-12", 1)):
        found = audited(books, bundled(books, label))
        assert not found.findings
        assert len(found.proven) == 1 + skipped
    books.engine.dispose()


def test_a_pool_that_nobody_used_is_no_difference(books):
    ada, bob = (
        Pools(books.engine, clock=books.clock, ids=books.ids, by=name, currency="USD")
        for name in ("ada", "bob")
    )
    rules = msgspec.structs.replace(RULES, schemes=[Scheme(app="app_0", scheme="pool")])
    books.close("a")
    bob.decide(ada.declare("app_0", "b", "20", users=4).id, "approved")
    books.answer([Line("w_1", 333_333)], app="app_1", day=2)
    books.close("b", rules)
    assert not audited(books, bundled(books, "b", rules=rules)).findings


WRONG_RECEIPTS = {
    "a grain less than the table says": ({"price_grains": PRICE - 1}, "costs"),
    "twice what the table says": ({"price_grains": 2 * PRICE}, "costs"),
    "nothing": ({"price_grains": 0}, "costs"),
    "another table": ({"version": "2020-01-01@deadbeef"}, "was in force"),
    "no table": ({"version": ""}, "was in force"),
}


@pytest.mark.parametrize("name", WRONG_RECEIPTS)
def test_a_price_that_was_signed_wrongly_and_consistently_names_its_receipt(books, name):
    facts, why = WRONG_RECEIPTS[name]
    facts = {"price_grains": PRICE, **facts}
    books.carry(books.records([Line("w_3", 1_000)], **facts))
    books.close("a")
    found = audited(books, bundled(books))
    (one,) = found.findings
    assert one.what == f"rct_{books.number:026d}"
    assert why in one.cause
    assert one.remedy
    assert not found.proven


def royalty(head, _):
    said = json.loads(head["default"])
    said["rules"]["royalty_ppm"] += 1
    head["default"] = canonical(said).decode()


def named(head, _):
    said = json.loads(head["default"])
    head["default"] = canonical({**said, "name": "another"}).decode()


def swapped_price(head, _):
    head["prices"] = [one.replace('per_million = "', 'per_million = "1') for one in head["prices"]]


OTHER_RULES = {
    "another royalty": royalty,
    "a policy of another name": named,
    "a swapped price file": swapped_price,
    "no price file": lambda head, _: head.update(prices=[]),
    "a price file twice": lambda head, _: head.update(prices=head["prices"] * 2),
    "a policy activated": lambda head, _: head.update(activations=[[1, 0, head["default"]]]),
    "another number of policies": lambda head, _: head.update(policy_seq=1),
    "a change of the registry dropped": lambda head, _: head.update(registry_seq=head["registry_seq"] - 1),
    "a floor": lambda head, _: head.update(floors={"w_0": [[0, 10**15]]}),
    "somebody's own app": lambda head, _: head.update(links={"app_0": [[0, "c_0"]]}),
    "a creator's floor": lambda head, splits: (
        head.update(floors={"c_9": [[0, 10**15]]}),
        splits["w_0"].update(owner="c_9"),
    ),
    "another version of a split": lambda _, splits: splits["w_1"].update(version=9),
    "other parties of a split": lambda _, splits: splits["w_1"].update(
        parties=[["c_1", 600_000], ["c_2", 400_000]]
    ),
    "a split that gives more than everything": lambda _, splits: splits["w_1"].update(
        parties=[["c_1", 600_001], ["c_2", 400_000]]
    ),
    "a split left out": lambda _, splits: splits.pop("w_1"),
    "somebody else's work": lambda _, splits: splits["w_0"].update(parties=[["c_3", 1_000_000]]),
    "a claim": lambda _, splits: splits["w_0"].update(claimed=1),
}


@pytest.fixture(scope="module")
def closed(template, tmp_path_factory):
    """Give books with a closed period, and its bundle: the changes below need no other."""
    made = opened(template, tmp_path_factory.mktemp("closed"))
    made.close("a")
    yield made, bundled(made)
    made.engine.dispose()


@pytest.mark.parametrize("name", OTHER_RULES)
def test_rules_that_do_not_make_what_was_paid_are_found_out_however_they_are_signed(closed, name):
    books, parts = closed
    parts = with_rules(parts, OTHER_RULES[name])
    with pytest.raises(Invalid, match="the rules are not"):
        audited(books, parts)
    digest = hashlib.sha256(parts["rules"]).hexdigest()
    try:
        found = audited(books, signed_anew(books, parts, lambda said: {**said, "rules": digest}))
    except Invalid:
        return
    assert found.findings
    assert not found.proven


def test_a_line_that_differs_names_what_it_says_and_the_receipts_behind_it(closed):
    books, parts = closed
    parts = with_rules(parts, OTHER_RULES["another royalty"])
    digest = hashlib.sha256(parts["rules"]).hexdigest()
    with pytest.raises(Invalid, match="paid by the policy"):
        audited(books, signed_anew(books, parts, lambda said: {**said, "rules": digest}))
    parts = with_rules(closed[1], OTHER_RULES["other parties of a split"])
    digest = hashlib.sha256(parts["rules"]).hexdigest()
    found = audited(books, signed_anew(books, parts, lambda said: {**said, "rules": digest}))
    texts = [one.text for one in found.findings]
    assert any("w_1 in app_0" in one and "split_ppm 600001 and not 600000" in one for one in texts)
    assert any(f"its receipts: rct_{1:026d}" in one for one in texts)


def test_a_work_that_was_registered_since_changes_nothing_of_a_periods_rules():
    asked = Asked(floors={"c_1": ((1, 5),)}, owners={"w_1": "c_1"})
    later = Asked(floors=asked.floors, owners={"w_1": "c_1", "w_9": "c_1"})
    first, again = (Rules(1, 0, "{}", asked=one).digest(["w_1"], {}, frozenset()) for one in (asked, later))
    assert first == again != Rules(1, 0, "{}").digest(["w_1"], {}, frozenset())


def test_rules_that_were_left_out_are_missed(closed):
    books, parts = closed
    with pytest.raises(Invalid, match="manifest names are not here"):
        audited(books, {name: raw for name, raw in parts.items() if name != "rules"})


def test_a_bundle_of_before_is_plainly_said_not_to_be_priced_again(closed):
    books, parts = closed
    older = signed_anew(books, parts, lambda said: {key: said[key] for key in said if key != "rules"})
    found = audited(books, {name: raw for name, raw in older.items() if name != "rules"})
    assert not found.findings
    assert found.proven == ["prices: NOT priced again: the manifest of a does not name what it was priced by"]


def test_settings_that_changed_since_the_close_are_refused_when_it_is_bundled(closed):
    books, _ = closed
    other = msgspec.structs.replace(RULES, royalty_ppm=RULES.royalty_ppm + 1)
    with pytest.raises(Conflict, match="other rules or price files"):
        bundled(books, rules=other)


# The packaged table, and from the third day of the books on another, by image and second too.
BY_MEDIA = """version = "media"
currency = "USD"
effective_from = 2026-11-03
[[models]]
pattern = "demo-*"
input_per_million = "0.50"
per_image = "0.04"
per_second = "0.0006"
"""
LATER = PriceTable.parse([PRICES.lists[0].text, BY_MEDIA])
MEDIA = LATER.at(NOVEMBER_US + 5 * DAY_US)
MADE = {
    "images": {"images": 2},
    "a video": {"milliseconds": 8_471},
    "both": {"images": 1, "milliseconds": 1},
    "neither": {},
}


def with_media(books, counted, **told):
    """Give an answer that is priced by what was counted, and says what it is told to."""
    price = MEDIA.price("demo-painter", 11, 0, counted.get("images", 0), counted.get("milliseconds", 0))
    used, attributed = books.records(
        [Line("w_1", 500_000)], price_grains=price.grains, version=MEDIA.version, day=5
    )
    facts = {"model": "demo-painter", "input_tokens": 11, "output_tokens": 0, **counted, **told}
    books.carry([msgspec.structs.replace(used, **facts), attributed])
    books.close("a", prices=LATER)
    return audited(books, bundled(books, prices=LATER))


@pytest.mark.parametrize("name", MADE)
def test_images_and_time_are_priced_again_from_the_receipt_alone(books, name):
    found = with_media(books, MADE[name])
    assert not found.findings
    assert found.proven == ["prices: 3 receipts and 8 lines agree, priced again by the signed rules"]


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"images": 1}, "for 11 tokens in and 0 out, 1 images"),
        ({"images": 3}, "3 images"),
        ({"images": 0}, "for 11 tokens in and 0 out"),
        ({"images": 2, "milliseconds": 1}, "2 images, 1 ms of sound or video"),
        ({"images": 0, "milliseconds": 2}, "out, 2 ms of sound or video"),
    ],
)
def test_a_receipt_that_says_other_images_or_time_than_it_was_priced_by_is_found(books, told, says):
    found = with_media(books, {"images": 2}, **told)
    (one,) = found.findings
    assert one.what == f"rct_{books.number:026d}"
    assert one.cause.endswith(says)
    assert not found.proven
