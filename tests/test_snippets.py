from resizable_search.text import matches, rarity, snippet

FILLER = "Nothing of note happens in this sentence. " * 20


def passage(text: str, query: str, length: int) -> str:
    return snippet(text, rarity(query, [text]), length)


def test_a_snippet_is_the_passage_with_most_words_of_the_query():
    text = f"{FILLER}the the the {FILLER}A balanced tree is a structure of data. {FILLER}the"
    found = passage(text, "the Tree STRUCTURE", 80)
    assert found.startswith("A balanced tree is a structure of data.")
    assert found.endswith("…")
    assert len(found) <= 82


def test_a_snippet_begins_with_a_sentence_or_says_that_it_does_not():
    assert passage("word " * 30 + "needle " + "word " * 30, "needle", 40).startswith("…word ")
    assert passage("word " * 30 + "end. A needle " + "word " * 30, "needle", 60).startswith("A needle ")


def test_the_fewer_texts_have_a_word_the_more_it_weighs():
    weights = rarity("How are trees balanced?", ["a tree", "trees and a balance", "a tree"])
    assert weights.keys() == {"tre", "balanc"} | weights.keys() & {"balance"}
    assert min(weights, key=weights.__getitem__) == "tre"
    text = f"A tree, a tree. {FILLER} It is balanced. {FILLER}"
    assert "It is balanced" in snippet(text, {**weights}, 60)


def test_stop_words_count_if_there_are_no_others():
    assert rarity("to be or not to be", []).keys() == {"to", "be", "or", "not"}
    assert rarity("?!", []) == {}


def test_a_text_without_a_word_of_the_query_gives_its_beginning():
    assert passage(FILLER, "absent", 30) == "Nothing of note happens in…"
    assert passage("a  short\ntext", "x", 30) == "a short text"
    assert passage("x" * 100, "?", 10) == "x" * 10 + "…"


def test_the_words_of_a_query_are_found_whole_in_any_case_and_with_usual_endings():
    text = "Tree trees treetop c; Directories, directory; walking WALKS walk; class classes"
    words = [
        text[start:stop] for start, stop, _ in matches(text, rarity("tree C++ directory walked class", []))
    ]
    assert words == [
        "Tree",
        "trees",
        "c",
        "Directories",
        "directory",
        "walking",
        "WALKS",
        "walk",
        "class",
        "classes",
    ]
