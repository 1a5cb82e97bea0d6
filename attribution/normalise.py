"""Words as they are compared: folded letters, with the way back to the text as given.

The cheapest trick of who copies is to swap a letter for its look-alike, to sow soft hyphens or to shout. So
both sides are folded before anything is compared: compatibility forms, case, accents and points, letters of
other scripts that look Latin, every dash, digits of every script, invisible characters, HTML entities, stars
of emphasis inside a word. The fold works character by character, so each folded character knows the one it
came from, and evidence points into the original text. What is folded and what is not: docs/attribution.md,
"Languages and shapes".

Scripts written without spaces give one word a character (with the vowel signs that hang on it), known by
itself and the character that touches it: single ones are shared by any two texts of a language. The exact
stage then works on characters, and a share counts characters above and below its line.
"""

from __future__ import annotations

import functools
import hashlib
import html
import itertools
import re
import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Letters, then the Latin one each passes for. Capitals stand apart where case would lose the likeness: a
# capital Nu is an N, a small one looks like v. A letter and its capital have the same Latin one wherever the
# shapes allow it, or a shouted text in its own script would not be the same text.
_LOOK_ALIKES = {
    letter: latin
    for letters, latins in (
        ("АВЕКМНОРСТУХЅІЈԀҺԚԜ", "abekmhopctyxsijdhqw"),  # Cyrillic
        ("авекмнорстухѕіјԁһӏԛԝ", "abekmhopctyxsijdhlqw"),
        ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "abezhikmnoptyx"),  # Greek
        ("αβεηικμνορτυχγ", "abenikmvoptuxy"),
        ("ɑɡıⅼօոս", "agilonu"),  # Latin and Armenian
        ("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnoprstuvwyz"),  # small capitals
        ("ᎪᏴᏟᎠᎬᏀᎻᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᎽᏃ", "abcdeghjklmprstvwyz"),  # Cherokee
        ("ꓮꓐꓚꓓꓰꓝꓖꓧꓲꓙꓗꓡꓟꓠꓳꓑꓣꓢꓔꓴꓦꓪꓫꓬꓜ", "abcdefghijklmnoprstuvwxyz"),  # Lisu
        ("’‘ʼʻ＇`´", "'''''''"),
        ("ىیکٱ", "ييكا"),  # Arabic letters as Persian, Urdu and the Quran write them
    )
    for letter, latin in zip(letters, latins, strict=True)
}
# These four capitals look like other letters than their small ones do. In a word that is surely Greek they
# are folded by case, so that a heading in capitals is still its text.
_GREEK_TWO_FACED = {ord(letter): letter.lower() for letter in "ΖΗΝΥ"}
_GREEK_FACES = re.compile("[ΖΗΝΥ]")
_GREEK_SURELY = re.compile("[ΓΔΘΛΞΠΣΦΨΩγδζθλξπσςφψωΆΈΉΊΌΎΏΪΫάέήίόύώϊϋΐΰ\u1f00-\u1fff]|[ΗΥ][\u0300-\u036f]")
_GREEK_WORD = re.compile(r"[\w\u0300-\u036f]+")

# Neither seen nor heard: a combining joiner, fillers of Hangul, vowels of Khmer, selectors of a glyph.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u0640") | frozenset(
    map(chr, itertools.chain(range(0x180B, 0x1810), range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)))
)
REMEMBERED_CHARS_MAX = 80  # longer is no word of a language (code, base64), and must not fill the memory
_VIRAMA = 9  # its combining class: it joins two consonants, so it stays; accents, points and tones go
_SPACELESS = (
    "\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\u3005-\u3007"
    "\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48f"
    "\ua980-\ua9df\ua9e0-\ua9ff\uaa60-\uaadf\uf900-\ufaff\U00020000-\U000323af"
)


def _marks() -> str:
    """Return the vowel signs and viramas, no letters to `re`, as the ranges of a character class."""
    blocks = itertools.chain(  # where marks are; all of Unicode would take 0.1 s of every start
        range(0x0300, 0x2000), range(0x302A, 0x3100), range(0xA66F, 0xAC00), range(0x10A01, 0x11F50),
    )  # fmt: skip
    ranges: list[list[int]] = []
    for code in blocks:
        if unicodedata.category(chr(code))[0] == "M" and _FOLD[chr(code)]:
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(low)}-{chr(high)}" for low, high in ranges)


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a text: hash uint64 (n,), and where each stands in the text, int32 (n,), half-open."""

    texts: tuple[str, ...]
    hashes: NDArray[np.uint64]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Folded:
    """Folded text; for each of its characters [start, end) in the original, or None: the same places."""

    text: str
    starts: NDArray[np.int32] | None
    ends: NDArray[np.int32] | None


class _Fold(dict[str, str]):
    """One character's folded form, remembered; at most as large as Unicode."""

    def __missing__(self, char: str) -> str:
        folded = self[char] = _fold_char(char)
        return folded


def _fold_char(char: str) -> str:
    if char in _LOOK_ALIKES:
        return _LOOK_ALIKES[char]
    category = unicodedata.category(char)
    if category == "Pd":
        return "-"
    if category in {"Cf", "Me"} or char in _INVISIBLE or (category == "Cc" and not char.isspace()):
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(char))
    parts = unicodedata.normalize("NFKD", char)
    bare = "".join(part for part in parts if unicodedata.combining(part) in (0, _VIRAMA))
    lowered = unicodedata.normalize("NFKD", bare.casefold())
    return "".join(_LOOK_ALIKES.get(part, part) for part in lowered if part not in _INVISIBLE)


_FOLD = _Fold()
_MARKS = _marks()
_ASCII_WORD = re.compile(r"[a-z0-9]+(?:'[a-z0-9]+)*")
_LETTERS = rf"[^\W_{_SPACELESS}]+(?:[{_MARKS}]+[^\W_{_SPACELESS}]*)*"
_WORD = re.compile(rf"{_LETTERS}(?:'{_LETTERS})*|(?=[^\W_])[{_SPACELESS}][{_MARKS}]*")
_SPACELESS_CHAR = re.compile(f"[{_SPACELESS}]")
_RARE = re.compile(r"[\x00-\x08\x0e-\x1b\x7f&]|\*\*")
_MARKUP = re.compile(
    r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});|(?<=[^\W_])\*\*(?=[^\W_])"
)


def fold(text: str) -> Folded:
    """Fold a text, character by character."""
    if text.isascii() and not _RARE.search(text):
        return Folded(text.lower().replace("`", "'"), None, None)
    if _GREEK_FACES.search(text):
        text = _GREEK_WORD.sub(_by_case_if_greek, text)
    folded, starts, ends = list[str](), list[int](), list[int]()
    cursor = 0
    for match in _MARKUP.finditer(text) if "&" in text or "**" in text else ():
        meant = html.unescape(match.group()) if match.group()[0] == "&" else ""
        if meant == match.group():
            continue  # no entity of that name
        folded += [_FOLD[char] for char in text[cursor : match.start()]]
        folded.append("".join(_FOLD[char] for char in meant))
        starts += [*range(cursor, match.start()), match.start()]
        ends += [*range(cursor + 1, match.start() + 1), match.end()]
        cursor = match.end()
    folded += [_FOLD[char] for char in text[cursor:]]
    lengths = np.fromiter(map(len, folded), np.int32, len(folded))
    rest = np.arange(cursor, len(text), dtype=np.int32)
    return Folded(
        "".join(folded),
        np.repeat(np.append(np.array(starts, np.int32), rest), lengths),
        np.repeat(np.append(np.array(ends, np.int32), rest + np.int32(1)), lengths),
    )


def _by_case_if_greek(match: re.Match[str]) -> str:
    word = match.group()
    return word.translate(_GREEK_TWO_FACED) if _GREEK_SURELY.search(word) else word


def _paired(found: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Return the words, each character of a script without spaces together with the one that touches it."""
    result = list(found)
    for place, ((word, start, end), (after, follows, _)) in enumerate(itertools.pairwise(found)):
        if end == follows and _SPACELESS_CHAR.match(word) and _SPACELESS_CHAR.match(after):
            result[place] = (word + after, start, end)
    return result


def words(text: str) -> Words:
    """Return the text's words, folded and hashed, with their offsets in the text as given."""
    folded = fold(text)
    pattern = _ASCII_WORD if folded.text.isascii() else _WORD
    found = [(match.group(), match.start(), match.end()) for match in pattern.finditer(folded.text)]
    starts = np.fromiter((start for _, start, _ in found), np.int32, len(found))
    ends = np.fromiter((end for _, _, end in found), np.int32, len(found))
    if folded.starts is not None and folded.ends is not None and found:
        starts, ends = folded.starts[starts], folded.ends[ends - 1]
    texts = tuple(word for word, _, _ in (found if pattern is _ASCII_WORD else _paired(found)))
    name = word_hash if max(map(len, texts), default=0) <= REMEMBERED_CHARS_MAX else _hash
    hashes = np.fromiter(map(name, texts), np.uint64, len(texts))
    return Words(texts, hashes, starts, ends)


def _hash(word: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )


@functools.lru_cache(maxsize=1 << 17)  # the words of a language; a flood of made-up ones cannot grow it
def word_hash(word: str) -> int:
    """Return the word's 64-bit name, the same on every machine."""
    return _hash(word)
