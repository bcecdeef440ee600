from resizable_search.text import snippet, words_of

FILLER = "Nothing of note happens in this sentence. " * 20


def test_a_snippet_is_the_passage_with_the_rarest_words_of_the_query():
    text = f"{FILLER}the the the {FILLER}A balanced tree is a structure of data. {FILLER}the"
    passage = snippet(text, "the Tree STRUCTURE", 80)
    assert "tree is a structure" in passage
    assert passage.startswith("…")
    assert passage.endswith("…")
    assert len(passage) <= 82


def test_a_text_without_a_word_of_the_query_gives_its_beginning():
    assert snippet(FILLER, "absent", 30) == "Nothing of note happens in…"
    assert snippet("a  short\ntext", "x", 30) == "a short text"
    assert snippet("x" * 100, "?", 10) == "x" * 10 + "…"


def test_the_words_of_a_query_are_found_whole_and_in_any_case():
    assert words_of("tree C++").findall("Tree trees c") == ["Tree", "c"]
    assert words_of("?!") is None
