from __future__ import annotations

import numpy as np
import pytest

from attribution.background import Background
from attribution.errors import ModelMissing
from attribution.normalise import words


def test_common_words_weigh_less_before_any_catalogue_says_so():
    the, house, unheard = Background.open().idf(words("the house qqzzx").hashes, 0)
    assert the < 1 < house < unheard


def test_a_catalogues_own_counts_are_added():
    table = Background.open()
    hashes = words("house").hashes
    assert table.idf(hashes, 1000, np.array([900])) < table.idf(hashes, 1000, np.array([0]))


def test_a_missing_table_says_what_to_do(tmp_path):
    with pytest.raises(ModelMissing, match="install the package again"):
        Background.open(tmp_path)
