import pytest

from proxy.cli import exporting
from proxy.errors import Problem
from tests.proxy.cli.test_money import ec, meter

__all__ = ["ec"]


def closed(ec):
    meter(ec, ("rct_1", 1_000_000, {"r1": 500_000, "r2": 300_000}))
    ec("periods", "close", "2026-11")


def exported(ec, folder, *forms):
    asked = [word for form in forms for word in ("--format", form)]
    rows = ec.json("statements", "export", *asked, "--out", folder).rows
    return rows, {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("processes", [1, 2])
def test_however_many_processes_write_them_files_and_rows_are_the_same(ec, tmp_path, monkeypatch, processes):
    closed(ec)
    rows, files = exported(ec, tmp_path / "one", "json", "csv")
    monkeypatch.setattr(exporting, "MANY", 1)
    monkeypatch.setattr("proxy.cli.exporting.os.cpu_count", lambda: processes)
    again, same = exported(ec, tmp_path / "more", "json", "csv")
    assert same == files
    assert [row | {"file": ""} for row in again] == [row | {"file": ""} for row in rows]
    assert len(files) == len(rows) >= 2


def test_several_formats_at_once_are_each_as_alone(ec, tmp_path):
    closed(ec)
    forms = ("csv", "json", "tsv", "html")
    _, together = exported(ec, tmp_path / "together", *forms)
    alone = {}
    for form in forms:
        alone |= exported(ec, tmp_path / form, form)[1]
    assert together == alone


def test_several_formats_need_a_folder(ec, tmp_path):
    closed(ec)
    ran = ec.json("statements", "export", "--format", "json", "--format", "csv", "--creator", "ada")
    assert ran.row["error"] == "several_statements"
    assert "one --format" in ran.row["remedy"]


def test_another_process_that_cannot_write_ends_the_export_with_the_same_words(ec, tmp_path, monkeypatch):
    closed(ec)
    monkeypatch.setattr(exporting, "MANY", 1)
    monkeypatch.setattr("proxy.cli.exporting.os.cpu_count", lambda: 2)
    (tmp_path / "file").write_text("")
    ran = ec.json("statements", "export", "--out", tmp_path / "file" / "deeper")
    assert (ran.status, ran.row["error"]) == (1, "out")
    assert "--out" in ran.row["remedy"]


def test_a_file_that_cannot_be_written_leaves_nothing_under_its_name(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(Problem, match="cannot be written"):
        exporting.write(tmp_path / "there", b"content")
    exporting.write(tmp_path / "new" / "file", b"content")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]
