"""What a file is, and the text, title and shape of those that are one document."""

import gzip
import io

import pytest

from resizable_search.corpora.decoding import SourceFile, UnreadableError
from resizable_search.corpora.files import FilesCorpus
from resizable_search.corpora.formats import (
    FileText,
    format_of,
    html_text,
    machine_made,
    markdown_text,
    read_text,
    rst_headings,
)
from tests.corpora.files.conftest import pdf


@pytest.mark.parametrize(
    ("name", "form", "packing"),
    [
        ("a.txt", "text", ""),
        ("LICENSE", "text", ""),
        ("a.py", "text", ""),
        (".md", "text", ""),
        ("a.b/c.MD", "markdown", ""),
        ("a.rst.gz", "rst", ".gz"),
        ("a.htm", "html", ""),
        ("a.svg", "html", ""),
        ("a.pdf", "pdf", ""),
        ("a.ndjson.zst", "jsonl", ".zst"),
        ("a.csv.gz", "csv", ".gz"),
        ("a.tsv", "tsv", ""),
        ("a.parquet", "parquet", ""),
        ("a.gz", "text", ".gz"),
    ],
)
def test_a_name_says_how_a_file_is_read(name: str, form: str, packing: str):
    assert format_of(name) == (form, packing)


def parsed(write, name: str, content: str | bytes) -> FileText:
    form, packing = format_of(name)
    return read_text(SourceFile(str(write({name: content}) / name), packing), form)


def test_headings_of_markdown_stand_in_no_code_and_no_quotation():
    text = (
        "# One `x` *y*\n\n```\n# no\n```\n> # quoted\n\n- # item\n\n"
        "Two [l](u)\n---\ntext\n\n    # code\n### Three ###\n"
    )
    _, headings, title = markdown_text(text)
    assert title == ""
    assert [(h.level, h.title) for h in headings] == [(1, "One x y"), (2, "Two l"), (3, "Three")]
    assert [text[h.offset :].split("\n")[0] for h in headings] == [
        "# One `x` *y*",
        "Two [l](u)",
        "### Three ###",
    ]


def test_front_matter_of_markdown_is_no_heading_and_has_a_title():
    text = '---\ntags: [a]\ntitle: "My post"\n---\n\n# One\n'
    _, headings, title = markdown_text(text)
    assert title == "My post"
    assert [(text[h.offset :], h.title) for h in headings] == [("# One\n", "One")]
    assert markdown_text("---\n\ntext\n")[1] == []


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("title: plain", "plain"),
        ("title: 'it''s'  ", "it's"),
        ('title: "a \\"quoted\\" word"', 'a "quoted" word'),
        ("title: a word # a remark", "a word"),
        ("title: 'a word' # a remark", "a word"),
        ("title: >-\n  below", ""),
        ("title: '", ""),
    ],
)
def test_a_title_in_front_matter_is_what_yaml_says(line: str, title: str):
    assert markdown_text(f"---  \n{line}\n--- \nText") == (f"---  \n{line}\n--- \nText", [], title)


def test_a_picture_in_markdown_is_no_text():
    text = "# A\n\n![alt](data:image/png;base64," + "iVBORw0KGgo/" * 1000 + ")\n\nword"
    assert markdown_text(text, bare=True)[0] == "# A\n\n![alt]()\n\nword"
    assert markdown_text(text)[0] == text


def test_a_list_that_is_nested_too_deeply_for_the_parser_stays():
    assert markdown_text("* " * 100 + "word", bare=True)[0] == "* " * 100 + "word"


@pytest.mark.parametrize(
    "part",
    [
        "<!-- ",
        "<!--\n",
        "x <script>",
        "<nav ",
        "<` ",
        "# [",
        "# ![",
        "# <a",
        "# <!-- ",
        "# [](",
        "- [](#",
        "- ](#",
    ],
)
def test_what_is_opened_and_never_closed_takes_no_time_by_its_square(part: str):
    """It took minutes: a hundred kilobytes of it."""
    prefix = part[:2] if part[1] == " " else ""
    mark = part.removeprefix("# ").removeprefix("- ")
    text = prefix + mark * (100_000 // len(mark))
    read, headings, _ = markdown_text(text, bare=True)
    assert read == text
    assert all(len(heading.title) <= 500 for heading in headings)


def test_headings_of_restructured_text_rank_in_the_order_of_their_adornments():
    text = (
        "=====\nTitle\n=====\n\nintro\n\nSection\n-------\ntext\n\n  indented\n  --------\n\nSub\n~~~\n\n"
        "Again\n-----\n\nshort\n--\n\n====  ====\na     b\n====  ====\n"
    )
    headings = rst_headings(text)
    assert [(h.level, h.title) for h in headings] == [(1, "Title"), (2, "Section"), (3, "Sub"), (2, "Again")]
    assert text[headings[0].offset :].startswith("=====\nTitle")
    assert text[headings[1].offset :].startswith("Section\n-----")


PAGE = """<!doctype html><html><head><title>T &amp; x
 y</title><style>p { color: red }</style><script>if (a < b) {}</script></head><body>Intro
 text<h1>One <b>two</b></h1><p>Hello <i>w</i>orld<br>next</p><pre>a
  b</pre><ul><li>first<li>second</ul><table><tr><td>a<td>b<tr><td>c</table><!-- no -->
tail<svg><text>no</text></svg> end<h2></h2><h2>Last</h2>"""


def test_html_is_read_as_paragraphs_with_headings():
    text, headings, title = html_text(PAGE)
    assert text == (
        "Intro text\n\nOne two\n\nHello world\nnext\n\na\n  b\n\nfirst\nsecond\n\na b\nc\n\ntail end\n\nLast"
    )
    assert [(h.level, h.title, text[h.offset : h.offset + 4]) for h in headings] == [
        (1, "One two", "One "), (2, "Last", "Last"),
    ]  # fmt: skip
    assert title == "T & x y"


SITE = """<html><body><header role="banner">My site</header><nav><a href=x>Home</a> <h2>Pages</h2></nav>
<div class=s role="navigation">Contents</div><main><h1>One<a class="headerlink" href="#one">¶</a></h1>
<p>Words <button>Copy</button>stay.</p></main><footer>© me</footer></body></html>"""


def test_navigation_of_a_page_is_left_out_unless_it_is_all_there_is(write):
    text, headings, _ = html_text(SITE, bare=True)
    assert text == "One\n\nWords stay."
    assert headings == [(0, 1, "One")]
    assert "Home" in html_text(SITE)[0]
    menu = write({"a.html": "<nav><a href=x>Home</a></nav>"}) / "a.html"
    assert read_text(SourceFile(str(menu)), "html", bare=True).text == "Home"


README = """---
title: Mine
---
<!-- YAML
added: v1
-->
* [One](#one)
  * [Two](#two)

# One <!-- {#one} -->

Words<!-- a note --> and `<!-- code -->`.

<script>
run()
</script>

```html
<!-- shown -->
```

* [Away](other.md) <!-- x -->
"""


def test_comments_scripts_and_contents_of_markdown_are_left_out_and_lines_stay():
    text, headings, title = markdown_text(README, bare=True)
    assert "\n".join(filter(None, text.split("\n")[3:])) == (
        "# One \nWords and `<!-- code -->`.\n```html\n<!-- shown -->\n```\n* [Away](other.md) "
    )
    assert text.count("\n") == README.count("\n")
    assert [(text[h.offset :][:5], h.title) for h in headings] == [("# One", "One")]
    assert title == "Mine"
    assert markdown_text(README)[0] == README


PROSE = "It was a bright cold day in April, and the clocks were striking thirteen. " * 30


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.txt", PROSE, ""),
        ("a.txt", "自然言語を処理する方法について。" * 200, ""),
        ("a.py", "x = [1, 2, 3]\n" * 300, ""),
        ("a.py", PROSE[:500] + "\nx = '" + "abcd" * 300 + "'\n" + "y = 1\n" * 300, ""),
        ("a.json", '{\n "mappings": {},\n "sources": []\n}\n', ""),
        ("a.js.map", '{"version":3,"sources":["a"],"mappings":"AAAA"}', "a source map"),
        ("search.js", "index=" + PROSE, "minified"),
        ("a.css.gz", "a{b:c}" * 400, "minified"),
        ("data", "QUJD" * 400, "minified"),
        ("a.md", "QUJD" * 400, ""),
        ("yarn.lock", "x", "a lock file"),
        ("sub/Package-Lock.json", "{}", "a lock file"),
        ("a.ps", "%!PS-Adobe-3.0\n", "PostScript"),
        ("a.SVG", "", "SVG"),
        ("drawing", '<?xml version="1.0"?>\n<!-- x -->\n<svg width="1">', "SVG"),
        ("a.go", "// Code generated by x. DO NOT EDIT.\npackage a\n", "generated"),
        ("a.toml", "# This is automatically @generated by Cargo.\n", "generated"),
        ("a.txt", "Never write Code generated by x. DO NOT EDIT. in prose\n", ""),
    ],
)
def test_what_is_not_for_people_is_seen_by_its_content(name: str, text: str, kind: str):
    assert machine_made(name, text) == kind


def test_html_that_is_nested_too_deeply_to_be_read_whole_is_told():
    assert html_text("<div>" * 2000 + "deep" + "</div>" * 2000 + "after")[0] == "deep\n\nafter"
    with pytest.raises(UnreadableError, match="nested too deeply"):
        html_text("<p>before" + "<div>" * 2100 + "deep")


def test_a_nul_in_a_page_is_dropped_as_browsers_do():
    assert html_text("\0<title>T</title><p>o\0ne") == ("one", [], "T")


def test_soft_hyphens_of_a_page_are_not_in_its_text():
    assert html_text("<h1>Ge&shy;samt</h1><pre>Kon&shy;zept</pre>")[0] == "Gesamt\n\nKonzept"


@pytest.mark.parametrize(
    "page",
    [
        "",
        "<",
        "<p",
        "<!--",
        "</p></p>",
        "<title>x",
        "<h1>x",
        "<pre>x",
        "<svg><p>x",
        "&#xD800;&#0;&bad;",
        "<h1><h2>x",
    ],
    ids=lambda page: page[:10],
)
def test_html_that_is_broken_is_read_all_the_same(page: str):
    html_text(page)


def test_a_heading_ends_where_another_one_begins():
    text, headings, _ = html_text("<h1>One<h2>Two</h1>more")
    assert text == "One\n\nTwo\n\nmore"
    assert [(h.level, h.title, text[h.offset : h.offset + 3]) for h in headings] == [
        (1, "One", "One"), (2, "Two", "Two"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("label", "encoding", "text"),
    [
        ("iso-8859-1", "cp1252", "“it” – 5 € … naïve"),
        ("US-ASCII", "cp1252", "café, “quoted”"),
        ("gb2312", "gb18030", "朱镕基 㐀 老城"),
        ("euc-kr", "cp949", "똠각하와 강은"),
        ("shift_jis", "cp932", "髙﨑 ① ～ －"),
        ("x-sjis", "cp932", "髙﨑 ① ～ －"),
        ("euc-jp", "euc_jis_2004", "① 川は毎年"),
        ("iso-2022-jp", "iso2022_jp_ext", "川は毎年 ｱｲ"),
        ("big5", "big5hkscs", "老城 㗎"),
        ("latin5", "cp1254", "eski şehri ağaç"),
        ("x-user-defined", "cp1252", "café"),
    ],
    ids=lambda word: word if word.isascii() else "",
)
def test_a_page_is_read_as_browsers_read_what_it_declares(write, label: str, encoding: str, text: str):
    for start in (
        f"<!-- <meta charset=koi8-r> --><meta charset='{label}'>",
        f'<meta http-equiv="Content-Type" content="text/html; charset={label}">',
        f'<?xml version="1.0" encoding="{label}"?>',
        f'<?xml version="1.0" encoding="koi8-r"?><meta charset={label}>',
    ):
        assert parsed(write, "a.html", f"{start}<p>{text}".encode(encoding)).text == text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
def test_the_mark_or_the_form_of_a_page_goes_before_what_it_declares(write, encoding: str):
    page = '<?xml version="1.0" encoding="windows-1254"?><p>川 naïve'
    assert parsed(write, "a.xhtml", page.encode(encoding)).text == "川 naïve"


def test_bytes_that_a_declared_encoding_lacks_are_replaced(write):
    assert parsed(write, "a.html", b"<meta charset=shift_jis><p>caf\x90 \x90\xec").text == "caf\ufffd 川"


def test_the_encoding_that_a_page_declares_counts_where_it_is_not_utf8(write):
    page = "<meta charset={}><p>Съешь ещё"
    assert parsed(write, "a.html", page.format("koi8-r").encode("koi8-r")).text == "Съешь ещё"
    assert parsed(write, "b.html", page.format("koi8-r").encode()).text == "Съешь ещё"
    for unusable in ("hex", "cp037", "idna", "undefined", "iso-2022-kr", "utf-16"):  # not as browsers read
        page = f"<meta charset={unusable}><p>größer"
        assert parsed(write, "c.html", page.encode("cp1252")).text == "größer"


def test_a_document_is_titled_by_its_first_heading(write):
    assert parsed(write, "a.md", "text\n\n## Head\n").title == "Head"
    assert parsed(write, "a.rst", "Head\n====\n").title == "Head"
    assert parsed(write, "a.html", "<h2>Head</h2>").title == "Head"
    assert parsed(write, "a.html", PAGE).title == "T & x y"
    assert parsed(write, "a.txt", "# Head\n").title == ""


def test_lines_are_those_of_the_file_where_the_text_is(write):
    assert parsed(write, "a.md", "x").outline.lined
    assert parsed(write, "a.txt.gz", gzip.compress(b"x")).outline.lined
    assert not parsed(write, "a.html", "x").outline.lined


def test_pdf_is_read_page_by_page(write):
    content = parsed(write, "a.pdf", pdf(["First page of it.", "Second page of it."], "My paper"))
    assert content.title == "My paper"
    assert [content.text[at:].split("\n")[0].strip() for at in content.outline.pages] == [
        "First page of it.", "Second page of it.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no such thing", "it cannot be read (Stream has ended unexpectedly)"),
        (pdf(["text"])[:200], "it cannot be read (Stream has ended unexpectedly)"),
        (b"", "it cannot be read (Cannot read an empty file)"),
        (pdf(["", ""]), "its pages (2) have no text: they may be scanned"),
    ],
    ids=["words", "cut", "empty", "scanned"],
)
def test_pdf_that_cannot_be_read_is_reported(write, capfd, data: bytes, words: str):
    (block,) = FilesCorpus([write({"a.pdf": data}) / "a.pdf"]).blocks()
    assert [document.problem for document in block.documents] == [words]
    assert capfd.readouterr() == ("", "")


def test_pdf_with_a_password_is_reported(write, tmp_path):
    import pypdf

    writer = pypdf.PdfWriter()
    writer.add_blank_page(72, 72)
    writer.encrypt("secret", algorithm="RC4-128")
    with (tmp_path / "locked.pdf").open("wb") as file:
        writer.write(file)
    with pytest.raises(UnreadableError, match="it needs a password"):
        parsed(write, "a.pdf", (tmp_path / "locked.pdf").read_bytes())


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
def test_pdf_that_its_owners_password_protects_is_read(write, algorithm):
    import pypdf

    writer, data = pypdf.PdfWriter(clone_from=io.BytesIO(pdf(["Its text."]))), io.BytesIO()
    writer.encrypt("", "the owner's", algorithm=algorithm)
    writer.write(data)
    assert parsed(write, "a.pdf", data.getvalue()).text.strip() == "Its text."


def test_without_its_library_pdf_names_the_extra(write, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pypdf", None)
    with pytest.raises(UnreadableError, match=r"pip install .*\[pdf\]"):
        parsed(write, "a.pdf", pdf(["text"]))
