import pytest

from resizable_search.engine.plan import Plan, Stage
from resizable_search.evaluate.plan_space import (
    FACTORS,
    StoredTiers,
    first_stages,
    keeps,
    reranked,
)

WIDTHS = {
    40: (16, 40),
    96: (16, 64, 96),
    384: (64, 128, 256, 384),
    768: (64, 768),
    1024: (512, 1024),
    1: (1,),
}


@pytest.mark.parametrize("dims", WIDTHS.values(), ids=map(str, WIDTHS))
@pytest.mark.parametrize("k", [1, 10, 77])
def test_every_chain_can_be_run(dims, k):
    stored = StoredTiers(dims, dims, one_bit=True)
    grid = keeps(k, 10**9)
    for first in first_stages(stored):
        plan = reranked(first, grid[-1], dims[-1]).check(k, dims[-1])
        assert Plan.parse(str(plan)) == plan


def test_bit_prefixes_grow_by_words_up_to_the_full_dimension():
    prefixes = [s.dim for s in first_stages(StoredTiers((96,), (), one_bit=True)) if s.precision == "1bit"]
    assert prefixes == [64, 96]
    assert len([s for s in first_stages(StoredTiers((768,), (), one_bit=True))]) == 12


def test_an_index_without_tiers_has_its_smaller_dimensions_alone():
    assert first_stages(StoredTiers((16, 64, 96))) == [Stage(16), Stage(64)]
    assert first_stages(StoredTiers((96,))) == []


def test_codes_of_a_dimension_stand_for_its_floats():
    assert list(map(str, first_stages(StoredTiers((16, 64, 96), (64, 96))))) == ["64:int8", "96:int8", "16"]


def test_the_numbers_kept_are_multiples_of_k_and_at_most_a_quarter_of_the_rows():
    assert keeps(10, 10**6) == [10 * factor for factor in FACTORS]
    assert keeps(10, 200) == [10, 20, 30, 40, 50]
    assert keeps(10, 39) == []
