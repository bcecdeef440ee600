"""Manifests that lie: any JSON in any place, and what only one who knows the format would write."""

import copy
import io
import json
import math
from collections.abc import Callable
from pathlib import PurePosixPath
from random import Random
from typing import Any

import numpy as np

from resizable_search.embedders.lsa import _checksum
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import manifest_text
from tests.fuzzing.cases import OUTSIDE, Case, Change
from tests.fuzzing.sound import Sound, listed, relist, with_checksum
from tests.fuzzing.values import ANYWHERE, DEEP, Data, nested, odd, place

Changes = dict[str, Change]


def mutated(rng: Random, sound: Sound) -> Case:
    """A case whose manifest, at least, is not the sound one."""
    data = copy.deepcopy(sound.manifest)
    changes: Changes = {}
    words = []
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        try:
            if rng.random() < 0.4:
                words.append(rng.choice(ANYWHERE)(rng, data))
            else:
                words.append(rng.choice(KNOWING)(rng, data, changes, sound))
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError):
            words.append("something that came too late")  # an earlier one has left nothing to it
    text, how = _text(rng, data)
    return Case("manifest", sound.name, (*words, *how), {**changes, NAMES.manifest: Change("bytes", text)})


def _text(rng: Random, data: Data) -> tuple[bytes, tuple[str, ...]]:
    """The object as a file, mostly with a checksum that fits; and what is odd about that file."""
    try:
        text = manifest_text(with_checksum(data))
    except RecursionError:  # of copies of what is deep in one another
        return b"[" * 50_000, ("beyond writing",)
    text = text.replace(f'"{DEEP}"'.encode(), b"[" * 50_000 + b"]" * 50_000)
    if rng.random() < 0.85:
        return text, ()
    name, write = rng.choice(TEXTS)
    return write(rng, text), (f"written {name}",)


def _flipped(rng: Random, text: bytes) -> bytes:
    changed = bytearray(text)
    for _ in range(rng.choice((1, 1, 4, 40))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _keyed_twice(rng: Random, text: bytes) -> bytes:
    key = rng.choice((b"rows", b"parts", b"dims", b"checksum", b"format"))
    more = b'"%s": %s' % (key, rng.choice((b"1", b"[]", b'""', b"NaN", b"1" * 5000)))
    return text[:1] + more + b"," + text[1:] if rng.random() < 0.7 else text[:-1] + b"," + more + b"}"


TEXTS: list[tuple[str, Callable[[Random, bytes], bytes]]] = [
    ("compactly", lambda rng, text: json.dumps(json.loads(text)).encode() if len(text) < 50_000 else text),
    ("cut", lambda rng, text: text[: rng.randrange(len(text))]),
    ("with bytes changed", _flipped),
    ("with a key twice", _keyed_twice),
    ("with a mark before it", lambda rng, text: b"\xef\xbb\xbf" + text),
    ("as UTF-16", lambda rng, text: text.decode().encode("utf-16")),
    ("with something behind it", lambda rng, text: text + rng.choice((b"\n", b"x", b"\0", text))),
    ("as something else", lambda rng, text: rng.choice((b"", b"null", b"[]", b"3", b"\xff", b"[" * 90_000))),
    ("in a list", lambda rng, text: b"[" + text + b"]"),
    ("with much space", lambda rng, text: b" " * 1_000_000 + text),
    ("with another checksum", lambda rng, text: text.replace(b'"checksum": "', b'"checksum": "0')),
]


# -- by one who knows the format


def _parts(rng: Random, data: Data, changes: Changes, sound: Sound) -> str:
    parts = data["parts"]
    kind = rng.choice(("twice", "reversed", "fewer", "rows moved", "path", "none", "another folder"))
    if kind == "twice":
        part = copy.deepcopy(rng.choice(parts))
        part["path"] = rng.choice((part.get("path"), f"{part.get('path')}/.", "./", "parts/../", "parts/3"))
        parts.append(part)
        if rng.random() < 0.5:
            changes["parts/3"] = Change("link", rng.choice(("2", f"{OUTSIDE}/{sound.name}/parts/2", "..")))
        _add_up(rng, data)
    elif kind == "reversed":
        parts.reverse()
    elif kind == "fewer":
        del parts[rng.randrange(len(parts))]
        _add_up(rng, data)
    elif kind == "rows moved":
        for part, by in zip(parts, (1, -1), strict=False):
            part["rows"] += by * rng.choice((1, 5))
        if len(parts) == 1:
            _add_up(rng, data)
    elif kind == "path":
        part = rng.choice(parts)
        old = str(part.get("path"))
        part["path"] = rng.choice(
            (".", f"./{old}", f"{old}/", old.replace("/", "//"), f"parts/../{old}", old.upper(), "parts",
             "parts/1", "parts/02", "parts/2/..", f"../{sound.name}/{old}", "tiers", "parts/2\n", "parts/²")
        )  # fmt: skip
    elif kind == "none":
        parts.clear()
        data["rows"] = 0
    else:
        link = Change("link", f"{OUTSIDE}/{sound.name}/parts/2")
        changes[rng.choice(("parts/2", "parts/3"))] = link
        if rng.random() < 0.5 and len(parts) > 1:
            parts[1]["path"] = "parts/3"
    return f"parts: {kind}"


def _add_up(rng: Random, data: Data) -> None:
    if rng.random() < 0.9:
        data["rows"] = sum(part["rows"] for part in data["parts"])


def _rows(rng: Random, data: Data, changes: Changes, sound: Sound) -> str:
    """Another number of rows that adds up."""
    rng.choice(data["parts"])["rows"] = rng.choice(
        (0, 1, -1, 59, 61, 10**6, 10**12, 2**63 - 1, 10**30, 60.0, True)
    )
    _add_up(rng, data)
    return "rows that add up"


def _dims(rng: Random, data: Data, changes: Changes, sound: Sound) -> str:
    full = sound.full
    dims: list[Any] = rng.choice(
        ([full], data["dims"][:-1], data["dims"][1:], [*data["dims"], 2 * full], [1, full], [full, full],
         [-1, full], [0, full], [full + 0.0], [str(full)], [True, full], list(range(1, 2000)), [10**30],
         [2**40], list(reversed(data["dims"])), [data["dims"]])
    )  # fmt: skip
    data["dims"] = dims
    if rng.random() < 0.3:
        for part in data["parts"]:
            old, new = f"{full}.", f"{dims[-1]}."
            part["files"] = {name.replace(old, new): entry for name, entry in part["files"].items()}
    if rng.random() < 0.4:
        data["embedder"]["width"] = dims[-1]
    return f"dims {dims!r:.60}"


def _bitmap(rng: Random, data: Data, changes: Changes, sound: Sound) -> str:
    part = rng.choice(data["parts"])
    files = part["files"]
    kind = rng.choice(("none", "count", "other", "all", "unlisted"))
    if kind == "none":
        part.update(deleted=0, bitmap="", files={k: v for k, v in files.items() if "deleted" not in k})
    elif kind == "count":
        part["deleted"] = rng.choice((0, 1, 2, 3, 59, 60, 61, -1, True, 1.0))
    elif kind == "other":
        part["bitmap"] = rng.choice((*files, "64.npy", "../deleted.3.npy", NAMES.documents, "manifest.json"))
        part["deleted"] = rng.choice((1, 2))
    elif kind == "all":
        packed = np.packbits(np.ones(part["rows"], bool))
        name = next((name for name in files if "deleted" in name), "deleted.9.npy")
        file = io.BytesIO()
        np.save(file, packed)
        changes[str(PurePosixPath(part["path"]) / name)] = Change("bytes", file.getvalue())
        part.update(
            deleted=part["rows"], bitmap=name, files={**files, name: {"bytes": 1, "sha256": "0" * 64}}
        )
    else:
        part["files"] = {k: v for k, v in files.items() if "deleted" not in k}
    return f"bitmap: {kind}"


def _file_names(rng: Random, data: Data, changes: Changes, sound: Sound) -> str:
    """A file that the format does not know, in a part or beside the parts, on disk or not."""
    name = rng.choice(
        ("48.npy", "tiers/48.int8.npy", "x", "..", ".", "", "../../outside/x", "/nonexistent/x", "a" * 300,
         "embedder/x.json", "embedder/../x", "embedder", "tiers", "parts/2/64.npy", "manifest.json",
         "documents.sqlite", "64.npy/x", "./64.npy", "tiers//64.int8.npy", "a\nb", "embedder/" + "d/" * 400)
    )  # fmt: skip
    entry = {"bytes": rng.choice((0, 1, 4096, 10**30, -1)), "sha256": "0" * 64}
    holder = rng.choice([data["files"], *(part["files"] for part in data["parts"])])
    if rng.random() < 0.3 and holder:
        holder.pop(rng.choice(sorted(holder)))
    holder[name] = entry
    if name in ("48.npy", "x", "embedder/x.json", "tiers/48.int8.npy") and rng.random() < 0.5:
        changes[name] = rng.choice((Change("bytes", b"x"), Change("folder")))
    return f"files: {name!r:.40}"


def _entries(rng: Random, data: Data, changes: Changes, sound: Sound) -> str:
    """Sizes and checksums that are not the files'."""
    entries = listed(data)
    file = rng.choice(sorted(entries))
    entry = entries[file]
    kind = rng.choice(("bytes", "sha256", "another's", "gone"))
    if kind == "bytes":
        entry["bytes"] = rng.choice((0, -1, entry["bytes"] + 1, 2**63, 10**400, 1.5, True, "1"))
    elif kind == "sha256":
        entry["sha256"] = rng.choice(("", "0" * 64, entry["sha256"].upper(), "\x1b[1m", "é" * 64))
    elif kind == "another's":
        entry.update(entries[rng.choice(sorted(entries))])
    else:
        entry.clear()
    return f"entry of {file}: {kind}"


def _embedder(rng: Random, data: Data, changes: Changes, sound: Sound) -> str:
    spec = data["embedder"]
    kind = rng.choice(("kind", "model", "width", "options", "centred", "state", "tasks"))
    if kind == "kind":
        spec["kind"] = rng.choice(("nomic", "nomic-local", "lsa", "given", "table", "os", "", "\x1b[1m"))
        spec["model"] = rng.choice((spec.get("model"), "nomic-embed-text-v1.5", "lsa-tfidf-svd", "\x1b[1m"))
    elif kind == "model":
        spec["model"] = rng.choice(("nomic-embed-text-v1.5", "", "a" * 10_000, "\ud800", "x\ny"))
    elif kind == "width":
        spec["width"] = rng.choice((sound.full + 1, 1, 0, -1, 10**12, 768, True, float(sound.full)))
    elif kind == "options":
        spec["options"] = rng.choice(
            ({}, {"model": "x"}, {"timeout": "soon"}, {"width": "x"}, {"width": -1}, {"width": 10**12},
             {"self": 1}, {"width": sound.full, "model": "unknown"}, {"seed": []}, {"a": nested(300)})
        )  # fmt: skip
    elif kind == "centred":
        spec["centred"] = rng.choice((True, False, 1, "no", None, [], math.nan))
    elif kind == "state":
        spec["state_checksum"] = rng.choice(("", "0" * 64, "x", 3))
    else:
        spec["query_task"] = rng.choice(("", "search_query", "\x1b[1m", 3))
    return f"embedder: {kind}"


def _plans(rng: Random, data: Data, changes: Changes, sound: Sound) -> str:
    plans = data["plans"]
    if not plans:
        plans["10:0.9"] = {}
    key = rng.choice(sorted(plans))
    plan = plans[key]
    kind = rng.choice(("stages", "key", "field", "long", "many"))
    if kind == "stages":
        plan["plan"] = rng.choice(
            ("96:bits:999999999999999999,96", "96:int8:20", "0", "-1", "97", "96:bits:5,96", "", ",", "96,96",
             "96:bits:20,96:bits:20,96:bits:20,96", "1:bits:20,96", "33:int8:20,96", "96:x:1,96", "٩٦",
             "96\n")
        )  # fmt: skip
    elif kind == "key":
        new = rng.choice(
            ("10:0.90", "9:0.9", "", ":", "10:nan", "10:0.9; rm -rf x", "`x`", "$(x)", "a" * 500)
        )
        plans[new] = plans.pop(key)
    elif kind == "long":
        plan["plan"] = "96:bits:20," * rng.choice((10, 1000, 50_000)) + "96"
    elif kind == "many":
        plans.update({f"{number}:0.9": copy.deepcopy(plan) for number in range(300)})
    else:
        field = rng.choice(sorted(plan))
        plan[field] = odd(rng, plan[field])
    return f"plans: {kind}"


def _links(rng: Random, data: Data, changes: Changes, sound: Sound) -> str:
    """Links in the place of files and folders, to the same content or another."""
    folders = {str(above) for name in sound.files for above in PurePosixPath(name).parents} - {"."}
    where = rng.choice((f"{sound.manifest['dims'][0]}.npy", NAMES.documents, *sorted(folders)))
    target = rng.choice((f"{OUTSIDE}/{sound.name}/{where}", "nowhere", where.rpartition("/")[2], "."))
    changes[where] = Change("link", target)
    return f"{where} is a link to {target}"


def _head(rng: Random, data: Data, changes: Changes, sound: Sound) -> str:
    """What a fitted embedder says of itself, with a checksum that fits."""
    head = json.loads(sound.files["embedder/lsa.json"])
    del head["checksum"]
    node, key = place(rng, head)
    node[key] = odd(rng, node[key])
    text = json.dumps({**head, "checksum": _checksum(head)}, indent=1).encode()
    changes["embedder/lsa.json"] = Change("bytes", text)
    if rng.random() < 0.5:
        relist(data, "embedder/lsa.json", text)
    return f"lsa.json: {key} is {node[key]!r:.60}"


def _generation(rng: Random, data: Data, changes: Changes, sound: Sound) -> str:
    data["generation"] = rng.choice((0, -1, 2**63, 10**400, 1.0, True, "1", None))
    data["format"] = rng.choice((1, 1, 0, -1, True, 1.0, 2, 10**30, "1"))
    return f"generation {data['generation']!r:.30}, format {data['format']!r:.30}"


KNOWING = [
    _parts, _parts, _rows, _dims, _dims, _bitmap, _file_names, _entries, _embedder, _plans, _links,
    _generation, _head,
]  # fmt: skip
