"""Generated articles in the layout of the hub's wikimedia/wikipedia.

The articles are deterministic and read like English: each has a main topic with a vocabulary of
its own, a side topic, and sentences about its own subject. So a search over them has right and
wrong answers without any real data.
"""

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import quote

CONFIG = "20231101.en"
COLUMNS = ("id", "url", "title", "text")

TOPICS: dict[str, str] = {
    "astronomy": "comet orbit nebula telescope galaxy eclipse asteroid quasar planet supernova redshift",
    "baking": "dough yeast oven flour crumb butter pastry sourdough glaze loaf kneading whisk",
    "botany": "petal stamen pollen orchid fern chlorophyll seedling root blossom moss herbarium stem",
    "chess": "bishop gambit checkmate pawn endgame castling rook opening tournament grandmaster knight fork",
    "computing": "compiler algorithm pointer recursion hash queue kernel parser thread cache tree binary",
    "football": "striker goalkeeper penalty league midfielder referee offside stadium pitch corner derby",
    "geology": "basalt sediment magma fault granite erosion mineral stratum volcano quartz limestone glacier",
    "law": "statute verdict plaintiff appeal jury contract clause tribunal defendant testimony injunction",
    "medicine": "diagnosis vaccine surgeon artery antibody fever clinic dosage symptom infection therapy",
    "music": "sonata violin chord orchestra tempo soprano melody cadence quartet rhythm fugue harpsichord",
    "railways": "locomotive gauge signal platform carriage timetable junction sleeper viaduct siding boiler",
    "sailing": "mast rudder keel harbour rigging spinnaker regatta tide anchor hull compass jib",
}
_FRAMES = (
    "The {0} of the {1} is often compared with a {2}.",
    "Early studies of the {0} described how a {1} depends on its {2}.",
    "In practice every {0} needs a {1}, and most also need a {2}.",
    "A {0} that meets a {1} is known among specialists as a double {2}.",
    "Many writers held that no {0} could replace the {1} or the {2}.",
    "By then the {0} had become more common than the {1}, although the {2} remained.",
    "Its {0} was measured against the {1} and recorded beside each {2}.",
    "Handbooks still explain the {0} first, then the {1}, and last of all the {2}.",
)
_SYLLABLES = (
    "bar",
    "den",
    "mor",
    "lin",
    "tas",
    "vel",
    "kor",
    "ash",
    "ren",
    "wick",
    "ford",
    "stad",
    "hol",
    "ny",
    "ea",
)
_KINDS = ("school", "society", "method", "museum", "theory", "guild", "collection", "treaty")
_POOL = 500
_ROWS_AT_ONCE = 1000


def articles(count: int, seed: int = 0) -> Iterator[dict[str, str]]:
    """The first `count` articles of that seed; a longer run begins with a shorter one."""
    rng = random.Random(seed)
    pools = {
        topic: [rng.choice(_FRAMES).format(*rng.sample(words.split(), 3)) for _ in range(_POOL)]
        for topic, words in TOPICS.items()
    }
    names = list(TOPICS)
    for number in range(count):
        topic, side = rng.sample(names, 2)
        place = "".join(rng.choices(_SYLLABLES, k=3)).capitalize()
        title = f"{place} {topic} {rng.choice(_KINDS)} {number}"
        sentences = [
            f"The {title} is a subject in {topic} named after {place} in {rng.randrange(1500, 2000)}.",
            *rng.choices(pools[topic], k=rng.randrange(8, 20)),
            f"In {place} it was also linked with {side}.",
            *rng.choices(pools[side], k=rng.randrange(1, 6)),
        ]
        yield {
            "id": str(12 + 3 * number),
            "url": f"https://en.wikipedia.org/wiki/{quote(title)}",
            "title": title,
            "text": " ".join(sentences),
        }


def write_wikipedia(
    folder: Path,
    count: int,
    shards: int = 2,
    *,
    config: str = CONFIG,
    rows_per_group: int = _ROWS_AT_ONCE,
    seed: int = 0,
) -> Path:
    """Write `count` generated articles as `shards` Parquet files and the README.md that names them.

    Memory stays at one row group however many articles there are. Returns the folder.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    rows = articles(count, seed)
    (folder / config).mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        left = count * (shard + 1) // shards - count * shard // shards
        path = folder / config / f"train-{shard:05d}-of-{shards:05d}.parquet"
        with pq.ParquetWriter(path, schema) as writer:
            while left:
                group = list(islice(rows, min(left, rows_per_group)))
                writer.write_table(pa.Table.from_pylist(group, schema), row_group_size=rows_per_group)
                left -= len(group)
    write_card(folder, [config])
    return folder


def write_card(folder: Path, configs: list[str], path: str = "{}/*") -> None:
    """Write the README.md that declares these configurations; `path` is where each has its train split."""
    lines = ["---", "configs:"]
    for config in configs:
        lines += [
            f"- config_name: {config}",
            "  data_files:",
            "  - split: train",
            f"    path: {path.format(config)}",
        ]
    (folder / "README.md").write_text("\n".join([*lines, "---", "Generated articles.", ""]), encoding="utf-8")
