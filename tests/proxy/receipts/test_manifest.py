import hashlib

from hypothesis import given
from hypothesis import strategies as st

from proxy.receipts import manifest
from proxy.receipts.sums import SumTree
from proxy.receipts.verify import EMPTY_ROOT, b64url, commitment, from_canonical, told_digest

SECRET = hashlib.sha256(b"a period").digest()
PERIOD = manifest.Period(
    label="2026-11", seq=3, currency="USD", closed_us=5, basis={"methods": ["m"]}, totals={"events": 2},
    books="ab", log=(7, EMPTY_ROOT), previous="cd",
)  # fmt: skip


def tree(kind="payee", **sums):
    return SumTree(kind, {name: (grains, commitment({"of": name})) for name, grains in sums.items()}, SECRET)


def test_a_manifest_says_everything_of_a_period_in_one_spelling():
    payees, apps = tree(ada=3, bo=4), tree("app")
    said = from_canonical(manifest.payload(PERIOD, payees, apps), "it")
    assert said["payees"]["grains"] == 7
    assert said["payees"]["n"] == payees.size
    assert said["payees"]["digest"] == b64url(payees.root.digest)
    assert said["apps"] is None
    assert said["log"] == {"root": b64url(EMPTY_ROOT), "size": 7}
    assert (said["period"], said["seq"], said["prev"], said["books"]) == ("2026-11", 3, "cd", "ab")
    assert manifest.digest(manifest.payload(PERIOD, payees, apps)) != manifest.digest(
        manifest.payload(PERIOD, tree(ada=4, bo=3), apps)
    )


@given(st.text(max_size=20), st.text(max_size=20))
def test_names_are_in_it_as_a_salted_hash_that_stays_when_they_are_erased(name, other):
    head, nonce = {"id": "stm_1", "earned_grains": 5}, manifest.nonce_of(SECRET, "ada")
    names = {"name": name, "app_names": {}}
    kept = manifest.statement_commitment(head, names, nonce)
    assert kept == commitment({**head, "told": told_digest(nonce, names)})
    assert (kept == manifest.statement_commitment(head, {**names, "name": other}, nonce)) is (name == other)
    assert kept != manifest.statement_commitment(head, names, manifest.nonce_of(SECRET, "bo"))
