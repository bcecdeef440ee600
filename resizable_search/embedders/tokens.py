"""What a word is: texts to the terms that the lsa embedder counts.

A term is a word in lower case, without its accents and its English plural, so that `Trees`, `tree`
and `TREE'S` are one term. A word made of several ones (`OrderedDict`, `move_to_end`) counts as a
whole and by its parts, so that it is found by either. No word is left out, neither single letters
(`C`, `B-tree`) nor what is common (`any`, `with`): weighing them is the embedder's. Han and kana, which
are written without spaces, are cut into overlapping pairs, as is usual for them.
"""

import re
import unicodedata
from itertools import chain

RULES = 1
"""The version of everything here that decides a term: a state that was fitted by other rules is refused."""
LONGEST_WORD = 64
"""In characters: what is longer is cut, so that neither the cache nor the vocabulary keeps a blob."""
MEMO = 1 << 16
"""Words whose terms are remembered, some 12 MB; that English Wikipedia has more costs it little."""

# Marks that are no letters to `\w` but stand inside words: combining accents, and the vowel signs of
# Hebrew, Arabic, the scripts of India, Thai and Lao.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u0670\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e\u0eb1-\u0ecd"
_WORD = re.compile(rf"[\w'\u2019{_MARKS}]{{1,{LONGEST_WORD}}}")
_PART = re.compile(rf"(?:[^\W_]|[{_MARKS}])+")
_SUFFIX = re.compile(r"['\u2019](?:s|t|d|m|ll|re|ve)?$", re.IGNORECASE)
_HUMP = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][^\W\d_A-Z])")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


class _Memo(dict[str, tuple[str, ...]]):
    """The terms of each word seen lately: a text's words are mostly those of other texts."""

    def __missing__(self, word: str) -> tuple[str, ...]:
        if len(self) >= MEMO:
            self.clear()
        terms = self[word] = _terms_of(word)
        return terms


_memo = _Memo()


def tokens(text: str) -> list[str]:
    """The terms of a text, in its order and as often as they occur."""
    return list(chain.from_iterable(map(_memo.__getitem__, _WORD.findall(text))))


def _terms_of(word: str) -> tuple[str, ...]:
    """The terms of one word."""
    lowered = word.lower()
    if word.isascii():
        if word.isalnum() and (word[1:] == lowered[1:] or word.isupper()):  # nearly all of them
            return (_singular(lowered),)
    else:
        word = _without_accents(word)
    parts = _PART.findall(_HUMP.sub("_", _SUFFIX.sub("", word)))
    if len(parts) > 1 and "'" not in word and "\u2019" not in word:
        parts.append(word.strip("_"))
    return tuple(chain.from_iterable(_term(part.lower()) for part in parts))


def _without_accents(word: str) -> str:
    bare = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
    return unicodedata.normalize("NFC", bare)  # Hangul came apart too


def _term(part: str) -> tuple[str, ...]:
    if _UNSPACED.search(part):
        return tuple(part[i : i + 2] for i in range(max(1, len(part) - 1)))
    return (_singular(part),)


def _singular(word: str) -> str:
    """Without an English plural's ending.

    After the S stemmer of Harman, "How effective is suffixing?" (1991). Unlike hers it ends
    `-ie` as `-y`, which makes `movies` and `movie` one term, and knows `classes`.
    """
    if len(word) < 4:
        return word
    if word[-1] == "s" and word[-2] not in "us":
        if word.endswith("ies") and len(word) > 4:
            return word[:-3] + "y"
        word = word[:-2] if word.endswith(("sses", "shes", "ches", "xes")) else word[:-1]
    return word[:-2] + "y" if word.endswith("ie") else word
