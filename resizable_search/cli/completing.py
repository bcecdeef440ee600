"""How a shell is answered: words as bash splits them, nothing on stderr, nothing that a shell would run."""

import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress

VARIABLE = "_RSEARCH_COMPLETE"
"""Set by the script that `rsearch --show-completion` prints."""

_SPECIAL = re.compile(r"([^\w@%+=:,./-])")
_PLAIN = re.compile(r"[\w@%+=:,./#-]+")


def is_asked() -> bool:
    """Whether a shell asks for words."""
    return os.environ.get(VARIABLE, "").startswith("complete_")


def answer(run: Callable[[], object]) -> int:
    """Print the words that `run` offers as this shell takes them, and nothing else. Returns the exit code."""
    in_bash = os.environ[VARIABLE] == "complete_bash"
    if in_bash:
        word = _join_words()
    said, code = io.StringIO(), 0
    with suppress(Exception), redirect_stdout(said), redirect_stderr(io.StringIO()):
        try:
            run()
        except SystemExit as end:  # fish asks by the exit code whether there are words
            code = end.code if isinstance(end.code, int) else 0
    text = said.getvalue()
    if in_bash:
        lines = [_for_bash(line, word) for line in text.splitlines() if line and line.isprintable()]
        text = "".join(f"{line}\n" for line in lines)
    sys.stdout.write(text)
    return code


def _join_words() -> str:
    """Undo that bash parts words at `:` and `=`, in the variables that typer reads. Returns the last word."""
    words = os.environ.get("COMP_WORDS", "").split("\n")
    with suppress(ValueError):
        words = words[: int(os.environ.get("COMP_CWORD", "")) + 1]
    joined: list[str] = []
    glue = False
    for word in words:
        is_break = re.fullmatch("[:=]+", word) is not None
        if joined[1:] and (glue or (is_break and joined[-1] != "")):
            joined[-1] += word
        else:
            joined.append(word)
        glue = is_break
    os.environ["COMP_WORDS"] = "\n".join(joined)
    os.environ["COMP_CWORD"] = str(len(joined) - 1)
    return joined[-1]


def _for_bash(line: str, word: str) -> str:
    """A word as bash puts it in: behind the last `:` or `=` that is there, what is special escaped."""
    value = word.partition("=")[2] if word.startswith("-") and "=" in word else word
    kept = max(value.rfind(":"), value.rfind("=")) + 1
    rest = line[kept:]
    return rest if word[:1] in ("'", '"') else _SPECIAL.sub(r"\\\1", rest)


def harmless(words: list[str]) -> list[str]:
    """The words that may be put into a line: all in bash, where they are escaped, else plain ones."""
    if os.environ.get(VARIABLE) in (None, "complete_bash"):
        return words
    return [word for word in words if _PLAIN.fullmatch(word)]
