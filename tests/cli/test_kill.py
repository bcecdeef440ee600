"""The real command is killed at any moment and goes on: a short run of scripts/drills/kill_matrix.py."""

import random
from collections.abc import Mapping

import pytest

from tests.kills import BATCH, CONCURRENCY, ground

ROWS = 160


def test_a_build_that_is_killed_at_any_moment_goes_on_to_the_same_index(
    env: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
):
    with ground(tmp_path_factory.mktemp("ground"), env, ROWS) as prepared:
        for number in range(2):
            death = prepared.killed_at_random(f"machine{number}", random.Random(number))
            assert 0 < death.embedded < ROWS
            assert death.same
            assert death.twice <= CONCURRENCY * BATCH
