"""The order of a seed: every row once, every hand as likely as another, the same wherever one goes on."""

from collections import Counter

import pytest

from resizable_search.corpora.hub import MAX_HAND, MIN_HAND, HubSample, permuted
from tests.corpora.conftest import ROWS
from tests.servers.client import Client, Failed
from tests.servers.dataset import articles
from tests.servers.hub import HubServer

GROUPS = [[1000, 1000, 37], [2500], [0, 1], [30_000]]


@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 1000])
def test_a_permutation_has_each_number_once(count: int):
    assert sorted(permuted(i, count, "key") for i in range(count)) == list(range(count))


def test_permutations_of_other_keys_are_others_and_all_of_them_come_up():
    orders = Counter(tuple(permuted(i, 4, str(key)) for i in range(4)) for key in range(720))
    assert len(orders) == 24
    assert 12 < min(orders.values()) < max(orders.values()) < 55


def test_every_row_is_in_one_hand():
    sample = HubSample(GROUPS, 7)
    seen = Counter()
    for number in range(sample.hands):
        file, group, hand = sample.hand(number)
        assert 1 <= len(hand) <= MAX_HAND
        seen.update((file, group, row) for row in hand)
    rows = [(f, g, row) for f, groups in enumerate(GROUPS) for g, n in enumerate(groups) for row in range(n)]
    assert seen == Counter(rows)
    assert sample.rows == len(rows)


def test_the_first_hands_come_from_anywhere():
    groups = [[1000] * 10] * 10
    first = Counter()
    for seed in range(60):
        sample = HubSample(groups, seed)
        for number in range(10):
            file, _, hand = sample.hand(number)
            first[file] += len(hand)
    assert sum(first.values()) == 60 * 10 * MIN_HAND
    assert all(0.6 < first[file] / (60 * MIN_HAND) < 1.4 for file in range(10))


def test_the_rows_of_a_hand_are_in_no_order():
    rows = HubSample([[5000]], 1).hand(0)[2]
    assert rows != sorted(rows)
    assert max(rows) > 4000 > 1000 > min(rows)


def test_the_same_seed_gives_the_same_order():
    assert HubSample(GROUPS, 3).hand(5) == HubSample(GROUPS, 3).hand(5) != HubSample(GROUPS, 4).hand(5)
    # Written down: a build that was begun by one version goes on with another.
    assert permuted(0, 1000, "0") == 855
    assert [permuted(i, 10, "seed") for i in range(10)] == [6, 0, 1, 5, 2, 7, 9, 3, 8, 4]


def test_a_shuffled_stream_has_every_row_once_and_goes_on_from_every_block(client: Client):
    whole, rests, again, other = client.run("""
        blocks = list(corpus(shuffle_seed=5).blocks())
        positions = [json.loads(json.dumps(b.position)) for b in blocks]
        value = [rows(blocks), [rows(corpus(shuffle_seed=5).blocks(p)) for p in positions],
                 rows(corpus(shuffle_seed=5).blocks()), rows(corpus(shuffle_seed=6).blocks())]
    """)
    expected = [[a["id"], a["title"], a["url"], a["text"][:1200]] for a in articles(ROWS)]
    assert sorted(whole) == sorted(expected)
    assert whole == again != expected
    assert other != whole
    assert sorted(other) == sorted(whole)
    ends = [ROWS - len(rest) for rest in rests]
    assert ends == sorted(set(ends))
    assert ends[-1] == ROWS
    assert [whole[end:] for end in ends] == rests


def test_a_sample_comes_from_the_whole_split_and_says_how_it_is_drawn(client: Client):
    first, notes, spec = client.run("""
        notes = Notes()
        c = corpus(shuffle_seed=5, progress=notes)
        stream = c.blocks()
        first = rows([next(stream), next(stream), next(stream)])
        stream.close()
        value = [first, notes, c.spec().to_json()["shuffle_seed"]]
    """)
    numbers = [(int(row[0]) - 12) // 3 for row in first]
    shards = {3 * number // ROWS for number in numbers}
    assert len(shards) > 1
    assert notes == [f"drawing from {ROWS} rows in 6 row groups of 3 files, 61 of a row group at a time"]
    assert spec == 5


def test_only_the_row_groups_that_are_drawn_are_read(client: Client, hub: HubServer):
    hub.requests.clear()
    client.run("""
        stream = corpus("big/rows", optional=["title", "url"], shuffle_seed=1).blocks()
        next(stream)
        stream.close()
    """)
    folder = hub.repos["big/rows"] / "20231101.en"
    assert sum(read.sent for read in hub.reads()) < 0.7 * next(folder.iterdir()).stat().st_size


def test_files_that_are_not_parquet_cannot_be_drawn_from(client: Client):
    with pytest.raises(Failed, match=r"UsageError: .*revision=refs/convert/parquet"):
        client.run("""
            options = dict(columns={"id": "name", "text": "body"}, optional=["title", "url"])
            next(corpus("some/lines", None, **options, shuffle_seed=1).blocks())
        """)


def test_a_read_that_fails_loses_nothing(client: Client, hub: HubServer):
    hub.fail_reads(1, 410, after=12)
    with pytest.raises(Failed, match=r"reading faulty/gone .* broke off after \d+ rows"):
        client.run("""
            import builtins
            builtins.read = read = []
            for block in corpus("faulty/gone", shuffle_seed=2).blocks():
                read.append(block)
        """)
    hub.heal()
    value = client.run("""
        import builtins
        read = builtins.read
        position = read[-1].position if read else None
        value = [rows(read) + rows(corpus("faulty/gone", shuffle_seed=2).blocks(position)),
                 rows(corpus(shuffle_seed=2).blocks())]
    """)
    assert value[0] == value[1]
