"""The hub corpus against the loopback hub, through the real clients: what is read, and from where on."""

import re
from pathlib import Path

import pytest

from resizable_search.corpora.hub import WIKI100K_ROWS, WIKIPEDIA_REVISION, HubCorpus, wikipedia
from resizable_search.errors import UsageError
from tests.corpora.conftest import ROWS
from tests.servers.client import Client, Failed, run_alone
from tests.servers.dataset import CONFIG, articles
from tests.servers.hub import DEFAULT_SHA, HubServer


def expected(chars: int | None = 1200) -> list[list[str]]:
    return [[row["id"], row["title"], row["url"], row["text"][:chars]] for row in articles(ROWS)]


def test_reads_every_row_in_order(client: Client) -> None:
    value = client.run("""
        blocks = list(corpus().blocks())
        value = [[len(b.documents) for b in blocks], rows(blocks)]
    """)
    assert value == [[100, 100, 100, 100, 100, 50], expected()]


def test_goes_on_from_every_block_across_shards(client: Client) -> None:
    value = client.run("""
        blocks = list(corpus().blocks())
        positions = [json.loads(json.dumps(b.position)) for b in blocks]
        value = [[p["read"], rows(corpus().blocks(p))] for p in positions]
    """)
    assert value == [[end, expected()[end:]] for end in (100, 200, 300, 400, 500, 550)]


def test_goes_on_from_positions_of_earlier_versions(client: Client) -> None:
    value = client.run("""
        parquet = rows(corpus().blocks(dict(read=250, ahead=50, state={"any": 1}, last_id="x")))
        columns = {"id": "name", "text": "body"}
        lines = corpus("some/lines", None, optional=["title", "url"], columns=columns)
        whole = [b.position["state"] for b in lines.blocks()]
        old = [dict(read=120, ahead=20, state=whole[0]), dict(read=90, ahead=90, state=None)]
        value = [parquet, rows(lines.blocks()), *(rows(lines.blocks(position)) for position in old)]
    """)
    parquet, whole, *rest = value
    assert parquet == expected()[250:]
    assert rest == [whole[120:], whole[90:]]


def test_a_resumed_stream_gives_positions_that_go_on_too(client: Client) -> None:
    value = client.run("""
        first = [b.position for b in corpus().blocks()]
        position, seen = None, []
        while block := next(corpus().blocks(position), None):
            position = json.loads(json.dumps(block.position))
            seen.append([position["read"], rows([block])])
        value = [[p["read"] for p in first], seen]
    """)
    whole, stepwise = value
    assert [read for read, _ in stepwise] == whole
    assert [row for _, block in stepwise for row in block] == expected()


def test_the_spec_records_the_commit_and_reopens_the_corpus(client: Client) -> None:
    value = client.run("""
        c = corpus(chars=200)
        spec = c.spec()
        again = HubCorpus(**json.loads(json.dumps(spec.options)))
        value = [spec.to_json(), again.spec() == spec, c.label, rows(again.blocks())[:2]]
    """)
    columns = {"id": "id", "title": "title", "url": "url", "text": "text"}
    assert value[0] == {
        "kind": "hub",
        "repo": "wikimedia/wikipedia",
        "config": CONFIG,
        "split": "train",
        "revision": DEFAULT_SHA,
        "chars": 200,
        "columns": columns,
    }
    assert value[1:] == [True, "wikimedia/wikipedia 20231101.en", expected(200)[:2]]


def test_a_pinned_commit_needs_no_hub_to_be_recorded(client: Client, hub: HubServer) -> None:
    hub.down = True
    spec = client.run(f"value = corpus(revision={WIKIPEDIA_REVISION!r}).spec().to_json()")
    assert spec["revision"] == WIKIPEDIA_REVISION


def test_a_check_reads_no_data(client: Client, hub: HubServer) -> None:
    hub.requests.clear()
    words = client.run("value = corpus().check()")
    assert words == f"wikimedia/wikipedia is there, at commit {DEFAULT_SHA[:7]} ({hub.url})"
    assert not hub.reads()
    assert len(hub.requests) == 1


def test_texts_are_cut_only_when_asked(client: Client) -> None:
    assert client.run("value = rows(corpus(chars=None).blocks())") == expected(None)


def test_other_columns_and_empty_values(client: Client) -> None:
    value = client.run("""
        columns = {"id": "key", "title": "headline", "text": "body"}
        value = rows(corpus("other/columns", None, columns=columns, optional=["url"]).blocks())
        del columns["id"]
        value = value, rows(corpus("other/columns", None, columns=columns, optional=["id", "url"]).blocks())
    """)
    assert value == [
        [["7", "one", "", "First."], ["8", "", "", ""]],
        [["0", "one", "", "First."], ["1", "", "", ""]],
    ]


@pytest.mark.parametrize("seed", [None, 0])
def test_bytes_are_texts_and_far_dates_are_left_out(client: Client, seed: int | None) -> None:
    value = client.run(f"""
        options = dict(columns={{"id": "raw", "text": "bytes"}}, optional=["title", "url"])
        c = corpus("other/columns", None, **options, metadata=["until"], shuffle_seed={seed})
        read = [d for block in c.blocks() for d in block.documents]
        value = sorted([d.id, d.text, d.problem, d.metadata["until"]] for d in read)
    """)
    assert value == [["b8", "", "its text is binary", "1970-01-02"], ["ff01", "river", "", None]]


def test_formats_other_than_parquet_resume_too(client: Client) -> None:
    value = client.run("""
        columns = {"id": "name", "text": "body"}
        c = corpus("some/lines", None, optional=["title", "url"], columns=columns)
        block = next(c.blocks())
        value = [rows([block]), rows(c.blocks(block.position))]
    """)
    assert value == [[[str(n), "", "", f"text {n}"] for n in range(5)], []]


@pytest.mark.parametrize("repo", ["other/columns", "some/lines"])
def test_a_missing_column_is_named_with_those_there_are(client: Client, repo: str) -> None:
    with pytest.raises(Failed, match=r"CorpusError: \S+ it has no column 'text', 'id'.*: .*body"):
        client.run(f"next(corpus({repo!r}, None).blocks())")


def test_a_paged_listing_is_followed(client: Client, hub: HubServer) -> None:
    hub.page = 1
    try:
        assert client.run('value = rows(corpus("paged/tree").blocks())') == expected()
    finally:
        hub.page = 1000


def test_the_stream_reads_little_ahead(client: Client, hub: HubServer) -> None:
    hub.requests.clear()
    client.run("""
        import time
        stream = corpus("big/rows", optional=["title", "url"]).blocks()
        next(stream)
        time.sleep(0.5)
        stream.close()
    """)
    size = next((hub.repos["big/rows"] / CONFIG).iterdir()).stat().st_size
    assert 0 < sum(read.sent for read in hub.reads()) < 0.7 * size


def test_the_size_is_known_only_from_the_card(client: Client, hub: HubServer) -> None:
    assert client.run("value = corpus().size_hint()") is None
    if "real/wikipedia" in hub.repos:
        assert client.run('value = corpus("real/wikipedia").size_hint()') == 16015


def test_the_real_articles(client: Client, hub: HubServer) -> None:
    if "real/wikipedia" not in hub.repos:
        pytest.skip("no articles: set RSEARCH_TEST_DATA")
    value = client.run("""
        c = corpus("real/wikipedia")
        blocks = list(c.blocks())
        read = rows(blocks)
        rest = rows(c.blocks(blocks[120].position))
        longest = max(len(row[3]) for row in read)
        value = [len(read), len({row[0] for row in read}), longest, rest == read[12100:]]
    """)
    assert value == [16015, 16015, 1200, True]


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(UsageError):
        HubCorpus(repo="wikipedia")


def test_importing_it_loads_no_client() -> None:
    source = """
        import sys
        import resizable_search.corpora.hub
        print([name for name in ("datasets", "huggingface_hub", "numpy", "pyarrow") if name in sys.modules])
    """
    assert run_alone(source, "http://127.0.0.1:9", Path()).stdout == "[]\n"


def test_fields_that_are_optional_may_have_no_column(client: Client) -> None:
    value = client.run("""
        optional = ["id", "title", "url"]
        value = [rows(corpus(repo, None, columns={"text": "body"}, optional=optional).blocks())
                 for repo in ("other/columns", "some/lines")]
        value.append(rows(corpus(optional=optional).blocks())[:1])
    """)
    assert value == [
        [["0", "", "", "First."], ["1", "", "", ""]],
        [[str(n), "", "", f"text {n}"] for n in range(5)],
        expected()[:1],
    ]


@pytest.mark.parametrize("repo", ["other/columns", "some/lines"])
def test_a_missing_text_or_metadata_column_is_reported_with_those_there_are(
    client: Client, repo: str
) -> None:
    for options in ("columns={}", "columns={'text': 'body'}, metadata=['year']"):
        with pytest.raises(Failed, match=r"CorpusError: \S+ it has no column '(text|year)': .*body"):
            client.run(f"next(corpus({repo!r}, None, optional=['id', 'title', 'url'], {options}).blocks())")


def test_columns_become_metadata(client: Client) -> None:
    value = client.run("""
        columns = {"id": "key", "title": "headline", "text": "body"}
        c = corpus("other/columns", None, columns=columns, optional=["url"], metadata=["unused", "key"])
        value = [[dict(d.metadata) for b in c.blocks() for d in b.documents], c.spec().to_json()["metadata"]]
    """)
    assert value == [[{"unused": 1.0, "key": 7}, {"unused": 2.0, "key": 8}], ["unused", "key"]]


def test_texts_in_chunks_go_on_from_every_block(client: Client) -> None:
    value = client.run("""
        options = {"chars": None, "chunk": "300c", "chunk_overlap": 30}
        blocks = list(corpus(**options).blocks())
        positions = [json.loads(json.dumps(b.position)) for b in blocks]
        c = corpus(**options)
        again = HubCorpus(**json.loads(json.dumps(c.spec().options)))
        rests = [rows(corpus(**options).blocks(p)) for p in positions]
        sizes = [len(b.documents) for b in blocks]
        value = [rows(blocks), sizes, rests, c.size_hint(), again.spec() == c.spec()]
    """)
    whole, sizes, rests, size, same = value
    ids = [article["id"] for article in articles(ROWS)]
    assert [row[0] for row in whole if row[0].endswith("#c1")] == [f"{id_}#c1" for id_ in ids]
    assert max(len(row[3]) for row in whole) <= 300
    assert rests == [whole[sum(sizes[: i + 1]) :] for i in range(len(sizes))]
    assert (size, same) == (None, True)


def test_wiki100k_is_the_first_articles_of_one_commit():
    spec = wikipedia().spec()
    assert WIKI100K_ROWS == 100_000
    assert spec.kind == "hub"
    assert spec.options["repo"] == "wikimedia/wikipedia"
    assert spec.options["config"] == "20231101.en"
    assert spec.options["split"] == "train"
    assert spec.options["chars"] == 1200
    assert spec.options["revision"] == WIKIPEDIA_REVISION
    assert re.fullmatch("[0-9a-f]{40}", WIKIPEDIA_REVISION)


def test_a_wikipedia_is_of_any_language():
    assert wikipedia(lang="de").label == "wikimedia/wikipedia 20231101.de"
    assert wikipedia(chars=None).spec().options["chars"] is None
    assert wikipedia(lang="simple", date="20220301").config == "20220301.simple"


@pytest.mark.parametrize(("limit", "rows"), [(None, ROWS), (333, 333), (1000, ROWS)])
def test_shards_have_every_row_once_in_order_and_go_on_from_every_block(
    client: Client, limit: int | None, rows: int
) -> None:
    sizes, shards, rests = client.run(f"""
        shards = [corpus(shard=f"{{n}}/7", limit={limit}) for n in range(1, 8)]
        sizes = [shard.size_hint() for shard in shards]
        blocks = [list(shard.blocks()) for shard in shards]
        rests = [rows(shard.blocks(b[-2].position)) == rows(b[-1:]) for shard, b in zip(shards, blocks)
                 if len(b) > 1]
        value = [sizes, [rows(b) for b in blocks], rests]
    """)
    assert [row for shard in shards for row in shard] == expected()[:rows]
    assert {len(shard) for shard in shards} <= {rows // 7, rows // 7 + 1}
    assert all(rests)
    assert sizes == [None] * 7  # the card does not tell


def test_a_shard_reads_its_own_row_groups_and_has_the_numbers_of_the_whole(client: Client, hub: HubServer):
    hub.requests.clear()
    (first, *_), spec = client.run("""
        c = corpus("big/rows", optional=["title", "url"], shard="2/10")
        value = [rows([next(c.blocks())]), c.spec().to_json()]
    """)
    assert first[0] == "500"
    assert spec["shard"] == "2/10"
    folder = hub.repos["big/rows"] / "20231101.en"
    assert sum(read.sent for read in hub.reads()) < 0.4 * next(folder.iterdir()).stat().st_size


def test_the_rows_of_a_card_tell_the_size_of_a_shard(client: Client) -> None:
    value = client.run("""
        from resizable_search.corpora.hub_client import HubSource
        HubSource.rows, rows = lambda self, split: 550, HubSource.rows
        try:
            value = [corpus(shard="1/7", limit=limit).size_hint() for limit in (None, 70)]
        finally:
            HubSource.rows = rows
    """)
    assert value == [78, 10]


def test_shards_are_cut_of_rows_in_file_order_alone(client: Client) -> None:
    with pytest.raises(UsageError, match="leave `shuffle_seed` or `shard` out"):
        HubCorpus(repo="a/b", shard="1/2", shuffle_seed=1)
    with pytest.raises(UsageError, match="leave `limit` or `chunk` out"):
        HubCorpus(repo="a/b", shard="1/2", limit=10, chunk="400")
    with pytest.raises(Failed, match=r"UsageError: `shard` needs Parquet files"):
        client.run("""
            columns = {"id": "name", "text": "body"}
            next(corpus("some/lines", None, optional=["title", "url"], columns=columns, shard="1/2").blocks())
        """)


def test_a_build_stays_at_the_commit_that_it_began_with_unless_another_is_asked_for():
    begun = {"kind": "hub", "repo": "o/n", "revision": "c0ffee"}
    corpus, other = HubCorpus(repo="o/n"), HubCorpus(repo="o/other")
    asked = HubCorpus(repo="o/n", revision="main")
    for one in (corpus, asked, other):
        one.pin(begun)
    assert [one._sha for one in (corpus, asked, other)] == ["c0ffee", None, None]
