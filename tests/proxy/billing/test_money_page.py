import doctest
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "money.md"


def test_the_page_on_money_says_what_the_code_does():
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 15
    assert result.failed == 0
