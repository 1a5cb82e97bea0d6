"""Modules here whose clients are not in the smaller set of test tools are not even imported by runs without them.

Selecting them (`-m clients`) imports them whatever is installed, so a missing client is an error and never a gap.
"""

from __future__ import annotations

from pathlib import Path

import pytest

NOT_IN_THE_SMALLER_SET = frozenset({"test_anthropic_python.py", "test_langchain.py"})


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    left_out = "not clients" in str(config.getoption("markexpr"))
    return True if left_out and collection_path.name in NOT_IN_THE_SMALLER_SET else None
