import re

from resizable_search.corpora.hub import WIKI100K_ROWS, WIKIPEDIA_REVISION, wikipedia


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
