import ast
import base64
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from proxy.receipts import verify
from proxy.receipts.receipt import open_line, payload, to_object
from proxy.receipts.signing import Signer, SigningKey
from proxy.receipts.verify import (
    EMPTY_ROOT,
    Checkpoint,
    Invalid,
    Keys,
    VerifierKey,
    canonical,
    check_consistency,
    check_file,
    check_line,
    check_proof,
    from_b64,
    from_b64url,
    from_canonical,
    included_root,
    leaf_hash,
    open_checkpoint,
    open_jws,
    open_note,
    receipt_entry,
    sum_key,
    sum_leaf,
    sum_node,
    summed_root,
)
from tests.proxy.receipts.making import KEY, ORIGIN, SECRETS, SIGNER, Log, answer

LOG = Log([number.to_bytes(2, "big") for number in range(70)])
KEYS = SIGNER.verifier_keys
RECEIPT = SIGNER.jws(payload(answer(), SECRETS))
KIDS = {KEY.kid: KEY.public}


def flipped(text, bit):
    raw = bytearray(text.encode())
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    return raw.decode("utf-8", "surrogateescape")


def test_it_needs_nothing_but_cryptography():
    tree = ast.parse(Path(verify.__file__).read_text(encoding="utf-8"))
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in named} - set(sys.stdlib_module_names) == {"cryptography"}


@pytest.mark.parametrize("size", [1, 2, 3, 8, 33, 70])
def test_every_entry_leads_to_the_root_and_nothing_else_does(size):
    for index in range(size):
        path = LOG.path(index, size)
        assert included_root(LOG.leaves[index], index, size, path) == LOG.roots[size]
        assert (
            included_root(LOG.leaves[index] if size == 1 else bytes(32), index, size, path) != LOG.roots[size]
            or size == 1
        )
        for wrong in ([*path, bytes(32)], path[:-1]):
            if wrong != path:
                with pytest.raises(Invalid, match=r"too long|too short"):
                    included_root(LOG.leaves[index], index, size, wrong)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0), (0, 1 << 63)])
def test_a_place_outside_of_the_log_is_refused(index, size):
    with pytest.raises(Invalid, match="no entry"):
        included_root(bytes(32), index, size, [])


def test_a_hash_of_another_length_is_refused():
    with pytest.raises(Invalid, match="another length"):
        included_root(LOG.leaves[0], 0, 2, [bytes(33)])
    with pytest.raises(Invalid, match="another length"):
        check_consistency(1, LOG.roots[1], 2, LOG.roots[2], [bytes(31)])


@given(st.integers(0, 70), st.integers(0, 70))
def test_a_log_that_grew_is_consistent_and_one_that_was_rewritten_is_not(old, new):
    old, new = sorted((old, new))
    path = LOG.growth(old, new) if new else []
    check_consistency(old, LOG.roots[old], new, LOG.roots[new], path)
    other = hashlib.sha256(b"another").digest()
    for roots in ((other, LOG.roots[new]), (LOG.roots[old], other)):
        if old and roots != (LOG.roots[old], LOG.roots[new]):
            with pytest.raises(Invalid):
                check_consistency(old, roots[0], new, roots[1], path)
    with pytest.raises(Invalid):
        check_consistency(old, LOG.roots[old], new, LOG.roots[new], [*path, bytes(32)])
    if path:
        with pytest.raises(Invalid):
            check_consistency(old, LOG.roots[old], new, LOG.roots[new], path[:-1])


def test_a_log_never_shrinks_and_begins_empty():
    with pytest.raises(Invalid, match="cannot grow"):
        check_consistency(3, LOG.roots[3], 2, LOG.roots[2], [])
    with pytest.raises(Invalid, match="rewritten"):
        check_consistency(0, LOG.roots[1], 2, LOG.roots[2], [])
    assert LOG.roots[0] == EMPTY_ROOT


def test_a_note_that_others_published_opens():
    key = VerifierKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    note = (
        text + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdng"
        "otpRZb6KE6RyyBwJnAM=\n"
    )
    assert open_note(note, [key]) == text
    assert str(key) == "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"


def test_a_key_that_others_published_makes_its_public_half():
    """RFC 8032, 7.1, the first test."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() == public
    assert SigningKey(seed, 0).public == public


@pytest.mark.parametrize(
    ("note", "why"),
    [
        ("", "no signed note"),
        ("text\n", "no signed note"),
        ("text\n\n— a YQ==", "no signed note"),
        ("text\n\n- a YWFhYWE=\n", "malformed"),
        ("text\n\n— a  YWFhYWE=\n", "malformed"),
        ("text\n\n— a YWFhYWE= b\n", "malformed"),
        ("text\n\n— a YWFhYWE\n", "not base64"),
        ("text\n\n— a YWFhYWE=\n", "no key that is known"),
        ("te\txt\n\n— a YWFhYWE=\n", "control characters"),
        ("t" * (1 << 20) + "\n\n— a YWFhYWE=\n", "too large"),
    ],
)
def test_what_is_no_note_is_refused_with_why(note, why):
    with pytest.raises(Invalid, match=why):
        open_note(note, KEYS)


def test_signatures_of_witnesses_are_passed_over_and_a_false_one_of_ours_is_not():
    note = LOG.checkpoint()
    witnessed = note + "— witness.example " + base64.b64encode(bytes(68)).decode() + "\n"
    assert open_checkpoint(witnessed, KEYS) == Checkpoint(ORIGIN, 70, LOG.roots[70])
    false = note + f"— {ORIGIN} " + base64.b64encode(KEYS[0].key_id + bytes(64)).decode() + "\n"
    with pytest.raises(Invalid, match="does not hold"):
        open_checkpoint(false, KEYS)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a\n1\n", "too few lines"),
        ("a\n\nYQ==\n", "too few lines"),
        ("a\n01\n" + "A" * 43 + "=\n", "no number"),
        ("a\n1\nYQ==\n", "cannot be one"),
        ("a\n9999999999999999999\n" + "A" * 43 + "=\n", "cannot be one"),
        ("a\n1\n" + "A" * 43 + "=\n", "of the log 'a'"),
    ],
)
def test_a_note_that_is_no_checkpoint_of_this_log_is_refused(text, why):
    with pytest.raises(Invalid, match=why):
        open_checkpoint(SIGNER.note(text), KEYS, ORIGIN)


def test_while_keys_change_either_opens_what_both_signed():
    new = SigningKey(hashlib.sha256(b"new").digest(), 5)
    both = Signer(ORIGIN, [replace(KEY, until_us=9), new], 6)
    after = Signer(ORIGIN, [replace(KEY, until_us=9), new], 9)
    assert both.kid == after.kid == new.kid
    for keys in (KEYS, after.verifier_keys):
        assert open_checkpoint(LOG.checkpoint(signer=both), keys).size == 70
    with pytest.raises(Invalid, match="no key that is known"):
        open_checkpoint(LOG.checkpoint(signer=after), KEYS)


@pytest.mark.parametrize(
    "text",
    [
        "a", "a+00000000+", "a+00000000+AQ==", str(KEYS[0]).replace(ORIGIN, "other.example"),
        "+" + str(KEYS[0]).partition("+")[2], str(KEYS[0]).replace("+A", "+B", 1),
    ],
)  # fmt: skip
def test_a_key_whose_parts_do_not_belong_together_is_refused(text):
    with pytest.raises(Invalid):
        VerifierKey.parse(text)


def test_a_receipt_opens_and_says_what_it_was_made_of():
    said = from_canonical(open_jws(RECEIPT, KIDS), "receipt")
    assert (said["rid"], said["unat"], said["n"], said["price"]) == (answer().id, 350_000, 3, 12_500_000)
    assert len(RECEIPT) < 1_000


@given(st.integers(0, len(RECEIPT) * 8 - 1))
def test_any_flipped_bit_of_a_receipt_is_refused(bit):
    with pytest.raises(Invalid):
        open_jws(flipped(RECEIPT, bit), KIDS)


PROOF = LOG.proof(41)
ENTRY = (41).to_bytes(2, "big")


@given(st.integers(0, len(PROOF.encode()) * 8 - 1))
def test_any_flipped_bit_of_a_proof_is_refused(bit):
    with pytest.raises(Invalid):
        check_proof(flipped(PROOF, bit), ENTRY, KEYS, ORIGIN)


@pytest.mark.parametrize("index", [0, 1, 41, 69])
def test_a_proof_shows_its_entry_and_no_other(index):
    entry = index.to_bytes(2, "big")
    assert check_proof(LOG.proof(index), entry, KEYS, ORIGIN) == Checkpoint(ORIGIN, 70, LOG.roots[70])
    with pytest.raises(Invalid, match="does not hold this"):
        check_proof(LOG.proof(index), entry + b"!", KEYS, ORIGIN)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda proof: proof.replace("@v1", "@v2"), "does not begin"),
        (lambda proof: proof.replace("index", "extra YQ==\nindex"), "an index and a path"),
        (lambda proof: proof.replace("index 41", "index 041"), "no number"),
        (lambda proof: proof.replace("index 41", "index 40"), "does not hold this"),
        (lambda proof: proof.replace("index 41", "index 70"), "no entry 70"),
        (lambda proof: proof.replace("\n\n", "\n" + "YQ==\n" * 70 + "\n", 1), "an index and a path"),
    ],
)
def test_a_proof_that_was_changed_is_refused_with_why(change, why):
    with pytest.raises(Invalid, match=why):
        check_proof(change(PROOF), ENTRY, KEYS, ORIGIN)


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "no compact JWS"),
        ("a.b", "no compact JWS"),
        (".".join(["e30", *RECEIPT.split(".")[1:]]), "not that of"),
        (".".join(["eyJhIjoxfQ=", *RECEIPT.split(".")[1:]]), "stray bits|not base64url"),
        (SIGNER.jws(b"{}", "other+jws"), "not that of"),
        (Signer(ORIGIN, [SigningKey(bytes(32), 1)], 2).jws(b"{}"), "is not known here"),
    ],
)
def test_a_token_that_is_none_of_ours_is_refused_with_why(token, why):
    with pytest.raises(Invalid, match=why):
        open_jws(token, KIDS)


def test_an_unsigned_or_otherwise_signed_token_is_refused():
    body = RECEIPT.split(".")[1]
    for header in (
        {"alg": "none", "kid": KEY.kid, "typ": verify.RECEIPT_TYPE},
        {"alg": "HS256", "kid": KEY.kid, "typ": verify.RECEIPT_TYPE},
    ):
        with pytest.raises(Invalid, match="not that of"):
            open_jws(f"{verify.b64url(canonical(header))}.{body}.", KIDS)


@pytest.mark.parametrize("work", ["w_one", "w_two", "w_three"])
def test_a_creators_line_opens_and_shows_no_other(work):
    said = open_jws(RECEIPT, KIDS)
    shown = to_object(open_line(answer(), SECRETS, work))
    assert check_line(said, shown)["rid"] == answer().id
    others = {line.work for line in answer().lines} - {shown["work"]}
    assert not [other for other in others if other in json.dumps(shown)]
    for name, other in [
        ("work", "w_another"), ("ppm", 999_999), ("verdict", "free" if shown["verdict"] == "paid" else "paid"),
        ("salt", "A" * 22), ("index", (shown["index"] + 1) % 3), ("count", 4), ("path", []), ("index", True), ("index", None),
        ("path", ["A"]), ("salt", ""), ("path", [1]),
    ]:  # fmt: skip
        with pytest.raises(Invalid):
            check_line(said, {**shown, name: other})
    with pytest.raises(Invalid, match="lacks a member"):
        check_line(said, {})


def test_a_receipts_place_in_the_log_is_shown_by_its_payload():
    payloads = [payload(answer(number), SECRETS) for number in range(9)]
    log = Log([receipt_entry(one) for one in payloads])
    check_proof(log.proof(4), receipt_entry(payloads[4]), KEYS)
    with pytest.raises(Invalid):
        check_proof(log.proof(4), verify.manifest_entry(payloads[4]), KEYS)


@given(
    st.recursive(
        st.integers(-(2**63), 2**63) | st.text(max_size=6),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("abcXYZ_1", max_size=4), inner, max_size=3)
        ),
    )
)
def test_json_has_one_spelling(value):
    try:
        raw = canonical({"a": value})
    except UnicodeEncodeError:
        return  # half of a pair is no text
    assert from_canonical(raw, "it") == {"a": value}
    with pytest.raises(Invalid):
        from_canonical(raw + b" ", "it")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"1",
        b'{"b":1,"a":2}',
        b'{"a":1.0}',
        b'{"a": 1}',
        b'{"a":1,"a":1}',
        b"\xff",
        b'{"a":"\\u0041"}',
        b'{"a":NaN}',
    ],
)
def test_json_that_is_spelt_otherwise_is_refused(raw):
    with pytest.raises(Invalid):
        from_canonical(raw, "it")


@given(st.text("AQb_-+/=\n", max_size=8))
def test_base64_has_one_spelling(text):
    for read, write in ((from_b64, verify.b64), (from_b64url, verify.b64url)):
        try:
            assert write(read(text, "it")) == text
        except Invalid:
            continue


def test_keys_out_of_order_and_sums_out_of_range_are_refused():
    low, high = sorted((sum_key("payee", "a", 0), sum_key("payee", "b", 0)))
    leaf = sum_leaf(low, 5, bytes(32), bytes(16))
    other = sum_leaf(high, 7, bytes(32), bytes(16))
    assert sum_node(leaf, other).grains == 12
    for left, right in ((other, leaf), (leaf, leaf)):
        with pytest.raises(Invalid, match="out of order"):
            sum_node(left, right)
    for grains in (-1, 1 << 63):
        with pytest.raises(Invalid, match="out of range"):
            sum_leaf(low, grains, bytes(32), bytes(16))
        with pytest.raises(Invalid, match="out of range"):
            summed_root(leaf, 0, 2, [replace(other, grains=grains)])
    with pytest.raises(Invalid, match="out of range"):
        summed_root(sum_leaf(low, verify.SUM_MAX, bytes(32), bytes(16)), 0, 2, [other])
    with pytest.raises(Invalid, match="another length"):
        sum_leaf(low, 1, b"", bytes(16))


def test_leaf_hashes_are_told_from_nodes():
    assert leaf_hash(LOG.roots[1] + LOG.roots[2]) != verify.node_hash(LOG.roots[1], LOG.roots[2])


WELL_KNOWN = json.dumps(
    {
        "product": "endcredits",
        "log": {"origin": ORIGIN, "url": "/log/"},
        "keys": [{"kid": KEY.kid, "x": verify.b64url(KEY.public), "verifier": str(KEYS[0])}],
    }
).encode()


def shown(**changed):
    event = answer()
    log = Log([receipt_entry(payload(answer(number), SECRETS)) for number in range(5)])
    lines = [to_object(open_line(event, SECRETS, line.work)) for line in event.lines]
    return json.dumps({"receipt": RECEIPT, "proof": log.proof(0), "lines": lines, **changed}).encode()


def test_a_file_says_what_it_proves_and_no_more():
    keys = Keys.parse(WELL_KNOWN)
    assert [line.partition(":")[0] for line in check_file(shown(), keys)] == [
        "signed", "logged", "drew on w_one", "drew on w_two", "drew on w_three",
    ]  # fmt: skip
    assert len(check_file(RECEIPT.encode() + b"\n", keys)) == 1
    assert len(check_file(shown(proof=None, lines=[]), keys)) == 1


@given(st.integers(0, len(shown()) * 8 - 1))
def test_any_flipped_bit_of_a_file_is_refused(bit):
    flipped = bytearray(shown())
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Invalid):
        check_file(bytes(flipped), Keys.parse(WELL_KNOWN))


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"{}", b"\xff", b"[]", b'{"receipt":1}', shown(lines=1), shown(lines=[1]), shown(lines=[{}]), shown(proof=""),
        shown(proof=1), shown(receipt=RECEIPT[:-1]), shown(lines=[{"path": 1, "salt": 1, "index": 0, "count": 3, "work": "", "ppm": 1, "verdict": ""}]),
        shown(proof=Log([receipt_entry(payload(answer(number), SECRETS)) for number in range(1, 5)]).proof(0)),
    ],
)  # fmt: skip
def test_a_file_that_does_not_hold_is_refused(raw):
    with pytest.raises(Invalid):
        check_file(raw, Keys.parse(WELL_KNOWN))


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b"{}", b'{"log":{},"keys":[]}', WELL_KNOWN.replace(ORIGIN.encode(), b"other.example", 1),
        WELL_KNOWN.replace(verify.b64url(KEY.public).encode(), verify.b64url(bytes(32)).encode()),
        WELL_KNOWN.replace(b'"kid"', b'"kit"'), WELL_KNOWN.replace(b'"x": "', b'"x": 1, "y": "'),
    ],
)  # fmt: skip
def test_keys_that_do_not_agree_with_themselves_are_refused(raw):
    with pytest.raises(Invalid):
        Keys.parse(raw)


def test_saved_by_itself_it_runs(tmp_path):
    for name, raw in (
        ("verify.py", Path(verify.__file__).read_bytes()),
        ("receipt.json", shown()),
        ("keys.json", WELL_KNOWN),
    ):
        (tmp_path / name).write_bytes(raw)
    (tmp_path / "bad.json").write_bytes(shown(receipt=RECEIPT[:-2]))

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-I", "verify.py", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    good = run("receipt.json", "keys.json")
    assert (good.returncode, good.stdout.count("\n"), good.stderr) == (0, 5, "")
    bad = run("bad.json", "keys.json")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith("does not hold: ")
    assert run("nowhere", "keys.json").returncode == 1
    assert run().returncode == 2
