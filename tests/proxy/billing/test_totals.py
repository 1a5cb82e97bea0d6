import msgspec

from proxy.billing.totals import Basis, Totals


def test_what_an_older_period_wrote_is_read_and_written_as_the_same_bytes():
    basis = Basis(
        start_bounds={}, end_bounds={"s": 1}, registry_seq=1, royalty_ppm=1, unattributed="common",
        price_versions=(), methods=(),
    )  # fmt: skip
    written = msgspec.json.encode(basis, order="sorted")
    assert b"pay_own_apps" not in written
    assert msgspec.json.decode(written, type=Basis) == basis


def test_totals_leave_out_what_no_claim_holds():
    names = {field.name for field in msgspec.structs.fields(Totals) if not field.required}
    facts = {
        field.name: {} if "dict" in str(field.type) else 0
        for field in msgspec.structs.fields(Totals)
        if field.required
    }
    assert "claimed_grains" in names
    assert not names & set(msgspec.to_builtins(Totals(**facts)))
