import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.cells import csv_cell, safe_cell, to_csv


@given(st.text())
def test_no_cell_can_be_run_as_a_formula_and_none_is_lost(cell):
    safe = safe_cell(cell)
    assert not safe.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert safe.removeprefix("'") == cell.removeprefix("'")


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0")), min_size=2, max_size=2)
    )
)
def test_a_table_is_read_back_as_it_was_written(rows):
    text = to_csv(("one", "two"), rows).decode()
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["one", "two"],
        *([safe_cell(c) for c in r] for r in rows),
    ]


@given(st.text(st.characters(codec="utf-8")) | st.text(" ,;\"'\r\n\t=a", max_size=6))
def test_a_cell_by_itself_is_what_the_writer_of_tables_makes_of_it(cell):
    _, _, row = to_csv(("one", "two"), [(cell, "behind")]).decode().partition("one,two\r\n")
    assert f"{csv_cell(cell)},behind\r\n" == row
