"""Answers of every language and shape, against a catalogue of texts written for this in 24 languages."""

from __future__ import annotations

import html
import itertools
import json
import re
import tracemalloc
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from attribution import Attributor, SourceWork, build_index
from attribution.arriving import SEGMENTS_MAX
from attribution.engine import CHARACTERS_A_STEP, AttributionStream
from attribution.normalise import words
from attribution.ownership import quarantined
from attribution.terms import PPM, Attribution

LANGUAGES: dict[str, str] = {
    row["language"]: row["text"]
    for row in map(
        json.loads,
        (Path(__file__).parent / "corpus" / "languages.jsonl").read_text(encoding="utf-8").splitlines(),
    )
}
TALE = (
    "The ferryman at Alder Reach kept two ledgers, one for coins and one for promises. "
    "Anyone who could not pay wrote down what they would do instead, and he never once asked for it. "
    "When the bridge was finished the ferry stopped, and the second ledger was read aloud in the hall. "
    "A roof was mended that week, three orchards were pruned, and a quarrel of nineteen years was ended. "
    "The ferryman listened from the doorway, counting on his fingers, and went home without a word."
)
CODE = """def settle(ledger, promises):
    open_items = [entry for entry in ledger if not entry.paid]
    for entry in sorted(open_items, key=lambda one: one.written_on):
        promise = promises.pop(entry.name, None)
        if promise is None:
            continue
        entry.paid = promise.kept_on
        yield entry, promise
    print("unsettled promises:", len(promises))
"""
VERSE = """Low tide, and the ladders lean against the rain,
the herring boats are painted shut till spring,
my father's coat still answers to his name
and hangs as if the door had ears to ring.

We count the nets by candle, not by day,
for daylight has a price we cannot meet;
the gulls have sold the harbour wall away
and walk like bailiffs up and down the street."""
OWN = LANGUAGES | {"tale": TALE, "code": CODE, "verse": VERSE}


@pytest.fixture(scope="module")
def everything(own_works, tmp_path_factory) -> Attributor:
    folder = tmp_path_factory.mktemp("shapes") / "index"
    works = [SourceWork(name, text, 5, f"creator of {name}") for name, text in OWN.items()]
    build_index([*own_works, *works], folder, threads=1)
    return Attributor.open(folder)


def share_of(found: Attribution, work_id: str) -> int:
    return sum(share.ppm for share in found.shares if share.work_id == work_id)


def pushed(stream: AttributionStream, pieces: list[str]) -> AttributionStream:
    for piece in pieces:
        stream.push(piece)
    return stream


# Languages


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "written",
    [
        str,
        lambda text: unicodedata.normalize("NFD", text),
        lambda text: unicodedata.normalize("NFKC", text),
        "\u200b".join,
        "\u00ad".join,
        lambda text: text.upper(),
        lambda text: text.replace(" ", "  \u2067"),
        lambda text: html.escape(text).replace(",", "&#44;"),
    ],
    ids=["as given", "NFD", "NFKC", "zero width", "soft hyphens", "capitals", "bidi marks", "entities"],
)
def test_a_copied_passage_is_its_works_in_every_language(everything, language, written):
    assert share_of(everything.attribute(written(LANGUAGES[language])), language) >= 950_000


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_quoted_sentence_is_found_where_it_stands_in_both_texts(everything, language):
    source = LANGUAGES[language]
    at = source.find(" ", 90) + 1 if " " in source[90:130] else 40  # from the middle of a passage
    quote = source[at : at + 90]
    text = f"🙂 Somebody asked for this: «{quote}» — and nothing else, thank you very much."
    found = everything.attribute(text)
    (share,) = (share for share in found.shares if share.work_id == language)
    (match,) = (match for match in share.matches if match.kind == "verbatim")
    assert text.find(quote) <= match.start
    assert match.end <= text.find(quote) + len(quote)
    there = words(source[match.work_start : match.work_end]).texts
    assert words(text[match.start : match.end]).texts == there
    assert len(there) >= len(words(quote).texts) - 2  # a word cut in two at either end
    assert found.unattributed_ppm > 0


@pytest.mark.parametrize("language", ["zh-Hans", "ja", "th", "fa", "hi", "ru", "ta", "ka"])
def test_what_introduces_a_copy_in_another_language_is_not_part_of_it(everything, language):
    before = "Of course! I would be glad to help you with that. You can find the text below. "
    found = everything.attribute(before + LANGUAGES[language])
    assert found.shares
    assert all(match.start >= len(before) for share in found.shares for match in share.matches)


def test_a_share_counts_the_same_words_above_and_below_its_line(everything):
    """Characters where there are no spaces, words elsewhere, and both in a text of two languages."""
    text = LANGUAGES["ja"] + "\n\n" + "Restart the router, wait a minute, then try again. " * 4
    found = everything.attribute(text)
    assert found.words == len(words(text).texts)
    assert share_of(found, "ja") == pytest.approx(
        len(words(LANGUAGES["ja"]).texts) * PPM / found.words, abs=1
    )


@pytest.mark.parametrize(
    ("language", "own", "place"),
    [
        ("ja", "東京タワーの高さは三百三十三メートルです。", 60),
        ("zh-Hans", "东京的人口大约是一千四百万。", 30),
    ],
)
def test_a_sentence_of_the_same_script_is_not_paid_for_the_copy_beside_it(everything, language, own, place):
    """Any two texts of a language share characters; that alone restates nothing."""
    found = everything.attribute(own + LANGUAGES[language][place : place + 30])
    assert [share.work_id for share in found.shares] == [language]
    assert all(match.start >= len(own) for match in found.shares[0].matches)


def test_no_honest_work_of_another_language_is_held_up(tmp_path):
    """Rules that were made on English judge English: to its encoder, two Korean texts are much the same."""
    people = ["할머니는", "우체부는", "어부는", "선생님은", "목수는", "아이들은"]
    shops = ["시장에서 사과를 골랐다", "부두에서 그물을 말렸다", "교실에서 지도를 펼쳤다"]
    hills = ["언덕에서 연을 날렸다", "숲에서 버섯을 찾았다", "들판에서 별을 세었다"]
    works = [
        SourceWork(name, " ".join(f"{who} {what}." for who in people for what in did), number, name)
        for number, (name, did) in enumerate([("one", shops), ("two", hills)])
    ]
    works += [SourceWork(name, text, 5, f"creator of {name}") for name, text in OWN.items()]
    build_index(works, tmp_path / "index", threads=1)
    assert quarantined(tmp_path / "index") == {}


# Shapes

WRAPPED = re.sub(r"(.{60}\S*) ", r"\1\n", TALE)
SHAPES: dict[str, tuple[str, Callable[[str], str], str, int]] = {
    # name: (work, how it is written, what stands around it, the least of the copied part's share)
    "soft-wrapped": ("tale", lambda _: WRAPPED, "", 950_000),
    "CRLF": ("tale", lambda _: WRAPPED.replace("\n", "\r\n"), "", 950_000),
    "numbered list": ("tale", lambda text: _lines(text, "{n}. {line}"), "", 850_000),
    "bullets": ("tale", lambda text: _lines(text, "- {line}"), "", 950_000),
    "headings": ("tale", lambda text: _lines(text, "## Part {n}\n{line}"), "", 750_000),
    "table rows": ("tale", lambda text: "| a | b |\n|---|---|\n" + _lines(text, "| {n} | {line} |"), "", 800_000),
    "block quote": ("tale", lambda _: "> " + WRAPPED.replace("\n", "\n> "), "", 950_000),
    "subtitles": ("tale", lambda text: _lines(text, "{n}\n00:00:0{n},000 --> 00:00:0{n},900\n{line}\n"), "", 550_000),
    "dialogue": ("tale", lambda text: _lines(text, "“{line}” he said."), "", 800_000),
    "hyphens at line ends": ("tale", lambda text: re.sub(r"(?<=[a-z]{4})(?=[a-z]{4})", "-\n", text, count=4), "", 950_000),
    "bold within words": ("tale", lambda text: re.sub(r"\b([a-z]{3})([a-z]{3})", r"**\1**\2", text), "", 950_000),
    "bold and italic words": ("tale", lambda text: re.sub(r"\b(ferry\w*|ledger\w*)\b", r"***\1***", text), "", 950_000),
    "dashes for spaces": ("tale", lambda text: text.replace(", ", "—").replace(". ", "…"), "", 950_000),
    "smart quotes": ("tale", lambda text: f"“{text}”".replace("a ", "‘a’ "), "", 950_000),
    "OCR": ("tale", lambda text: text.replace("finished", "fin1shed").replace("home", "horne"), "", 900_000),
    "HTML": ("tale", lambda text: _lines(text, "<p class=&quot;x&quot;>{line}</p>"), "", 700_000),
    "LaTeX around it": ("tale", str, "\n\\begin{equation} E = m c^2 \\label{eq:one} \\end{equation}\n", 950_000),
    "links around it": ("tale", str, "\nSee https://example.org/a.b?c=d&e=f or mail me@example.org.\n", 950_000),
    "emoji around it": ("tale", lambda text: text.replace(". ", ". 👩‍👩‍👧🏽 "), "", 950_000),
    "two columns of look-alikes": ("tale", lambda text: text.translate(str.maketrans("aeopcxAEKM", "аеорсхАЕКМ")), "", 950_000),
    "fullwidth": ("tale", lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text), "", 950_000),
    "small capitals": ("tale", lambda text: text.translate(str.maketrans("abcdefghijklmnoprstuvwyz", "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ")), "", 950_000),
    "doubled spaces": ("tale", lambda text: text.replace(" ", " \u00a0\u2003"), "", 950_000),
    "code block": ("code", lambda text: f"```python\n{text}```", "\n\nThis walks over the open entries.\n", 900_000),
    "verse": ("verse", str, "", 950_000),
    "verse as prose": ("verse", lambda text: " ".join(text.split()), "", 950_000),
}  # fmt: skip


def _lines(text: str, template: str) -> str:
    lines = re.split(r"(?<=\.) ", text)
    return "\n".join(template.format(n=number, line=line) for number, line in enumerate(lines, 1))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_copied_text_is_found_in_every_shape(everything, shape):
    work, written, around, least_ppm = SHAPES[shape]
    text = written(OWN[work])
    found = everything.attribute(around + text + around)
    own = len(words(text).texts) * PPM / found.words
    assert share_of(found, work) >= own * least_ppm / PPM
    for match in (match for share in found.shares for match in share.matches):
        assert 0 <= match.start < match.end <= len(around + text + around)


def test_code_is_its_works_and_the_prose_beside_it_is_not(everything):
    text = f"You could write it like this:\n```python\n{CODE}```\nRestart the router afterwards and wait for a minute."
    found = everything.attribute(text)
    assert [share.work_id for share in found.shares] == ["code"]
    inside = (text.index("```python"), text.rindex("```"))
    assert all(inside[0] <= match.start and match.end <= inside[1] for match in found.shares[0].matches)


# Streams


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.sampled_from([*OWN.values(), "🙂👩‍👩‍👧🏽 ", "𝐓𝐡𝐞 ", "\n\n| a | b |\n", "```\n", "\ud83d", "&amp;"]), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 3_000), max_size=12),
    data=st.data(),
)  # fmt: skip
def test_any_cut_of_a_stream_gives_the_result_of_the_whole_even_within_a_character(
    everything, parts, cuts, data
):
    text = "".join(parts)
    units = text.encode("utf-16-le", "surrogatepass")  # as JSON would carry it: a character in halves
    halves = [units[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(units), 2)]
    bounds = [0, *sorted(min(cut, len(halves)) for cut in cuts), len(halves)]
    pieces = ["".join(halves[low:high]) for low, high in itertools.pairwise(bounds)]
    stream = pushed(everything.stream(), pieces)
    assert stream.finish() == everything.attribute(text)


@pytest.mark.parametrize("work", ["th", "ja", "code", "tale"])
def test_one_unit_at_a_time_with_empty_pieces_between_gives_the_same(everything, work):
    text = f"🙂{OWN[work]}🙂"
    units = text.encode("utf-16-le")
    pieces = [units[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(units), 2)]
    stream = pushed(everything.stream(), [part for piece in pieces for part in (piece, "")])
    assert stream.finish() == everything.attribute(text)


def test_an_answer_alone_and_among_fifty_others_has_the_same_shares(everything, own_outputs):
    texts = [*OWN.values(), *(output["text"] for output in own_outputs)]
    texts = [*texts, *(f"{one} {other}" for one, other in zip(texts, texts[7:], strict=False))][:51]
    alone = [Attributor(everything.encoder, everything.scorer, everything.index, everything.method).attribute(text) for text in texts]  # fmt: skip
    streams = [everything.stream() for _ in texts]
    assert len(streams) == 51
    for at in range(0, max(map(len, texts)), 37):  # a piece of each in turn, as fifty readers would get them
        for stream, text in zip(streams, texts, strict=True):
            stream.push(text[at : at + 37])
    finishing = [stream.finishing() for stream in streams]
    found: dict[int, Attribution] = {}
    while len(found) < len(finishing):  # and a step of each in turn
        for number, steps in enumerate(finishing):
            if number not in found:
                try:
                    next(steps)
                except StopIteration as end:
                    found[number] = end.value
    assert [found[number] for number in range(len(texts))] == alone


def test_the_choices_of_one_request_do_not_hear_each_other(everything):
    first, second = TALE, LANGUAGES["ja"]
    one, other = everything.stream(), everything.stream()
    for at in range(0, 500, 11):
        one.push(first[at : at + 11])
        other.push(second[at : at + 11])
    assert other.finish() == everything.attribute(second)
    assert one.finish() == everything.attribute(first)


def test_shares_do_not_depend_on_what_was_attributed_before(everything):
    texts = list(OWN.values())
    first = [everything.attribute(text) for text in texts]
    assert [everything.attribute(text) for text in reversed(texts)] == first[::-1]


# Long answers

LONG = {
    "20,000 tokens, copied": " ".join(text for text in OWN.values() if text.isascii()) * 48,
    "20,000 tokens of Japanese": LANGUAGES["ja"] * 125,
    "20,000 tokens, new": " ".join(f"The {n} of March brought {n * 7} letters, {n % 13} of them late." for n in range(1_400)),
    "a megabyte of rows": "| the same row of a table |\n" * 38_000,
}  # fmt: skip


class Counting:
    """An encoder that says how many characters each call took."""

    def __init__(self, encoder) -> None:
        self._encoder, self.model_sha256, self.dim = encoder, encoder.model_sha256, encoder.dim
        self.texts: list[str] = []

    def encode(self, texts):
        self.texts += texts
        return self._encoder.encode(texts)


@pytest.mark.parametrize("kind", LONG)
def test_a_long_answer_is_held_in_megabytes_and_finished_in_small_steps(everything, kind):
    text = LONG[kind]
    counting = Counting(everything.encoder)
    stream = Attributor(counting, everything.scorer, everything.index, everything.method).stream()  # type: ignore[arg-type]
    pushed(stream, [text[at : at + 4_000] for at in range(0, len(text) // 2, 4_000)])
    tracemalloc.start()
    try:
        pushed(
            stream,
            [
                text[at : at + 4_000]
                for at in range(len(text) // 2 // 4_000 * 4_000 + 4_000, len(text), 4_000)
            ],
        )
        held = tracemalloc.get_traced_memory()[0]
        finishing, most = stream.finishing(), 0
        with pytest.raises(StopIteration):  # noqa: PT012  the generator's result is what it raises
            while True:
                counting.texts.clear()
                next(finishing)
                if len(counting.texts) > 1:
                    most = max(most, sum(map(len, counting.texts)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most <= CHARACTERS_A_STEP
    assert len(stream._arriving.sentences) <= SEGMENTS_MAX
    assert held <= (10 << 20)
    assert peak <= (200 << 20 if len(text) > 900_000 else 60 << 20)


# Anything


NASTY = st.text(
    st.characters(categories=("L", "M", "N", "P", "S", "Z", "C", "Cs")), max_size=200
) | st.text(st.sampled_from("aé東ก้ि🙂\u0301\u200d\ud83d\ude42\x00\n .|#`*&;"), max_size=300)  # fmt: skip


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=NASTY, beside=st.sampled_from(["", TALE, LANGUAGES["ja"], LANGUAGES["ar"]]))
@example(text="\x00" * 50, beside=TALE)
@example(text="&" * 3000, beside="")
@example(text="＆＃" * 1000, beside="")
def test_no_text_breaks_it_and_shares_always_sum(everything, text, beside):
    found = everything.attribute(text + beside)
    assert found.unattributed_ppm + sum(share.ppm for share in found.shares) == PPM
    assert all(0 <= m.start < m.end <= len(text + beside) for share in found.shares for m in share.matches)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000, "東" * 100_000, "e" + "\u0301" * 10_000, "ก" + "ิ" * 10_000, "." * 20_000, "7" * 50_000, "1 2 3 " * 3_000,
        "🙂" * 5_000, "\ud800" * 5_000, "\x00" * 50_000, "\n" * 50_000, "|" * 20_000, "```\n" * 3_000, "# a\n" * 2_000, "&amp;" * 5_000,
        "**a" * 5_000, "a" + "'a" * 20_000, "\u202e" * 10_000, "ﷺ" * 2_000, "\u1160" * 9_000,
    ],
    ids=lambda text: f"{text[:4]!a} x {len(text)}",
)  # fmt: skip
def test_a_flood_of_one_thing_is_nobodys(everything, text):
    found = everything.attribute(text)
    assert (found.shares, found.unattributed_ppm) == ((), PPM)


# Processors


class OtherProcessor:
    """An encoder whose vectors are off as another instruction set's were measured to be.

    AVX2 beside AVX-512: nine texts in ten within 1e-6 of cosine, the tenth up to .002 away
    (tests/bench/test_instruction_sets.py). Here every text is .002 away.
    """

    dim = 384

    def __init__(self, encoder) -> None:
        self._encoder, self.model_sha256 = encoder, encoder.model_sha256

    def encode(self, texts):
        rows = self._encoder.encode(texts)
        for row, text in zip(rows, texts, strict=True):
            noise = np.random.default_rng(len(text)).standard_normal(self.dim)
            noise -= noise @ row * row
            row += np.sqrt(0.004) * noise / np.linalg.norm(noise)
            row /= np.linalg.norm(row)
        return rows


def test_another_processors_vectors_move_no_share_by_more_than_5000_ppm(everything, own_outputs):
    other = Attributor(OtherProcessor(everything.encoder), everything.scorer, everything.index, everything.method)  # type: ignore[arg-type]  # fmt: skip
    for text in [*(output["text"] for output in own_outputs), *OWN.values()]:
        here, there = everything.attribute(text), other.attribute(text)
        works = {share.work_id for share in (*here.shares, *there.shares)}
        assert all(abs(share_of(here, work) - share_of(there, work)) <= 5_000 for work in works)
