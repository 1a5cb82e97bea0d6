"""Words as they are compared: folded letters, with the way back to the text as given.

The cheapest trick of who copies is to swap a letter for its look-alike, to sow soft hyphens or to shout. So
both sides are folded before anything is compared: compatibility forms, case, accents, Cyrillic and Greek
letters that look Latin, every dash, invisible characters. The fold works character by character, so each
folded
character knows the one it came from, and evidence points into the original text. Scripts written without
spaces give one word a character: the exact stage then works on characters.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Original letter, then the Latin one it passes for. Capitals first, before case is folded: a capital Nu is
# an N,
# a small one looks like v.
_LOOK_ALIKES = {
    pair[0]: pair[1]
    for pair in [
        "Аa",
        "Вb",
        "Еe",
        "Кk",
        "Мm",
        "Нh",
        "Оo",
        "Рp",
        "Сc",
        "Тt",
        "Уy",
        "Хx",
        "Ѕs",
        "Іi",
        "Јj",
        "Ԁd",
        "Һh",
        "Ԛq",
        "Ԝw",
        "аa",
        "вb",
        "еe",
        "кk",
        "мm",
        "нh",
        "оo",
        "рp",
        "сc",
        "тt",
        "уy",
        "хx",
        "ѕs",
        "іi",
        "јj",
        "ԁd",
        "һh",
        "ӏl",
        "ԛq",
        "ԝw",
        "Αa",
        "Βb",
        "Εe",
        "Ζz",
        "Ηh",
        "Ιi",
        "Κk",
        "Μm",
        "Νn",
        "Οo",
        "Ρp",
        "Τt",
        "Υy",
        "Χx",
        "αa",
        "βb",
        "εe",
        "ηn",
        "ιi",
        "κk",
        "μm",
        "νv",
        "οo",
        "ρp",
        "τt",
        "υu",
        "χx",
        "γy",
        "ɑa",
        "ɡg",
        "ıi",
        "ⅼl",
        "օo",
        "ոn",
        "սu",
    ]
}
_SPACELESS = (
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff"
)
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W_{_SPACELESS}]+(?:'[^\W_{_SPACELESS}]+)*")


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a text: hash uint64 (n,), and where each stands in the text, int32 (n,), half-open."""

    texts: tuple[str, ...]
    hashes: NDArray[np.uint64]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]


class _Fold(dict[str, str]):
    """One character's folded form, remembered; at most as large as Unicode."""

    def __missing__(self, char: str) -> str:
        folded = self[char] = _fold_char(char)
        return folded


def _fold_char(char: str) -> str:
    if char in "’‘ʼ＇`´":
        return "'"
    if unicodedata.category(char) in {"Cf", "Pd"} or char == "\u034f":
        return "-" if unicodedata.category(char) == "Pd" else ""
    if char in _LOOK_ALIKES:
        return _LOOK_ALIKES[char]
    bare = "".join(part for part in unicodedata.normalize("NFKD", char) if not "\u0300" <= part <= "\u036f")
    lowered = unicodedata.normalize("NFKC", bare).casefold()
    return "".join(_LOOK_ALIKES.get(part, part) for part in lowered)


_FOLD = _Fold()


def fold(text: str) -> tuple[str, NDArray[np.int32] | None]:
    """Return the folded text and, for each folded character, the index of its original (None: the same)."""
    if text.isascii():
        return text.lower().replace("`", "'"), None
    folded = [_FOLD[char] for char in text]
    lengths = np.fromiter(map(len, folded), np.int32, len(folded))
    return "".join(folded), np.repeat(np.arange(len(folded), dtype=np.int32), lengths)


def words(text: str) -> Words:
    """Return the text's words, folded and hashed, with their offsets in the text as given."""
    folded, origin = fold(text)
    found = [(match.group(), match.start(), match.end()) for match in _WORD.finditer(folded)]
    starts = np.fromiter((start for _, start, _ in found), np.int32, len(found))
    ends = np.fromiter((end for _, _, end in found), np.int32, len(found))
    if origin is not None and found:
        starts, ends = origin[starts], origin[ends - 1] + np.int32(1)
    texts = tuple(word for word, _, _ in found)
    hashes = np.fromiter(map(word_hash, texts), np.uint64, len(texts))
    return Words(texts, hashes, starts, ends)


@functools.lru_cache(maxsize=1 << 17)  # the words of a language; a flood of made-up ones cannot grow it
def word_hash(word: str) -> int:
    """Return the word's 64-bit name, the same on every machine."""
    return int.from_bytes(
        hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )
