"""Mutations of an index's files that know their structure, and the judge of what rsearch makes of them.

Everything is a function of a `random.Random`: `scripts/drills/fuzz.py` seeds one for each case, and
tests/store/test_fuzz.py has hypothesis play it.
"""
