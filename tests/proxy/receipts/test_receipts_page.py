import doctest
import json
from pathlib import Path

from proxy.receipts.receipt import payload
from proxy.receipts.verify import b64url, receipt_entry
from tests.proxy.receipts.making import KEY, SECRETS, SIGNER, Log, answer

PAGE = Path(__file__).parents[3] / "docs" / "receipts.md"


def test_what_the_page_says_suffices_to_check_a_receipt():
    log = Log([receipt_entry(payload(answer(number), SECRETS)) for number in range(11)])
    shown = {"receipt": SIGNER.jws(payload(answer(6), SECRETS)), "proof": log.proof(6)}
    saved = {"keys": [{"kid": KEY.kid, "x": b64url(KEY.public)}]}
    given = {"shown": json.loads(json.dumps(shown)), "saved": saved}
    result = doctest.testfile(str(PAGE), module_relative=False, globs=given)
    assert (result.attempted, result.failed) == (6, 0)
