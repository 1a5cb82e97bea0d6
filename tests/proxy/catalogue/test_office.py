import io
import zipfile

import pytest

from proxy.catalogue.office import docx
from proxy.errors import BadRequest, TooLarge

WORDS = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
MAX = 1_000_000


def document(body, *, words=WORDS, packing=zipfile.ZIP_DEFLATED, **more):
    entries = {
        "[Content_Types].xml": "<Types/>",
        "word/document.xml": f'<w:document xmlns:w="{words}" xmlns:mc="http://schemas.openxmlformats.org/'
        f'markup-compatibility/2006" xmlns:a="urn:drawing"><w:body>{body}</w:body></w:document>',
        **{name.replace("__", "/") + ".xml": content for name, content in more.items()},
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


def paragraph(inner):
    return f"<w:p>{inner}</w:p>"


def run(text, properties=""):
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


@pytest.mark.parametrize("words", [WORDS, STRICT])
def test_paragraphs_are_lines_and_runs_are_joined(words):
    body = paragraph(run("The kee") + run("per &amp; ", "<w:b/>") + run("gulls.")) + paragraph(run("Twice."))
    assert docx(document(body, words=words), MAX) == ("", "The keeper & gulls.\nTwice.")


@pytest.mark.parametrize(
    "inner",
    [
        f"<w:del>{run('gone')}</w:del>",
        f"<w:moveFrom>{run('gone')}</w:moveFrom>",
        "<w:r><w:delText>gone</w:delText></w:r>",
        "<w:r><w:instrText>PAGE gone</w:instrText></w:r>",
        run("gone", "<w:vanish/>"),
        run("gone", '<w:vanish w:val="true"/>'),
        "<w:r><a:t>gone</a:t></w:r>",
        f"<mc:AlternateContent><mc:Choice/><mc:Fallback>{run('gone')}</mc:Fallback></mc:AlternateContent>",
        '<w:pPr><w:tabs><w:tab w:val="left"/></w:tabs></w:pPr>',
    ],
)
def test_what_is_not_on_the_page_is_left_out(inner):
    assert docx(document(paragraph(run("a") + inner + run("b"))), MAX)[1] == "ab"


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        (f"<w:ins>{run('new')}</w:ins>", "anewb"),
        (run("shown", '<w:vanish w:val="0"/>'), "ashownb"),
        ("<w:r><w:tab/></w:r>", "a\tb"),
        ("<w:r><w:br/></w:r>", "a\nb"),
        ("<w:r><w:noBreakHyphen/></w:r>", "a\u2011b"),
        (f"<mc:AlternateContent><mc:Choice>{run('c')}</mc:Choice></mc:AlternateContent>", "acb"),
    ],
)
def test_what_is_on_the_page_stays(inner, text):
    assert docx(document(paragraph(run("a") + inner + run("b"))), MAX)[1] == text


def test_cells_of_a_table_are_lines():
    row = "".join(f"<w:tc>{paragraph(run(text))}</w:tc>" for text in ("one", "two"))
    assert docx(document(f"<w:tbl><w:tr>{row}</w:tr></w:tbl>"), MAX)[1] == "one\ntwo"


def test_notes_follow_the_body_and_the_title_is_the_properties():
    notes = f'<w:footnotes xmlns:w="{WORDS}"><w:footnote>{paragraph(run("Not gulls."))}</w:footnote></w:footnotes>'
    core = '<p xmlns:d="http://purl.org/dc/elements/1.1/"><d:creator>x</d:creator><d:title>The &amp; Lamp</d:title></p>'
    raw = document(paragraph(run("Gulls.")), word__footnotes=notes, docProps__core=core)
    assert docx(raw, MAX) == ("The & Lamp", "Gulls.\n\nNot gulls.")


def test_what_is_no_document_is_refused_with_why():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", "b")
    for raw, why in [
        (b"PK\x03\x04 nothing", "damaged"),
        (out.getvalue(), "no Word document"),
        (document("<w:p>"), "is no XML"),
    ]:
        with pytest.raises(BadRequest, match=why):
            docx(raw, MAX)


def test_the_bound_is_on_what_comes_out():
    with pytest.raises(TooLarge):
        docx(document(paragraph(run("gull " * 50))), 100)


def test_a_document_nested_very_deep_is_read():
    deep = "<w:sdt>" * 5_000 + paragraph(run("deep")) + "</w:sdt>" * 5_000
    assert docx(document(deep, packing=zipfile.ZIP_STORED), MAX)[1] == "deep"
