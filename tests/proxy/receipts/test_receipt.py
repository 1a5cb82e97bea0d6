import hashlib
import hmac

import pytest

from proxy.receipts.receipt import ReceiptLine, Secrets, commitment, line_entry, open_line, payload
from proxy.receipts.verify import EMPTY_ROOT, b64url, from_canonical, included_root, leaf_hash
from tests.proxy.receipts.making import SECRETS, facts

TEXT = b"tell me of the sea"


def said(**changed):
    return from_canonical(payload(facts(**changed), SECRETS), "receipt")


def test_the_same_answer_is_the_same_bytes_and_any_fact_changes_them():
    first = payload(facts(), SECRETS)
    assert first == payload(facts(), SECRETS)
    for changed in (
        {"id": "rct_x"}, {"shard": "b"}, {"index": 5}, {"settled_us": 1}, {"app": "x"}, {"model": "x"}, {"method": "x"},
        {"registry_seq": 8}, {"policy": "x"}, {"currency": "JPY"}, {"price_grains": None}, {"price_grains": 0},
        {"unattributed_ppm": 1}, {"outcome": "cut"}, {"lines": ()}, {"output": b""}, {"output": bytes(32)},
        {"lines": (ReceiptLine("w_one", 412_345, "free"), *facts().lines[1:])}, {"lines": facts().lines[::-1]},
    ):  # fmt: skip
        assert payload(facts(**changed), SECRETS) != first


def test_it_holds_no_work_no_output_and_no_plain_digest_of_it():
    raw = payload(facts(output=hashlib.sha256(TEXT).digest()), SECRETS)
    for kept_back in (
        b"w_one",
        TEXT,
        hashlib.sha256(TEXT).digest(),
        hashlib.sha256(TEXT).hexdigest().encode(),
    ):
        assert kept_back not in raw
    assert b64url(hashlib.sha256(TEXT).digest()).encode() not in raw


def test_the_app_alone_can_show_that_an_output_is_the_one():
    nonce = SECRETS.nonce(facts().id)
    digest = hashlib.sha256(TEXT).digest()
    assert said(output=digest)["oc"] == b64url(hmac.new(nonce, digest, hashlib.sha256).digest())
    assert commitment(digest, nonce) != commitment(digest, bytes(16))
    assert said(output=b"")["oc"] == ""


def test_an_answer_that_drew_on_nothing_has_the_root_of_nothing():
    assert (said(lines=())["n"], said(lines=())["lroot"]) == (0, b64url(EMPTY_ROOT))


@pytest.mark.parametrize("count", [1, 2, 3, 8, 20])
def test_each_line_opens(count):
    lines = tuple(ReceiptLine(f"w_{number}", number + 1, "paid") for number in range(count))
    root = said(lines=lines)["lroot"]
    for index in range(count):
        opened = open_line(facts(lines=lines), SECRETS, index)
        leaf = leaf_hash(line_entry(opened.line, opened.salt))
        assert b64url(included_root(leaf, index, count, opened.path)) == root
    with pytest.raises(ValueError, match="no leaf"):
        open_line(facts(lines=lines), SECRETS, count)


def test_equal_lines_of_two_answers_do_not_look_alike():
    assert SECRETS.salt("rct_a", 0) not in {
        SECRETS.salt("rct_a", 1),
        SECRETS.salt("rct_b", 0),
        SECRETS.nonce("rct_a"),
    }
    assert Secrets(b"\1" * 32).salt("rct_a", 0) != SECRETS.salt("rct_a", 0)


def test_a_model_that_tries_to_be_json_stays_text():
    model = '","rid":"rct_other\u2028\x01"'
    assert said(model=model)["mdl"] == model
    assert said(model=model)["rid"] == facts().id
