"""What .gitignore files leave out, each for its own folder and those below, as git reads them."""

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_NAME = ".gitignore"


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules that hold in a folder: those of each folder above it and its own, the nearest last."""

    specs: "tuple[tuple[str, GitIgnoreSpec], ...]" = ()

    @classmethod
    def above(cls, root: str) -> "Rules":
        """What the folders above `root` say of what is in it, up to the top of its git repository.

        A root that they leave out is named all the same: then they say nothing.
        """
        above = _parents(root)
        top = next((i for i, folder in enumerate([root, *above]) if _is_repository(folder)), 0)
        rules = cls()
        for folder in reversed(above[:top]):
            rules = rules.within(folder)
        return cls() if rules.leave_out(root, is_folder=True) else rules

    def within(self, folder: str) -> "Rules":
        """The rules that hold in this folder, which lies in the one that these are of."""
        spec = _spec(os.path.join(folder, _NAME))
        return self if spec is None else Rules((*self.specs, (os.path.join(folder, ""), spec)))

    def leave_out(self, path: str, *, is_folder: bool) -> bool:
        """Whether what lies at a path in the folder is left out: the nearest rule that knows it decides."""
        for folder, spec in reversed(self.specs):
            said = spec.check_file(path[len(folder) :] + ("/" if is_folder else "")).include
            if said is not None:
                return bool(said)
        return False


NO_RULES = Rules()


def _spec(path: str) -> "GitIgnoreSpec | None":
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:  # as names of files are read
            lines = file.read().split("\n")
    except OSError:
        return None
    from pathspec import GitIgnoreSpec

    good = []
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except (ValueError, re.error):
            continue  # git passes over a pattern that is none, too
        good.append(line)
    spec = GitIgnoreSpec.from_lines(good)
    return spec if len(spec) else None


def _parents(folder: str) -> list[str]:
    found = []
    while (above := os.path.dirname(folder)) != folder:
        found.append(above)
        folder = above
    return found


def _is_repository(folder: str) -> bool:
    return os.path.lexists(os.path.join(folder, ".git"))
