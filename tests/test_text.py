from resizable_search.text import SHOWN, clipped, counted, dimensions, duration, plain, plain_lines, quoted


def test_counts_are_in_the_right_number():
    assert [counted(n, "document") for n in (0, 1, 2, 1234)] == [
        "0 documents", "1 document", "2 documents", "1,234 documents",
    ]  # fmt: skip


def test_dimensions_are_listed():
    assert dimensions((64, 128)) == "64, 128 dimensions"
    assert dimensions((768,)) == "768 dimensions"
    assert dimensions((1,)) == "1 dimension"


def test_a_long_text_is_quoted_in_part():
    assert quoted("short") == "'short'"
    assert quoted("x" * 1000) == f"'{'x' * SHOWN}…'"
    assert quoted("two\nlines") == r"'two\nlines'"


def test_what_is_plain_is_one_line_that_no_terminal_obeys():
    assert plain("two\nlines\x1b[31m of\x9bred") == "two lines [31m of red"
    assert clipped("short\tand plain") == "short and plain"
    assert clipped("x" * 1000) == f"{'x' * SHOWN}…"


def test_plain_lines_keep_their_indentation_and_nothing_that_a_terminal_obeys():
    assert plain_lines("a\r\n\tb\x1b[2J\n  c\x85d\x9b") == ["a", "        b [2J", "  c", "d"]


def test_a_duration_is_told_in_the_unit_that_is_read_at_once():
    told = {59: "59 s", 5_940: "99 min", 6_000: "1 h 40 min", 172_740: "47 h 59 min", 273_600: "3 d 4 h"}
    assert {seconds: duration(seconds) for seconds in told} == told
    assert duration(172_800) == "2 d 0 h"
