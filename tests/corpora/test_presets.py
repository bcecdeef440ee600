import re

from resizable_search.corpora.presets import PRESETS, WIKIPEDIA_REVISION, wiki, wiki100k


def test_wiki100k_is_the_first_articles_of_one_commit():
    preset = wiki100k()
    spec = preset.corpus().spec()
    assert preset.limit == 100_000
    assert spec.kind == "hub"
    assert spec.options["repo"] == "wikimedia/wikipedia"
    assert spec.options["config"] == "20231101.en"
    assert spec.options["split"] == "train"
    assert spec.options["chars"] == 1200
    assert spec.options["revision"] == WIKIPEDIA_REVISION
    assert re.fullmatch("[0-9a-f]{40}", WIKIPEDIA_REVISION)


def test_wiki_is_without_limit_in_any_language():
    assert wiki().limit is None
    assert wiki(lang="de").corpus().label == "wikimedia/wikipedia 20231101.de"
    assert wiki(chars=None).corpus().spec().options["chars"] is None
    assert wiki(lang="simple", date="20220301").config == "20220301.simple"


def test_presets_are_found_by_their_names():
    assert {name: preset.name for name, preset in PRESETS.items()} == {"wiki100k": "wiki100k", "wiki": "wiki"}
    assert PRESETS["wiki"].config == "20231101.en"
    assert all(preset.summary for preset in PRESETS.values())
