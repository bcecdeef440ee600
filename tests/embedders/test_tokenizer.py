import hashlib

import pytest

from resizable_search.embedders import lsa as module
from resizable_search.embedders.lsa import LONGEST_WORD, RULES, tokens

CASES = {
    "The Trees of a TREE'S": ["the", "tree", "of", "a", "tree"],
    "OrderedDict.move_to_end": ["ordered", "dict", "ordereddict", "move", "to", "end", "move_to_end"],
    "HTTPServer __init__ iPhones": ["http", "server", "httpserver", "init", "i", "phone", "iphone"],
    "C++ B-tree 2d utf8 1990s": ["c", "b", "tree", "2d", "utf8", "1990"],
    "movies movie queries query classes class boxes gas analysis": [
        *["movy", "movy", "query", "query", "class", "class", "box", "gas", "analysi"]
    ],
    "didn't it\u2019s O'Brien's rock'n'roll 'quoted'": [
        "didn",
        "it",
        "o",
        "brien",
        "rock",
        "n",
        "roll",
        "quoted",
    ],
    "caf\u00e9 Cafe\u0301 \u00c5ngstr\u00f6m \ufb01ne": ["cafe", "cafe", "angstrom", "fine"],
    "\u041c\u043e\u0441\u043a\u0432\u0430 \u041c\u041e\u0421\u041a\u0412\u0410": ["москва", "москва"],
    "\u65e5\u672c\u8a9e": ["日本", "本語"],
    "हिन्दी भाषा 한국어": ["हिनदी", "भाषा", "한국어"],
    "?! _ __ '' \ud800 \0": [],
}


@pytest.mark.parametrize(("text", "expected"), CASES.items(), ids=range(len(CASES)))
def test_a_text_becomes_its_terms(text, expected):
    assert tokens(text) == expected


def test_no_word_is_longer_than_the_limit():
    assert {len(term) for term in tokens("x" * 1_000_000)} == {LONGEST_WORD}


def test_the_cache_is_bounded():
    assert module._terms_of.cache_info().maxsize == module.CACHED_WORDS


def test_other_rules_have_another_version():
    # If this fails you changed what a word is: raise RULES, since fitted states know the old words.
    every = [tokens(text) for text in CASES]
    assert (RULES, hashlib.sha256(repr(every).encode()).hexdigest()[:16]) == (1, "94c2f364092ff324")
