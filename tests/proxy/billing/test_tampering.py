"""What an operator could do to a period after the fact, and that a creator or an app finds out, each time.

One real period, closed and signed; then every file is changed in one way, often by somebody who holds the
signing key and makes all signatures anew. Nothing here asks the operator's store.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from proxy.billing.proving import Prover
from proxy.billing.store import load_closing
from proxy.database import open_engine
from proxy.receipts import store
from proxy.receipts.issuing import Issuer
from proxy.receipts.manifest import leaves_object, statement_commitment
from proxy.receipts.signing import Signer, SigningKey, proof_file
from proxy.receipts.sums import SumTree
from proxy.receipts.tree import Subtrees, consistency_path, inclusion_path
from proxy.receipts.verify import (
    MANIFEST_TYPE,
    Invalid,
    Keys,
    canonical,
    check_consistency,
    check_file,
    check_next,
    commitment,
    from_b64url,
    leaf_hash,
    manifest_entry,
    open_checkpoint,
    open_manifest,
    sum_node,
    without_texts,
)
from tests.books import Bookkeeping, a_year_of_everything
from tests.stores import lay

ORIGIN = "credits.example/log"
OTHER_KEY = SigningKey(hashlib.sha256(b"another operator").digest(), 1)


@dataclass(frozen=True)
class Shown:
    """What one creator and one app saved: their files, the keys, a checkpoint, the manifest before."""

    creator: str
    other: str
    statement: dict[str, Any]
    neighbour: dict[str, Any]
    earlier: dict[str, Any]
    charge: dict[str, Any]
    keys: Keys
    checkpoint: str  # kept before this period was closed
    growth: list[bytes]
    engine: sa.Engine
    signer: Signer


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tampering")
    url = f"sqlite:///{folder / 'store.db'}"
    lay(url)
    engine = open_engine(url)
    books = Bookkeeping(engine)
    issuer = Issuer(folder, ORIGIN, books.clock)
    books.prover = prover = Prover(engine, issuer)
    kept: list[store.State] = []
    close = books.close

    def closing(label):
        made = close(label)
        kept.append(store.read_state(engine))
        return made

    books.close = closing
    a_year_of_everything(books)
    files = {}
    for label in ("2026-11", "2026-12"):
        for one in load_closing(engine, label).statements:
            files[label, one.creator] = json.loads(prover.statement_file(one))
    closed = load_closing(engine, "2026-11")
    app, grains = max(closed.charged_by_app.items(), key=lambda one: one[1])
    charge = prover.charge_file("2026-11", app, "USD", closed.closed_us, grains)
    size = store.read_state(engine).size
    rich = [
        creator
        for (label, creator), file in files.items()
        if label == "2026-12" and "moves" in file["statement"] and len(file["statement"]["lines"]) > 1
    ]
    other = next(creator for label, creator in files if label == "2026-12" and creator != rich[0])
    yield Shown(
        creator=rich[0],
        other=other,
        statement=files["2026-12", rich[0]],
        neighbour=files["2026-12", other],
        earlier=files["2026-11", rich[0]],
        charge=json.loads(charge),
        keys=Keys.parse(canonical(issuer.about())),
        checkpoint=issuer.signer.checkpoint(kept[0].size, kept[0].root),
        growth=consistency_path(kept[0].size, size, store.nodes(engine, size)),
        engine=engine,
        signer=issuer.signer,
    )
    engine.dispose()


# What a creator does with her file: all of it, every time.


def checks(shown: Shown, file: dict[str, Any]) -> None:
    """Check a file as its holder does: itself, that the log grew out of the one she knew, and the chain."""
    check_file(canonical(file), shown.keys)
    if "statement" in file:
        if file["statement"]["creator"] != shown.creator:
            raise Invalid("it is not hers")
        if file["statement"]["period"] == "2026-12":
            check_next(shown.earlier["manifest"], file["manifest"], shown.keys)
            if file["statement"]["opening_grains"] != shown.earlier["statement"]["closing_grains"]:
                raise Invalid("it does not begin with what the one before ended with")
    older = open_checkpoint(shown.checkpoint, shown.keys.notes, ORIGIN)
    newer = open_checkpoint(file["proof"].partition("\n\n")[2], shown.keys.notes, ORIGIN)
    check_consistency(older.size, older.root, newer.size, newer.root, shown.growth)


def test_what_nobody_changed_holds(shown):
    checks(shown, shown.statement)
    checks(shown, shown.charge)


# An operator who changes what is shown, and keeps the books.


def add(file, path, by):
    *way, last = path.split("/")
    at = file
    for one in way:
        at = at[int(one)] if isinstance(at, list) else at[one]
    at[int(last) if isinstance(at, list) else last] += by


def consistently(file, line_by):
    """Change a line and everything that is added up of it, so that the statement adds up again."""
    said = without_texts(file["statement"])
    said["lines"][0]["net_grains"] += line_by
    said["earned_grains"] += line_by
    said["closing_grains"] += line_by
    said["lines_sha256"] = hashlib.sha256(canonical(said["lines"])).hexdigest()
    file["statement"] = said


def dropped(file, place):
    said = without_texts(file["statement"])
    gone = said["lines"].pop(place)["net_grains"]
    said["earned_grains"] -= gone
    said["closing_grains"] -= gone
    said["lines_sha256"] = hashlib.sha256(canonical(said["lines"])).hexdigest()
    file["statement"] = said


def swapped(file, here, there):
    at = file["statement"]["lines"]
    at[here], at[there] = at[there], at[here]


def rehashed(file):
    said = file["statement"]
    said["lines_sha256"] = hashlib.sha256(canonical(without_texts(said)["lines"])).hexdigest()


AS_SHOWN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a line's amount": lambda file: add(file, "statement/lines/0/net_grains", -1),
    "a line's amount for eyes": lambda file: file["statement"]["lines"][0].update(net="99.00"),
    "what was earned": lambda file: add(file, "statement/earned_grains", -1),
    "what was earned, for eyes": lambda file: file["statement"].update(earned="99.00"),
    "a line and all sums of it": lambda file: consistently(file, -7),
    "a line left out": lambda file: dropped(file, 0),
    "the last line left out": lambda file: dropped(file, -1),
    "lines in another order": lambda file: swapped(file, 0, -1),
    "lines in another order, hashed anew": lambda file: (swapped(file, 0, -1), rehashed(file)),
    "a line's answers": lambda file: add(file, "statement/lines/0/answers", -1),
    "a line's answers, hashed anew": lambda file: (
        add(file, "statement/lines/0/answers", -1),
        rehashed(file),
    ),
    "a line's work": lambda file: file["statement"]["lines"][0].update(work="w_9"),
    "a line's app": lambda file: file["statement"]["lines"][0].update(app="app_1"),
    "a line's day": lambda file: file["statement"]["lines"][0].update(day="2026-12-24"),
    "her part of the split": lambda file: add(file, "statement/lines/0/split_ppm", 1),
    "her name": lambda file: file["statement"].update(name="somebody else"),
    "an app's name": lambda file: file["statement"]["app_names"].update(app_0="another"),
    "whose it is": lambda file: file["statement"].update(creator="c_9"),
    "its period": lambda file: file["statement"].update(period="2026-11"),
    "its currency": lambda file: file["statement"].update(currency="EUR"),
    "its opening": lambda file: add(file, "statement/opening_grains", -1),
    "its opening and closing": lambda file: (
        add(file, "statement/opening_grains", -1),
        add(file, "statement/closing_grains", -1),
    ),
    "a movement": lambda file: add(file, "statement/moves/0/grains", -1),
    "a movement left out": lambda file: file["statement"]["moves"].pop(),
    "when it was closed": lambda file: add(file, "statement/closed_us", 1),
    "its rules": lambda file: add(file, "statement/basis/royalty_ppm", -1),
    "its bounds": lambda file: add(file, "statement/basis/end_bounds/shd_a", -1),
    "its totals": lambda file: add(file, "statement/totals/platform_grains", 1),
    "what is nobody's": lambda file: add(file, "statement/totals/unattributed_ppm_sum", 1),
    "its format": lambda file: file["statement"].update(format="endcredits-statement/2"),
    "a leaf's amount": lambda file: add(file, "leaves/0/grains", 1),
    "two leaves' amounts": lambda file: (add(file, "leaves/0/grains", 1), add(file, "leaves/1/grains", -1)),
    "a leaf left out": lambda file: file["leaves"].pop(),
    "a leaf twice": lambda file: file["leaves"].__setitem__(1, file["leaves"][0]),
    "a leaf's place": lambda file: add(file, "leaves/2/index", 1),
    "a leaf's nonce": lambda file: file["leaves"][0].update(nonce=file["leaves"][1]["nonce"]),
    "a neighbour's sum": lambda file: add(file, "leaves/0/path/0/grains", 5),
    "a neighbour with a negative sum": lambda file: file["leaves"][0]["path"][0].update(grains=-1),
    "a neighbour's keys": lambda file: file["leaves"][0]["path"][1].update(
        first=file["leaves"][0]["path"][1]["last"]
    ),
    "the way left out": lambda file: file["leaves"][0]["path"].pop(),
    "the way longer": lambda file: file["leaves"][0]["path"].append(file["leaves"][0]["path"][-1]),
    "no proof": lambda file: file.pop("proof"),
    "no manifest": lambda file: file.pop("manifest"),
    "no leaves": lambda file: file.pop("leaves"),
}


@pytest.mark.parametrize("name", AS_SHOWN)
def test_a_creator_finds_out_that_was_changed(shown, name):
    file = copy.deepcopy(shown.statement)
    AS_SHOWN[name](file)
    assert file != shown.statement
    with pytest.raises(Invalid):
        checks(shown, file)


def test_a_neighbours_file_is_not_hers(shown):
    file = {**copy.deepcopy(shown.statement), "leaves": shown.neighbour["leaves"]}
    with pytest.raises(Invalid):
        checks(shown, file)
    with pytest.raises(Invalid):
        checks(shown, {**shown.statement, "manifest": shown.earlier["manifest"]})
    with pytest.raises(Invalid):
        checks(shown, {**shown.statement, "proof": shown.earlier["proof"]})
    with pytest.raises(Invalid):
        checks(shown, {**shown.statement, "nonce": shown.neighbour["nonce"]})


@pytest.mark.parametrize(
    "change",
    [
        lambda file: add(file, "charge/charged_grains", 1),
        lambda file: file["charge"].update(app="app_x"),
        lambda file: file["charge"].update(period="2026-12"),
        lambda file: file["charge"].update(currency="EUR"),
        lambda file: add(file, "leaves/3/grains", 1),
        lambda file: file["leaves"].pop(),
    ],
)
def test_an_app_finds_out_that_its_charge_was_changed(shown, change):
    file = copy.deepcopy(shown.charge)
    change(file)
    with pytest.raises(Invalid):
        checks(shown, file)


# An operator who holds the keys and makes manifest, trees and signatures anew.


def resigned(
    shown: Shown, file: dict[str, Any], change: Callable[[dict[str, Any]], Any], signer: Signer | None = None
) -> None:
    """Put a changed manifest into a file, signed with the operator's own key."""
    said = copy.deepcopy(open_manifest(shown.statement["manifest"], shown.keys)[0])
    change(said)
    file["manifest"] = (signer or shown.signer).jws(canonical(said), MANIFEST_TYPE)
    file["statement"]["totals"], file["statement"]["basis"] = said["totals"], said["basis"]


def relogged(shown: Shown, file: dict[str, Any], signer: Signer | None = None) -> None:
    """Log a file's manifest in a log made anew, in the place of the true one."""
    state = store.read_state(shown.engine)
    entries = list(store.read_entries(shown.engine, 0, state.size))
    said = open_manifest(shown.statement["manifest"], shown.keys)[1]
    place = entries.index(manifest_entry(said))
    entries[place] = manifest_entry(from_b64url(file["manifest"].split(".")[1], "it"))
    tree, nodes = Subtrees(), {}
    for entry in entries:
        for level, index, digest in tree.append(leaf_hash(entry)):
            nodes[level, index] = digest
    path = inclusion_path(place, tree.size, lambda level, index: nodes[level, index])
    note = (signer or shown.signer).checkpoint(tree.size, tree.root())
    file["proof"] = proof_file(place, path, note)


def moved_to_the_platform(said):
    said["totals"]["platform_grains"] += 9
    said["totals"]["creators_grains"] -= 9
    said["payees"]["grains"] -= 9


WITH_KEYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "money made of nothing": lambda said: add(said, "totals/platform_grains", 9),
    "money for the platform": moved_to_the_platform,
    "less charged": lambda said: (add(said, "totals/charged_grains", -9), add(said, "apps/grains", -9)),
    "more for nobody": lambda said: add(said, "totals/escrow_grains", 9),
    "other answers counted": lambda said: add(said, "totals/events", -1),
    "an earlier end": lambda said: add(said, "basis/end_bounds/shd_a", -2),
    "a later beginning": lambda said: add(said, "basis/start_bounds/shd_a", 2),
    "another royalty": lambda said: add(said, "basis/royalty_ppm", -1),
    "another period before": lambda said: said.update(prev="0" * 64),
    "no period before": lambda said: said.update(prev=""),
    "another number": lambda said: said.update(seq=3),
    "fewer creators": lambda said: add(said, "payees/n", -4),
    "another tree": lambda said: said["payees"].update(digest=said["payees"]["first"]),
    "other books": lambda said: said.update(books="0" * 64),
}


@pytest.mark.parametrize("name", WITH_KEYS)
def test_a_creator_finds_out_that_was_signed_anew(shown, name):
    file = copy.deepcopy(shown.statement)
    resigned(shown, file, WITH_KEYS[name])
    with pytest.raises(Invalid):
        checks(shown, file)


@pytest.mark.parametrize("name", WITH_KEYS)
def test_whoever_compares_checkpoints_finds_out_that_was_signed_and_logged_anew(shown, name):
    file = copy.deepcopy(shown.statement)
    resigned(shown, file, WITH_KEYS[name])
    relogged(shown, file)
    hers, others = (
        open_checkpoint(one["proof"].partition("\n\n")[2], shown.keys.notes, ORIGIN)
        for one in (file, shown.neighbour)
    )
    with pytest.raises(Invalid, match="rewritten"):
        check_consistency(others.size, others.root, hers.size, hers.root, [])


def test_a_log_that_was_forked_does_not_grow_out_of_the_one_that_she_knew(shown):
    entries = list(store.read_entries(shown.engine, 0, store.read_state(shown.engine).size))
    for gone in range(4):
        tree = Subtrees()
        for entry in entries[:gone] + entries[gone + 1 :]:
            list(tree.append(leaf_hash(entry)))
        forked = open_checkpoint(shown.signer.checkpoint(tree.size, tree.root()), shown.keys.notes, ORIGIN)
        older = open_checkpoint(shown.checkpoint, shown.keys.notes, ORIGIN)
        with pytest.raises(Invalid):
            check_consistency(older.size, older.root, forked.size, forked.root, shown.growth)


def test_an_older_checkpoint_does_not_hold_the_manifest(shown):
    head, _, _ = shown.statement["proof"].partition("\n\n")
    with pytest.raises(Invalid):
        checks(shown, {**shown.statement, "proof": f"{head}\n\n{shown.checkpoint}"})


def test_keys_that_she_does_not_know_sign_nothing(shown):
    signer = Signer(ORIGIN, [OTHER_KEY], 2)
    file = copy.deepcopy(shown.statement)
    resigned(shown, file, lambda said: None, signer)
    with pytest.raises(Invalid, match="not known here"):
        checks(shown, file)
    noted = copy.deepcopy(shown.statement)
    relogged(shown, noted, signer)
    with pytest.raises(Invalid, match="no key that is known"):
        checks(shown, noted)


def test_a_log_of_another_name_is_not_this_one(shown):
    (key,) = shown.signer._keys
    file = copy.deepcopy(shown.statement)
    relogged(shown, file, Signer("credits.example/other", [key], key.from_us + 1))
    with pytest.raises(Invalid):
        checks(shown, file)


def test_whoever_is_hidden_or_stands_twice_in_a_tree_of_true_sums_is_missed_or_refused(shown):
    said, neighbour = without_texts(shown.statement["statement"]), without_texts(shown.neighbour["statement"])
    parties = {}
    for one, file in ((said, shown.statement), (neighbour, shown.neighbour)):
        names = {name: one[name] for name in ("app_names", "name")}
        gone = ("format", "lines", "basis", "totals", *names)
        head = {name: member for name, member in one.items() if name not in gone}
        salt = from_b64url(file["nonce"], "it")
        parties[one["creator"]] = (one["earned_grains"], statement_commitment(head, names, salt))
    secret = hashlib.sha256(b"the operator's").digest()
    hidden = SumTree("payee", {shown.other: parties[shown.other]}, secret)
    with pytest.raises(KeyError):
        hidden.openings(shown.creator, parties[shown.creator][0])
    # Somebody else's leaves, or her own with another sum, lead nowhere.
    for leaves in (
        hidden.openings(shown.other, parties[shown.other][0]),
        SumTree("payee", {**parties, shown.creator: (1, commitment({}))}, secret).openings(shown.creator, 1),
    ):
        with pytest.raises(Invalid):
            checks(shown, {**shown.statement, "leaves": leaves_object(leaves)})
    twice = SumTree("payee", parties, secret)._rows[0][0]
    with pytest.raises(Invalid, match="twice"):
        sum_node(twice, twice)


def test_no_bit_can_be_flipped(shown):
    draw = random.Random(7)
    for file in (shown.statement, shown.charge):
        raw = canonical(file)
        check_file(raw, shown.keys)
        for _ in range(300):
            place, bit = draw.randrange(len(raw)), draw.randrange(8)
            flipped = bytearray(raw)
            flipped[place] ^= 1 << bit
            try:
                check_file(bytes(flipped), shown.keys)
            except Invalid:
                continue
            pytest.fail(f"bit {bit} of byte {place}: {bytes(flipped[place - 40 : place + 10])!r}")
