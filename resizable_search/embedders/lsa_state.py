"""The tokenizer of the lsa embedder, and the four files of its fitted state.

    lsa.json         the format, the parameters, the hash of each other file; written last
    terms.json       the terms, sorted; a term's index is its row in the arrays
    idf.npy          (terms,) float32, the terms' weights
    components.npy   (terms, width) float32, C order, so that a query touches few pages of the mapped file

The state's checksum covers lsa.json, and by its hashes all files. Reading verifies all but components.npy:
hashing 92 MB would cost a query more than the search.

A term is a word in lower case, without accents and English plural. A compound (`OrderedDict`, `move_to_end`)
counts as a whole and by its parts. No word is left out, neither `C` nor `with`. Han and kana, written
without spaces, are cut into overlapping pairs, as is usual.
"""

import hashlib
import json
import math
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.arrays import npy_header
from resizable_search.errors import IndexFormatError, StorageError
from resizable_search.system import replace_file
from resizable_search.text import BACK, clipped

Floats = NDArray[np.float32]

RULES = 1
"""The version of the tokenizer's rules. A state that was fitted by other rules is refused."""
LONGEST_WORD = 64
"""Characters. Longer words are cut, so that neither the cache nor the vocabulary stores a blob."""
CACHED_WORDS = 1 << 16
"""Words whose terms are cached, in some 12 MB."""

# Marks inside words that `\w` does not match: combining accents, and the vowel signs of Hebrew, Arabic, the
# scripts of India, Thai and Lao.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u0670\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e\u0eb1-\u0ecd"
_WORD = re.compile(rf"[\w'\u2019{_MARKS}]{{1,{LONGEST_WORD}}}")
_PART = re.compile(rf"(?:[^\W_]|[{_MARKS}])+")
_SUFFIX = re.compile(r"['\u2019](?:s|t|d|m|ll|re|ve)?$", re.IGNORECASE)
_HUMP = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][^\W\d_A-Z])")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


def tokens(text: str) -> list[str]:
    """The terms of a text, in order, as often as they occur."""
    return list(chain.from_iterable(map(_terms_of, _WORD.findall(text))))


@lru_cache(CACHED_WORDS)
def _terms_of(word: str) -> tuple[str, ...]:
    lowered = word.lower()
    if word.isascii():
        if word.isalnum() and (word[1:] == lowered[1:] or word.isupper()):  # nearly all words
            return (_singular(lowered),)
    else:
        word = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
        word = unicodedata.normalize("NFC", word)  # Hangul was split too
    parts = _PART.findall(_HUMP.sub("_", _SUFFIX.sub("", word)))
    if len(parts) > 1 and "'" not in word and "\u2019" not in word:
        parts.append(word.strip("_"))
    terms: list[str] = []
    for part in map(str.lower, parts):
        if _UNSPACED.search(part):
            terms.extend(part[i : i + 2] for i in range(max(1, len(part) - 1)))
        else:
            terms.append(_singular(part))
    return tuple(terms)


def _singular(word: str) -> str:
    """The word without an English plural's ending.

    After the S stemmer of Harman, "How effective is suffixing?" (1991). Unlike hers, it turns `-ie` into
    `-y`, so that `movies` and `movie` are one term, and it knows `classes`.
    """
    if len(word) < 4:
        return word
    if word[-1] == "s" and word[-2] not in "us":
        if word.endswith("ies") and len(word) > 4:
            return word[:-3] + "y"
        word = word[:-2] if word.endswith(("sses", "shes", "ches", "xes")) else word[:-1]
    return word[:-2] + "y" if word.endswith("ie") else word


FORMAT = "rsearch-lsa"
VERSION = 1
HEAD, TERMS, IDF, COMPONENTS = "lsa.json", "terms.json", "idf.npy", "components.npy"
MAX_BYTES = 256_000_000
"""Of a file that is read whole. 30,000 words have less than a megabyte."""


@dataclass(frozen=True, slots=True)
class LsaState:
    """`rows` gives a term's row in `idf`, (terms,) float32, and `components`, (terms, width) float32."""

    rows: dict[str, int]
    idf: Floats
    components: Floats
    parameters: dict[str, Any]
    checksum: str


def write_state(
    folder: Path, terms: list[str], idf: Floats, components: Floats, parameters: dict[str, Any]
) -> None:
    """Write the four files, lsa.json last: without it, the folder has no state. Raises StorageError."""
    contents = {
        TERMS: json.dumps(terms).encode(),
        IDF: npy_header(idf.shape) + idf.astype("<f4").tobytes(),
        COMPONENTS: npy_header(components.shape) + components.astype("<f4").tobytes(),
    }
    head: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "rules": RULES,
        "terms": len(terms),
        "width": components.shape[1],
        "parameters": parameters,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    head["checksum"] = _checksum(head)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / HEAD).unlink(missing_ok=True)
        for name, content in contents.items():
            replace_file(folder / name, content)
        replace_file(folder / HEAD, json.dumps(head, indent=1).encode())
    except OSError as error:
        raise StorageError(
            f"cannot write the state of the lsa embedder to {folder}: {error.strerror or error}; "
            "make room, or choose another `home`"
        ) from error


def _checksum(head: dict[str, Any]) -> str:
    rest = {key: value for key, value in head.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_state(folder: Path) -> LsaState:
    """What `write_state` wrote, with the components mapped. Raises IndexFormatError and StorageError."""
    head = _read_head(folder / HEAD)
    terms = json.loads(_read(folder / TERMS, head["files"][TERMS]))
    if not isinstance(terms, list) or not all(isinstance(term, str) for term in terms):
        raise _damaged(folder / TERMS, "it is no list of words")
    _read(folder / IDF, head["files"][IDF])
    idf = _map_array(folder / IDF, (len(terms),)).copy()
    components = _map_array(folder / COMPONENTS, (len(terms), head["width"]))
    rows = dict(zip(terms, range(len(terms)), strict=True))
    return LsaState(rows, idf, components, head["parameters"], head["checksum"])


def _read_head(path: Path) -> dict[str, Any]:
    try:
        head: dict[str, Any] = json.loads(_read(path))
        checksum = _checksum(head)
    except (ValueError, RecursionError, AttributeError):
        head = {}
    if head.get("format") != FORMAT:
        raise IndexFormatError(f"{path} is not the state of an lsa embedder; {BACK}")
    version, rules = head.get("version"), head.get("rules")
    if (version, rules) != (VERSION, RULES):
        raise IndexFormatError(
            f"{path} is of format {clipped(str(version))} with word rules {clipped(str(rules))}, "
            f"this rsearch reads {VERSION} with {RULES}; use the version that wrote it, "
            "or build the index again with `restart`"
        )
    if head.get("checksum") != checksum:
        raise _damaged(path, "its checksum does not fit")
    files, parameters = head.get("files"), head.get("parameters")
    if not (  # a checksum that fits may be anybody's
        isinstance(files, dict)
        and all(isinstance(files.get(name), str) for name in (TERMS, IDF, COMPONENTS))
        and isinstance(parameters, dict)
        and set(parameters) == {"width", "seed", "sample"}
        and all(type(number) is int for number in (*parameters.values(), head.get("width")))
        and min(parameters["width"], parameters["sample"], head["width"]) > 0
    ):
        raise _damaged(path, "it describes no state")
    return head


def _read(path: Path, digest: str | None = None) -> bytes:
    with _read_errors(path):
        content = path.read_bytes()
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise _damaged(path, f"its hash does not fit {HEAD}")
    return content


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Refuse a file that would block or never end, and turn what reading it raises into our errors."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise IndexFormatError(f"{path} is not a file; {BACK}")
        if path.name != COMPONENTS and status.st_size > MAX_BYTES:
            raise _damaged(path, f"it has {status.st_size:,} bytes")
        yield
    except FileNotFoundError as error:
        raise IndexFormatError(f"{path} is missing; {BACK}") from error
    except (OSError, ValueError, OverflowError) as error:
        reason = clipped(getattr(error, "strerror", None) or str(error))
        raise StorageError(f"cannot read {path}: {reason}; check its permissions") from error


def _damaged(path: Path, why: str) -> IndexFormatError:
    return IndexFormatError(f"{path} is damaged: {why}; {BACK}")


def _map_array(path: Path, shape: tuple[int, ...]) -> Floats:
    """The float32 array of that shape in a file, mapped. numpy would evaluate the header; it is compared."""
    with _read_errors(path), path.open("rb") as file:
        header = npy_header(shape)
        expected = len(header) + 4 * math.prod(shape)
        size = os.fstat(file.fileno()).st_size
        if file.read(len(header)) != header:
            raise IndexFormatError(f"{path} is no .npy file of float32 of the shape {shape}; {BACK}")
        if size != expected:
            raise _damaged(path, f"it has {size:,} bytes where {expected:,} belong")
        # A plain view: indexing a memmap costs more.
        return np.memmap(file, "<f4", "r", len(header), shape).view(np.ndarray)
