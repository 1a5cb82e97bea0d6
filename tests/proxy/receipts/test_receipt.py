import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metering.usage import Line
from proxy.receipts.receipt import Secrets, line_entry, open_line, payload
from proxy.receipts.verify import EMPTY_ROOT, b64url, canonical, from_canonical, included_root, leaf_hash
from tests.proxy.receipts.making import SECRETS, answer


def said(**changed):
    return from_canonical(payload(answer(**changed), SECRETS), "receipt")


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "rct_x"}, {"occurred_us": 1}, {"app_id": "x"}, {"model": "x"}, {"method": "x"}, {"endpoint": "x"},
        {"registry_seq": 8}, {"currency": "JPY"}, {"price_grains": None}, {"price_grains": 0}, {"estimated": True},
        {"unattributed_ppm": 1}, {"outcome": "cut"}, {"lines": ()}, {"output_digest": ""}, {"input_tokens": 1},
        {"output_tokens": 1}, {"price_version": ""}, {"reason": "no_text"},
        {"policy_seq": 0}, {"policy_seq": 4}, {"images": 1}, {"milliseconds": 1},
        {"lines": (Line("w_one", 412_345, "free"), *answer().lines[1:])},
        {"lines": (Line("w_one", 412_346), *answer().lines[1:])},
    ],
)  # fmt: skip
def test_any_fact_that_is_another_is_another_receipt(changed):
    assert payload(answer(**changed), SECRETS) != payload(answer(), SECRETS)


def test_the_same_answer_is_the_same_bytes_however_its_lines_came():
    assert payload(answer(), SECRETS) == payload(answer(lines=answer().lines[::-1]), SECRETS)
    beside = {"backend": "b", "subject_digest": "s"}  # who answered, and for whom, is nobody else's business
    assert payload(answer(), SECRETS) == payload(answer(**beside), SECRETS)


def test_an_answer_from_before_policies_were_quoted_has_the_receipt_it_had():
    assert "pol" not in said(policy_seq=None)
    assert said(policy_seq=0)["pol"] == 0


def test_an_answer_without_images_or_time_has_the_receipt_that_it_had_before_they_were_counted():
    before = "931d7cdb25246c064eb4a7ef5a53b6fb8dbacefe5a2f0b481f83720fc6f419e9"
    assert hashlib.sha256(payload(answer(), SECRETS)).hexdigest() == before
    assert {"img", "ms"}.isdisjoint(said(images=0, milliseconds=0))


def test_images_and_time_are_quoted_where_there_are_any():
    assert said(images=2)["img"] == 2
    assert said(milliseconds=8_471)["ms"] == 8_471
    assert "ms" not in said(images=2)


def test_it_holds_no_work_and_nothing_of_the_end_user():
    raw = payload(answer(subject_digest="5ec7e7"), SECRETS)
    for kept_back in (b"w_one", b"w_two", b"5ec7e7"):
        assert kept_back not in raw


def test_an_answer_that_drew_on_nothing_has_the_root_of_nothing():
    assert (said(lines=())["n"], said(lines=())["lroot"]) == (0, b64url(EMPTY_ROOT))


@pytest.mark.parametrize("count", [1, 2, 3, 8, 20])
def test_each_line_opens(count):
    lines = tuple(Line(f"w_{number}", number + 1) for number in range(count))
    root = said(lines=lines)["lroot"]
    for line in lines:
        opened = open_line(answer(lines=lines), SECRETS, line.work)
        assert opened.line == line
        leaf = leaf_hash(line_entry(opened.line, opened.salt))
        assert b64url(included_root(leaf, opened.index, count, opened.path)) == root
    with pytest.raises(KeyError):
        open_line(answer(lines=lines), SECRETS, "w_another")


def test_equal_lines_of_two_answers_do_not_look_alike():
    salts = {
        SECRETS.salt("rct_a", 0),
        SECRETS.salt("rct_a", 1),
        SECRETS.salt("rct_b", 0),
        SECRETS.nonce("rct_a"),
    }
    assert len(salts) == 4
    assert Secrets(hashlib.sha256(b"another month").digest()).salt("rct_a", 0) not in salts


@given(st.binary(min_size=32, max_size=32), st.text("rct_0123456789abcdef", min_size=1, max_size=40))
def test_salts_and_nonces_are_hmac_sha256_under_the_months_key(key, receipt):
    secrets = Secrets(key)
    for drawn, what in (
        (secrets.salt(receipt, 3), f"salt|{receipt}|3"),
        (secrets.nonce(receipt), f"nonce|{receipt}"),
        (secrets.change_salt(7), "change|7"),
    ):
        assert drawn == hmac.digest(key, what.encode(), "sha256")[:16]


def test_a_model_that_tries_to_be_json_stays_text():
    model = '","rid":"rct_other\u2028\x01"'
    assert said(model=model)["mdl"] == model
    assert said(model=model)["rid"] == answer().id


@given(st.text(max_size=40), st.text(max_size=10), st.integers(0, 2**63 - 1))
def test_what_is_signed_is_spelt_as_whoever_checks_spells_it(model, work, price):
    event = answer(model=model, price_grains=price, lines=(Line(work, 1),))
    try:
        raw = payload(event, SECRETS)
    except UnicodeEncodeError:
        return  # half of a pair is no text, and the store has none
    assert canonical(from_canonical(raw, "receipt")) == raw
    line = {"ppm": 1, "verdict": "paid", "work": work}
    assert line_entry(event.lines[0], b"") == canonical(line)
