"""Files as a corpus: the documents, what is left out, and going on where one was."""

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resizable_search.corpora import base, files
from resizable_search.corpora.base import Block, Document
from resizable_search.corpora.chunking import PLAIN
from resizable_search.corpora.decoding import SourceFile
from resizable_search.corpora.files import RULES, FilesCorpus, StdinCorpus
from resizable_search.corpora.formats import FileText
from resizable_search.errors import CorpusError, UsageError
from resizable_search.progress import Progress
from tests.corpora.files.conftest import pdf


class Notes(list, Progress):
    note = list.append


def documents(corpus, position=None) -> list[Document]:
    return [document for block in corpus.blocks(position) for document in block.documents]


def left_out(corpus) -> dict[str, str]:
    return {document.id: document.problem for document in documents(corpus) if document.problem}


def plain(read: list[Document]) -> list[tuple]:
    return [(d.id, d.title, d.text, dict(d.metadata)) for d in read]


def test_a_file_is_a_document(write):
    folder = write({"a.md": "# Head\n\nBody.\n", "sub/b c.txt": "Text.", "c.py": "x = 1\n"})
    read = documents(FilesCorpus([folder]))
    assert plain(read) == [
        ("a.md", "Head", "# Head\n\nBody.\n", {"path": "a.md"}),
        ("c.py", "c.py", "x = 1\n", {"path": "c.py"}),
        ("sub/b c.txt", "b c.txt", "Text.", {"path": "sub/b c.txt"}),
    ]
    assert read[2].url == f"file://{folder}/sub/b%20c.txt"


def test_a_record_of_a_table_is_a_document(write):
    folder = write(
        {"t.csv": "id,text,year\nk1,One,1999\n,Two,\n", "t.jsonl": '{"text": "Three", "url": "http://x"}\n'}
    )
    read = documents(FilesCorpus([folder]))
    assert plain(read) == [
        ("k1", "", "One", {"path": "t.csv", "line": 2}),
        ("t.csv:3", "", "Two", {"path": "t.csv", "line": 3}),
        ("t.jsonl:1", "", "Three", {"path": "t.jsonl", "line": 1}),
    ]
    assert [d.url for d in read] == [f"file://{folder}/t.csv"] * 2 + ["http://x"]


def test_columns_may_have_any_name_and_become_metadata(write):
    folder = write({"t.csv": "key,head,body,year,ok\nk1,H,One,1999,true\n"})
    (read,) = documents(
        FilesCorpus(
            [folder], text_column="body", id_column="key", title_column="head", metadata=["year", "ok"]
        )
    )
    assert plain([read]) == [("k1", "H", "One", {"path": "t.csv", "line": 2, "year": 1999, "ok": True})]


def everything(write) -> Path:
    rows = pa.Table.from_pylist([{"text": f"row {i}"} for i in range(230)])
    into = io.BytesIO()
    pq.write_table(rows, into, row_group_size=100)
    folder = write(
        {
            "a.md": "# One\n\ntext\n\n## Two\n\n" + "Some more words. " * 200,
            "b.csv": "text\n" + "".join(f"line {i}\n" for i in range(130)) + "a,b\n",
            "c.bin": bytes(200),
            "d.parquet": into.getvalue(),
            "e.jsonl.gz": gzip.compress(
                b"".join(b'{"text": "packed %d"}\n' % i for i in range(150)) + b"{\n"
            ),
            "f.pdf": pdf(["First page.", "Second page."]),
            "g.html": "<h1>Head</h1><p>Words of a page",
            "h.txt": "",
            "i.txt": "The end.",
        }
    )
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("options", [{}, {"chunk": "60"}, {"chunk": "200c", "chunk_overlap": 50}], ids=str)
def test_all_documents_come_in_the_same_order_and_have_one_position(write, monkeypatch, options: dict):
    monkeypatch.setattr(base, "BLOCK_SIZE", 7)
    folder = everything(write)
    blocks: list[Block] = list(FilesCorpus([folder], **options).blocks())
    position = FilesCorpus([folder], **options).start()
    assert {json.dumps(block.position) for block in blocks} == {json.dumps(position)}
    whole = [document for block in blocks for document in block.documents]
    assert len(whole) > 500
    assert documents(FilesCorpus([folder], **options), position) == whole


def test_what_cannot_be_read_is_left_out_and_reported(write):
    assert left_out(FilesCorpus([everything(write)])) == {
        "b.csv:132": "it has 2 values for 1 column",
        "c.bin": "it is not text",
        "e.jsonl.gz:151": "it is not JSON (Expecting property name enclosed in double quotes)",
        "pipe": "it is a pipe, a socket or a device",
    }


def test_a_file_that_goes_away_while_others_are_read_is_reported(write, monkeypatch):
    monkeypatch.setattr(base, "BLOCK_SIZE", 1)
    folder = write({"a.txt": "one", "b.txt": "two"})
    reading = FilesCorpus([folder]).blocks()
    next(reading)
    (folder / "b.txt").unlink()
    assert [d.problem for block in reading for d in block.documents] == ["it is gone"]


@pytest.mark.parametrize(
    ("error", "words"),
    [(ZeroDivisionError("of a library"), "of a library"), (OSError(), "OSError")],
    ids=["library", "system"],
)
def test_whatever_goes_wrong_with_a_file_the_others_are_read(
    write, monkeypatch, error: Exception, words: str
):
    def read(source: SourceFile, *_, **__):
        if source.path.endswith("a.txt"):
            raise error
        return FileText("words", "", PLAIN)

    monkeypatch.setattr(files, "read_text", read)
    bad, good = documents(FilesCorpus([write({"a.txt": "one", "b.txt": "two"})]))
    assert (bad.id, bad.problem, bad.unread) == ("a.txt", f"it cannot be read ({words})", words == "OSError")
    assert good.text == "words"


JSON_LINES = '{"id": 1, "text": "river"}\n\n{"id": 2, "text": "bread"}\n'


def test_a_file_whose_name_says_little_is_read_by_its_content(write):
    into = io.BytesIO()
    pq.write_table(pa.table({"text": ["rye"]}), into)
    folder = write(
        {
            "a.json": JSON_LINES,
            "b.jl.gz": gzip.compress(b"\xef\xbb\xbf" + JSON_LINES.encode()),
            "c.data": into.getvalue(),
            "d": pdf(["A page."]),
            "log.txt": '{"time": 1}\n{"time": 2}\n',
            "one.json": '{"text": "x"}\n',
            "two.txt": "{ no JSON\n{\n",
        }
    )
    read = documents(FilesCorpus([folder], rules=RULES))
    assert [(d.id, d.text.strip()) for d in read[:6]] == [
        ("1", "river"), ("2", "bread"), ("1", "river"), ("2", "bread"), ("c.data:1", "rye"), ("d", "A page."),
    ]  # fmt: skip
    assert [(d.id, d.text[:6]) for d in read[6:]] == [
        ("log.txt", '{"time'), ("one.json", '{"text'), ("two.txt", "{ no J"),
    ]  # fmt: skip
    with pytest.raises(CorpusError, match="log.txt: it has no column 'text': its columns are time"):
        documents(FilesCorpus([folder / "log.txt"], rules=RULES))
    assert documents(FilesCorpus([folder / "a.json"]))[0].text == JSON_LINES


def test_an_array_of_json_is_a_document_an_object(write):
    array = '[\n {"text": "river", "year": 1999},\n {"text": "bread", "year": 2000}\n]\n'
    folder = write(
        {
            "a.json": array,
            "b.txt.gz": gzip.compress(("\ufeff" + array).encode()),
            "c.json": array.encode("utf-16"),
            "d.json": '[{"title": "no text"}]',
            "e.json": '["words"]',
            "f.json": '[{"text": "cut off"}, {',
        }
    )
    read = documents(FilesCorpus([folder], rules=RULES, metadata=["year"]))
    assert plain(read[:2]) == [
        ("a.json:1", "", "river", {"path": "a.json", "row": 1, "year": 1999}),
        ("a.json:2", "", "bread", {"path": "a.json", "row": 2, "year": 2000}),
    ]
    assert [(d.id, d.text[:6]) for d in read[2:-1]] == [
        ("b.txt.gz:1", "river"), ("b.txt.gz:2", "bread"), ("c.json:1", "river"), ("c.json:2", "bread"),
        ("d.json", '[{"tit'), ("e.json", '["word'),
    ]  # fmt: skip
    assert read[-1].problem.startswith("it is not JSON (Expecting property name")
    with pytest.raises(CorpusError, match="d.json: it has no column 'text': its columns are title"):
        documents(FilesCorpus([folder / "d.json"], rules=RULES))
    for rules in (1, 2):
        assert documents(FilesCorpus([folder / "a.json"], rules=rules))[0].text == array
    given = FilesCorpus([folder / "f.json"], rules=RULES, input_format="json")
    assert left_out(given).keys() == {"f.json"}


def test_a_format_that_is_given_counts_for_every_file(write):
    folder = write({"a.dat.gz": gzip.compress(b"text;year\nx;1.5\n"), "b.md": "text;year\ny;2\n"})
    corpus = FilesCorpus([folder], input_format="csv", delimiter=";", metadata=["year"])
    assert [(d.text, d.metadata["year"]) for d in documents(corpus)] == [("x", 1.5), ("y", 2)]
    assert documents(FilesCorpus(**corpus.spec().options)) == documents(corpus)


def test_encodings_that_were_guessed_are_told_and_one_can_be_stated(write):
    polish = "Zażółć gęślą jaźń i ludzie rodzą się wolni."
    files = {"a.txt": polish.encode("cp1250"), "b.csv": f"text\n{polish}\n".encode("cp1250"), "c.md": polish}
    folder = write(files | {f"{i}.txt": b"caf\xe9" for i in range(3)})
    notes = Notes()
    assert polish in {d.text for d in documents(FilesCorpus([folder], progress=notes))}
    assert notes == [
        "the encoding of 5 files was guessed, as it is not UTF-8: 0.txt (windows-1252), "
        "1.txt (windows-1252), 2.txt (windows-1252) and 2 others: give `encoding` to say it"
    ]
    stated = FilesCorpus([folder], encoding="CP1250", progress=(notes := Notes()))
    assert [d.text for d in documents(stated)] == ["café"] * 3 + [polish] * 3
    assert not notes
    assert stated.spec().options["encoding"] == "windows-1250"
    assert "encoding" not in FilesCorpus([folder]).spec().options
    documents(FilesCorpus([folder / "a.txt"], progress=notes))
    assert notes[0].startswith(
        "the encoding of 1 file was guessed, as it is not UTF-8: a.txt (windows-1250): "
    )


def test_an_encoding_that_no_browser_knows_is_wrong_usage(write):
    with pytest.raises(UsageError, match="`encoding`: 'klingon' is unknown: name one"):
        FilesCorpus([write({"a.txt": "x"})], encoding="klingon")


def test_garbage_behind_packed_data_is_ignored(write):
    packed = gzip.compress(b'{"text": "x"}\n{"text": "y"}\n') + b"garbage"
    folder = write({"a.jsonl.gz": packed, "b.txt.gz": gzip.compress(b"words") + b"more"})
    assert [d.text for d in documents(FilesCorpus([folder]))] == ["x", "y", "words"]


def test_a_delimiter_is_that_of_csv_alone(write):
    folder = write({"a.csv": "text;a\tb\nx;1\n", "b.tsv": "text\ta;b\ny\t1\n"})
    assert [d.text for d in documents(FilesCorpus([folder], delimiter=";"))] == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "option", "value", "words"),
    [
        ("a.md", "text_column", "body", "`text_column` is for tables"),
        ("a.md", "metadata", ["year"], "`metadata` is for tables"),
        ("a.jsonl", "delimiter", ";", "`delimiter` is for CSV"),
        ("a.jsonl", "include", ["*.csv"], "`include` is for folders"),
    ],
)
def test_an_option_that_does_nothing_is_refused_if_it_must_apply(write, name, option, value, words):
    folder = write({name: JSON_LINES.replace("\n\n", "\n") if name == "a.jsonl" else "words"})
    options = {option: value, "must_apply": [option, "limit"]}
    with pytest.raises(UsageError, match=words):
        documents(FilesCorpus([folder / name], **options))
    documents(FilesCorpus([folder / name], **{option: value}))
    (folder / "b.csv").write_text("text;body;year\nx;y;z\n")
    assert documents(FilesCorpus([folder], **options))


@pytest.mark.parametrize("change", ["add", "remove", "write"])
def test_a_folder_that_changed_is_told(write, change: str):
    folder = write({"a.txt": "one", "b.txt": "two"})
    (block,) = FilesCorpus([folder]).blocks()
    assert FilesCorpus([folder]).is_unchanged(block.position)
    if change == "add":
        write({"c.txt": ""})
    elif change == "remove":
        (folder / "b.txt").unlink()
    else:
        (folder / "b.txt").write_text("other")
    assert not FilesCorpus([folder]).is_unchanged(block.position)


def test_a_folder_without_files_is_reported(write):
    with pytest.raises(CorpusError, match="folder holds no file that is read"):
        documents(FilesCorpus([write({".hidden": "x"})]))


@pytest.mark.parametrize(
    ("name", "content", "options", "words"),
    [
        ("t.csv", "a,b\n1,2\n", {}, "t.csv: it has no column 'text': its columns are a, b"),
        ("t.csv", "a,text\n1,2\n", {"text_column": "body"}, "no column 'body': its columns are a, text"),
        ("t.csv", "a,text\n1,2\n", {"metadata": ["year"]}, "no column 'year'"),
        ("t.jsonl", '{"body": "x"}\n', {}, "no column 'text': its columns are body"),
    ],
    ids=["none", "named", "metadata", "jsonl"],
)
def test_a_table_that_is_named_must_have_its_columns(write, name, content, options, words):
    with pytest.raises(CorpusError, match=words):
        documents(FilesCorpus([write({name: content}) / name], **options))


def test_parquet_must_have_its_columns_too(write):
    into = io.BytesIO()
    pq.write_table(pa.table({"body": ["x"]}), into)
    folder = write({"t.parquet": into.getvalue(), "a.txt": "text"})
    with pytest.raises(CorpusError, match="t.parquet: it has no column 'content': its columns are body"):
        documents(FilesCorpus([folder], text_column="content"))


def test_a_table_without_texts_that_lies_in_a_folder_is_left_out(write):
    folder = write({"a.txt": "text", "prices.csv": "day,price\n1,2\n", "empty.csv": ""})
    assert left_out(FilesCorpus([folder])) == {
        "prices.csv": "it has no column 'text': its columns are day, price",
        "empty.csv": "it is empty",
    }


def test_texts_are_cut_and_that_is_reported_once(write):
    folder = write({"a.txt": "x" * 3000, "b.txt": "y" * 1300, "c.txt": "z"})
    notes = Notes()
    assert [len(d.text) for d in documents(FilesCorpus([folder], progress=notes))] == [1200, 1200, 1]
    assert notes == ["only the first 1,200 characters of 2 texts are searched: "
                     "build again with `chunk=400` and `restart` to search all of them"]  # fmt: skip
    assert [len(d.text) for d in documents(FilesCorpus([folder], chars=None))] == [3000, 1300, 1]


def test_chunks_are_made_of_what_a_cut_leaves(write):
    read = documents(FilesCorpus([write({"a.txt": "word " * 500})], chars=1000, chunk="300c"))
    assert sum(len(d.text) for d in read) <= 1000
    assert [d.id for d in read] == ["a.txt#c1", "a.txt#c2", "a.txt#c3", "a.txt#c4"]


def test_a_record_in_chunks_keeps_its_place_and_metadata(write):
    folder = write({"t.csv": "id,text,year\nk1," + "word " * 200 + ",1999\n"})
    read = documents(FilesCorpus([folder], chunk="100", metadata=["year"]))
    assert [d.id for d in read] == ["k1#c1", "k1#c2"]
    assert read[1].metadata == {"path": "t.csv", "line": 2, "year": 1999, "document": "k1", "chunk": 2}


def test_the_spec_opens_the_corpus_again(write, monkeypatch):
    folder = write({"docs/a.md": "# A\n\ntext", "t.csv": "body\nx\n"})
    monkeypatch.chdir(folder)
    corpus = FilesCorpus(["docs", "*.csv"], text_column="body", chunk="400", chunk_overlap=40)
    spec = json.loads(json.dumps(corpus.spec().to_json()))
    monkeypatch.chdir("/")
    assert spec.pop("kind") == "files"
    assert spec["paths"] == [f"{folder}/docs", f"{folder}/*.csv"]
    again = FilesCorpus(**{**spec, "chars": None})
    assert documents(again) == documents(FilesCorpus(**{**spec, "chars": None}))
    assert [d.id for d in documents(again)] == ["docs/a.md#c1", "t.csv:2#c1"]


def test_the_spec_has_rules_and_patterns_only_where_they_are_used(write):
    folder = write({"a.md": "text"})
    assert not {"rules", "include", "exclude"} & FilesCorpus([folder]).spec().options.keys()
    new = FilesCorpus([folder], include=["*.md"], exclude=["x/", "y"], rules=RULES).spec()
    options = {name: new.options[name] for name in ("rules", "include", "exclude")}
    assert options == {"rules": RULES, "include": ["*.md"], "exclude": ["x/", "y"]}
    assert FilesCorpus(**new.options).spec() == new


def test_a_corpus_reads_by_the_rules_of_the_index_that_follows_it(write):
    folder = write({"a.md": "text"})
    corpus = FilesCorpus([folder], chunk="400", rules=RULES)
    assert ([d.id for d in documents(corpus)], corpus.embeds_headings) == (["a.md"], True)
    corpus.pin({"kind": "hub"})
    assert corpus.rules == RULES
    corpus.pin({"kind": "files"})
    assert ([d.id for d in documents(corpus)], corpus.embeds_headings) == (["a.md#c1"], False)
    corpus.pin({"kind": "files", "rules": 7})
    assert corpus.rules == 1


def test_what_is_not_for_people_stays_out_of_folders_and_is_read_if_it_is_named(write):
    minified = "var a=1;" * 300
    folder = write({"a.md": "words", "b.js": minified, "c.svg": "<svg><text>x</text></svg>", "d.lock": "x"})
    expected = {"b.js": "it is minified", "c.svg": "it is SVG", "d.lock": "it is a lock file"}
    assert left_out(FilesCorpus([folder], rules=RULES)) == expected
    assert left_out(FilesCorpus([folder])) == {}
    (named,) = documents(FilesCorpus([folder / "b.js"], rules=RULES))
    assert named.text == minified[:1200]


def test_patterns_choose_files_of_folders(write):
    folder = write({"a.md": "", "b.txt": "", "old/c.md": "", "d.log": ""})
    corpus = FilesCorpus([folder, folder / "d.log"], include=["*.md"], exclude=["old/"])
    assert [d.id for d in documents(corpus)] == ["folder/a.md", "folder/d.log"]


def test_the_same_files_elsewhere_have_the_same_ids(write, tmp_path):
    folder = write({"a.txt": "one", "b/c.txt": "two"})
    folder.rename(tmp_path / "moved")
    assert [d.id for d in documents(FilesCorpus([tmp_path / "moved"]))] == ["a.txt", "b/c.txt"]


def test_a_query_to_try_is_made_of_the_first_document(write):
    corpus = FilesCorpus([write({"a.md": '# How `the "engine" works` here\n'})])
    documents(corpus)
    assert corpus.example == "How the engine works here"


def test_labels_name_a_few_files(write):
    folder = write({f"{c}.txt": "" for c in "abcde"})
    assert FilesCorpus([folder]).label == "folder"
    assert FilesCorpus([folder / f"{c}.txt" for c in "abcde"]).label == "a.txt, b.txt, c.txt and 2 others"


@pytest.mark.parametrize(
    "options",
    [
        {"chunk": "x"},
        {"chunk": "10", "chunk_overlap": 9},
        {"include": [""]},
        {"exclude": ["a", "# no pattern"]},
        {"exclude": ["[a-"]},
        {"delimiter": "::"},
        {"delimiter": '"'},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_wrong_usage(write, options: dict):
    with pytest.raises(UsageError):
        FilesCorpus([write({})], **options)


def test_local_files_need_no_client_of_a_service(write):
    folder = write(
        {"a.md": "# A\n\ntext", "b.csv": "text\nx\n", "c.jsonl": '{"text": "x"}\n', "d.html": "<p>x"}
    )
    code = (
        "import sys\n"
        "from resizable_search.corpora.files import FilesCorpus\n"
        f"assert len([b for b in FilesCorpus([{str(folder)!r}], chunk='400').blocks()]) == 1\n"
        "heavy = {'datasets', 'nomic', 'huggingface_hub', 'pyarrow', 'numpy', 'requests'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


LINES = b"".join(b'{"text": "line %d"}\n' % i for i in range(40)) + b"\n{\n" + b'{"text": "end", "id": "e"}\n'


def stdin(data: bytes, **options) -> StdinCorpus:
    return StdinCorpus(io.BufferedReader(io.BytesIO(data)), **options)


def test_piped_lines_are_documents():
    read = documents(stdin(LINES))
    assert plain(read[:1]) == [("line:1", "", "line 0", {"line": 1})]
    assert (read[-2].id, read[-2].problem[:14]) == ("line:42", "it is not JSON")
    assert read[-1].id == "e"
    assert len(read) == 42


def test_piped_lines_are_read_anew_by_each_run(monkeypatch):
    monkeypatch.setattr(base, "BLOCK_SIZE", 7)
    corpus = stdin(LINES)
    assert {block.position for block in corpus.blocks()} == {None}
    assert not corpus.is_unchanged(None)


def test_piped_lines_without_the_column_are_reported():
    with pytest.raises(CorpusError, match="line 2 of standard input: it has no column 'body'"):
        documents(stdin(b'\n{"text": "x"}\n', text_column="body"))


def test_options_for_files_are_refused_for_a_pipe():
    with pytest.raises(UsageError, match="`delimiter` is for files"):
        stdin(LINES, delimiter=";", must_apply=["delimiter"])
    assert len(documents(stdin(LINES, delimiter=";", must_apply=["chars"]))) == 42


def test_listing_many_files_tells_how_far_it_is(write, monkeypatch):
    class Counted(Progress):
        def __init__(self) -> None:
            self.told: list[object] = []

        def stage(self, name: str, total: int | None, unit: str) -> None:
            self.told.append(name)

        def advance(self, amount: int) -> None:
            self.told.append(amount)

    monkeypatch.setattr(files, "_LISTED_AT_ONCE", 10)
    folder = write({f"{number:02}.txt": "text" for number in range(25)})
    corpus = FilesCorpus([folder], progress=(progress := Counted()))
    corpus.start()
    assert progress.told == ["listing", 10, 10]


def test_files_beside_a_folder_that_is_gone_have_ids_of_their_own(write, tmp_path):
    folder = write({"a.txt": "text"})
    within = [str(tmp_path / "gone")]
    assert [d.id for d in documents(FilesCorpus([folder / "a.txt"], within=within))] == ["a.txt"]
