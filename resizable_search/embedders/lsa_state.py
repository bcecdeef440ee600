"""What a fitted lsa embedder keeps: four files of JSON and .npy in one folder.

    lsa.json         the format, its parameters, the hash of each other file; written last
    terms.json       the terms, sorted; their places are the rows of the arrays
    idf.npy          (terms,) float32, what a term weighs
    components.npy   (terms, width) float32, C order: a term's row lies together, so that a query,
                     which maps the file, touches a few pages of it

The state's checksum is over lsa.json, and through its hashes over everything. Reading verifies all
but components.npy, whose shape alone it checks: hashing 92 MB would cost a query more than the search.

What a word is: texts to the terms that the lsa embedder counts.

A term is a word in lower case, without its accents and its English plural, so that `Trees`, `tree`
and `TREE'S` are one term. A word made of several ones (`OrderedDict`, `move_to_end`) counts as a
whole and by its parts, so that it is found by either. No word is left out, neither single letters
(`C`, `B-tree`) nor what is common (`any`, `with`): weighing them is the embedder's. Han and kana, which
are written without spaces, are cut into overlapping pairs, as is usual for them.
"""

import hashlib
import io
import json
import math
import os
import re
import stat
import unicodedata
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import IndexFormatError, StorageError
from resizable_search.text import BACK, clipped

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


FORMAT = "rsearch-lsa"
VERSION = 1
HEAD, TERMS, IDF, COMPONENTS = "lsa.json", "terms.json", "idf.npy", "components.npy"
MOST_BYTES = 256_000_000
"""Of a file that is read whole: 30,000 words have less than a megabyte."""


@dataclass(frozen=True, slots=True)
class LsaState:
    """The terms of a corpus, their weights, and what each adds to every dimension.

    `places` gives a term's row in `idf`, (terms,) float32, and `components`, (terms, width) float32.
    """

    places: dict[str, int]
    idf: NDArray[np.float32]
    components: NDArray[np.float32]
    parameters: dict[str, Any]
    checksum: str

    @property
    def width(self) -> int:
        """The full dimension."""
        return int(self.components.shape[1])


def write_state(
    folder: Path,
    terms: list[str],
    idf: NDArray[np.float32],
    components: NDArray[np.float32],
    parameters: dict[str, Any],
) -> None:
    """Write the four files; the folder holds no state until the last is there. Raises StorageError."""
    head = {
        "format": FORMAT,
        "version": VERSION,
        "rules": RULES,
        "terms": len(terms),
        "width": components.shape[1],
        "parameters": parameters,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / HEAD).unlink(missing_ok=True)
        hashes = {
            TERMS: _put(folder / TERMS, json.dumps(terms).encode()),
            IDF: _put(folder / IDF, idf),
            COMPONENTS: _put(folder / COMPONENTS, components),
        }
        head["files"] = hashes
        head["checksum"] = _checksum(head)
        _put(folder / HEAD, json.dumps(head, indent=1).encode())
    except OSError as error:
        raise StorageError(
            f"cannot write the state of the lsa embedder to {folder}: {error.strerror or error}; "
            "make room or choose another folder with --home"
        ) from error


def _put(path: Path, content: bytes | NDArray[np.float32]) -> str:
    """Write a file under a temporary name, move it into its place, and give its SHA-256."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb+") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            np.save(file, np.ascontiguousarray(content, np.float32), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    os.replace(temporary, path)
    return digest


def _checksum(head: dict[str, Any]) -> str:
    rest = {key: value for key, value in head.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_state(folder: Path) -> LsaState:
    """What `write_state` wrote, with the components mapped. Raises IndexFormatError."""
    head = _head(folder)
    terms = _terms(folder, head)
    raw = _verified(folder / IDF, head["files"][IDF])
    idf = _array(folder / IDF, raw, (len(terms),))
    components = _array(folder / COMPONENTS, None, (len(terms), head["width"]))
    places = dict(zip(terms, range(len(terms)), strict=True))
    return LsaState(places, idf, components, head["parameters"], head["checksum"])


def _head(folder: Path) -> dict[str, Any]:
    path = folder / HEAD
    try:
        head = json.loads(_bytes(path))
        checksum = _checksum(head) if isinstance(head, dict) else ""
    except (ValueError, RecursionError) as error:
        raise IndexFormatError(f"{path} is no JSON; {BACK}") from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise IndexFormatError(f"{path} is not the state of an lsa embedder; {BACK}")
    versions = head.get("version"), head.get("rules")
    if versions != (VERSION, RULES):
        told = [clipped(str(version)) for version in versions]
        raise IndexFormatError(
            f"{path} is of format {told[0]} with word rules {told[1]}, "
            f"this rsearch reads {VERSION} with {RULES}; use the version that wrote it, "
            "or build the index again with --restart"
        )
    if head.get("checksum") != checksum:
        raise IndexFormatError(f"{path} is damaged: its checksum does not fit; {BACK}")
    if not _makes_sense(head):
        raise IndexFormatError(f"{path} is damaged: it describes no state; {BACK}")
    return head


def _makes_sense(head: dict[str, Any]) -> bool:
    """Whether the fields are what they must be: a checksum that fits may be anybody's."""
    files, parameters = head.get("files"), head.get("parameters")
    return (
        isinstance(files, dict)
        and all(isinstance(files.get(name), str) for name in (TERMS, IDF, COMPONENTS))
        and isinstance(parameters, dict)
        and set(parameters) == {"width", "seed", "sample"}
        and all(type(number) is int for number in (*parameters.values(), head.get("width")))
        and min(parameters["width"], parameters["sample"], head["width"]) > 0
    )


def _terms(folder: Path, head: dict[str, Any]) -> list[str]:
    path = folder / TERMS
    terms: list[str] = json.loads(_verified(path, head["files"][TERMS]))
    if not isinstance(terms, list) or not all(isinstance(term, str) for term in terms):
        raise IndexFormatError(f"{path} is damaged: it is no list of words; {BACK}")
    return terms


def _verified(path: Path, digest: str) -> bytes:
    content = _bytes(path)
    if hashlib.sha256(content).hexdigest() != digest:
        raise IndexFormatError(f"{path} is damaged: its hash does not fit {HEAD}; {BACK}")
    return content


def _bytes(path: Path) -> bytes:
    try:
        _check_file(path)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise IndexFormatError(f"{path} is missing; {BACK}") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}; check its permissions") from error


def _check_file(path: Path) -> None:
    """Refuse what a read would wait for, or never come to the end of."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise IndexFormatError(f"{path} is no file; {BACK}")
    if path.name != COMPONENTS and found.st_size > MOST_BYTES:
        raise IndexFormatError(f"{path} is damaged: it has {found.st_size:,} bytes; {BACK}")


def _array(path: Path, content: bytes | None, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The float32 array of that shape that `write_state` wrote, out of `content` or mapped from the file.

    Its header is compared, not parsed: numpy evaluates one, and warns of what Python 2 wrote.
    """
    header = _header(shape)
    expected = len(header) + 4 * math.prod(shape)
    try:
        if content is None:
            _check_file(path)
            with path.open("rb") as file:
                begins, size = file.read(len(header)), os.fstat(file.fileno()).st_size
                if begins == header and size == expected:
                    # A plain view: indexing a memmap costs more.
                    return np.memmap(file, "<f4", "r", len(header), shape).view(np.ndarray)
        else:
            begins, size = content[: len(header)], len(content)
            if begins == header and size == expected:
                return np.frombuffer(content, "<f4", offset=len(header)).reshape(shape)
    except FileNotFoundError as error:
        raise IndexFormatError(f"{path} is missing; {BACK}") from error
    except (OSError, ValueError, OverflowError) as error:
        raise StorageError(f"cannot read {path}: {clipped(str(error))}; check its permissions") from error
    if begins == header:
        raise IndexFormatError(f"{path} is damaged: it has {size:,} bytes where {expected:,} belong; {BACK}")
    raise IndexFormatError(f"{path} is no .npy file of float32 of the shape {shape}; {BACK}")


def _header(shape: tuple[int, ...]) -> bytes:
    """The first bytes of a .npy file of float32 in C order, as numpy writes them."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return header.getvalue()
