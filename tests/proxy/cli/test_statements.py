from proxy.billing.documents import MAKERS
from proxy.cli.statements import FORMATS
from tests.proxy.cli.test_money import ec, meter

__all__ = ["ec"]


def test_the_command_offers_every_format():
    assert set(FORMATS) == MAKERS.keys()


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(ec, tmp_path):
    meter(ec, ("rct_1", 1_000_000, {"r1": 500_000}))
    ec("periods", "close", "2026-11")
    (tmp_path / "file").write_text("")
    ran = ec.json("statements", "export", "--out", tmp_path / "file" / "deeper")
    assert (ran.status, ran.row["error"]) == (1, "out")
    assert "--out" in ran.row["remedy"]
