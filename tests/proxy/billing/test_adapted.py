from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.adapted import with_originals
from proxy.billing.money import PPM
from proxy.billing.statements import UNCLAIMED, SplitSet
from proxy.catalogue.works import Adapted

BOOK = SplitSet(3, (("c_a", 600_000), ("c_b", 400_000)), "The book")
FILM = SplitSet(1, (("c_f", 900_000), (UNCLAIMED, 100_000)), "The film")


def test_a_work_that_was_made_from_nothing_keeps_its_split():
    assert with_originals("w_book", {"w_book": BOOK}, {}) is BOOK


def test_the_originals_part_goes_to_its_parties_and_the_rest_is_shared_as_agreed():
    split = with_originals(
        "w_film", {"w_film": FILM, "w_book": BOOK}, {"w_film": (Adapted("w_book", 300_000),)}
    )
    assert split.parties == (("c_a", 180_000), ("c_b", 120_000), ("c_f", 630_000), (UNCLAIMED, 70_000))
    assert (split.version, split.title) == (1, "The film")


def test_an_original_that_was_made_from_another_passes_its_part_on():
    own = {"w_book": BOOK, "w_film": FILM, "w_song": SplitSet(0, (("c_a", PPM),))}
    adapted = {"w_song": (Adapted("w_film", 500_000),), "w_film": (Adapted("w_book", 200_000),)}
    parties = dict(with_originals("w_song", own, adapted).parties)
    assert parties == {"c_a": 560_000, "c_b": 40_000, "c_f": 360_000, UNCLAIMED: 40_000}


def test_a_licence_may_give_the_original_everything_or_nothing():
    own = {"w_film": FILM, "w_book": BOOK}
    assert with_originals("w_film", own, {"w_film": (Adapted("w_book", PPM),)}).parties == BOOK.parties
    assert with_originals("w_film", own, {"w_film": (Adapted("w_book", 0),)}).parties == FILM.parties


@given(st.lists(st.integers(0, PPM // 4), min_size=1, max_size=4), st.integers(1, PPM - 1))
def test_the_whole_stays_the_whole(parts, first):
    own = {f"w_{n}": SplitSet(1, (("c_x", first), (f"c_{n}", PPM - first))) for n in range(len(parts) + 1)}
    adapted = {"w_0": tuple(Adapted(f"w_{n}", ppm) for n, ppm in enumerate(parts, 1))}
    split = with_originals("w_0", own, adapted)
    assert sum(ppm for _, ppm in split.parties) == PPM
    assert all(ppm > 0 for _, ppm in split.parties)
