"""Runs the samples of README.md and docs/, in the order of the README's table of pages.

    .venv/bin/python scripts/samples.py [--write]

Every `console` block runs in one temporary folder with a copy of docs/ and one home. Its output is compared
with the page; numbers and the hits themselves may differ. Every `python` block must run. --write puts the
new output into the pages. Exit code 1 if a page shows something else.
"""

import argparse
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = re.compile(r"\]\((docs/[a-z-]+\.md)\)")
PACE = re.compile(r" in [\d,]+ s$", re.MULTILINE)
NUMBER = re.compile(r"\d[\d,.]*( ?[kMG]?B\b| ?m?s\b)?")
HIT = re.compile(r"^\s*\d+\s+0\.\d+ .*$|^ *\d+  .*  [01]\.\d{3}\n(?:   .*\n)*", re.MULTILINE)
ESCAPE = re.compile(r"\x1b\][^\x1b\a]*(\x1b\\\\|\a)|\x1b\[[0-9;?]*[a-zA-Z]|\r")
WIDTH = 100
"""Columns of the terminal that samples are shown on."""
UNSTABLE = ("rsearch tune", "rsearch bench")
"""Commands whose output depends on what was measured: they must run, and no more."""


def pages(root: Path) -> list[Path]:
    """README.md, and the pages that its last table names, in that order."""
    readme = root / "README.md"
    named = PAGE.findall(readme.read_text().partition("## More")[2])
    return [readme, *(root / name for name in dict.fromkeys(named))]


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block, and the output shown below it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown.rstrip("\n")


def comparable(output: str) -> str:
    """Output without what may differ: numbers, hits, and the width of columns."""
    masked = NUMBER.sub("#", HIT.sub("HIT", PACE.sub("", output)))
    lines = (re.sub(r"[\s–±×…]+|#", " ", line).strip() for line in masked.splitlines())
    return "\n".join(re.sub(r" +", " ", line) for line in lines)


class Runner:
    """Runs samples one after the other; `failures` says what went wrong."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(ROOT / "docs", folder / "docs")
        self._folder = folder
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("RSEARCH_")} | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RSEARCH_HOME": str(folder / ".home"),
            "NO_COLOR": "1",
        }
        self.failures: list[str] = []

    def page(self, path: Path) -> str:
        """The page with the output that its samples have now."""
        self._name = path.name
        return BLOCK.sub(self._block, path.read_text())

    def _block(self, found: re.Match[str]) -> str:
        language, block = found.groups()
        if language == "python":
            self._run([sys.executable, "-c", block], "python sample")
            return found[0]
        lines = []
        for command, shown in commands(block):
            output = self._run(["bash", "-c", command], command)
            if comparable(output) != comparable(shown) and not command.startswith(UNSTABLE):
                self.failures.append(f"{self._name}: `{command}` prints something else now:\n{output}")
            lines += [f"$ {command}", *output.splitlines()]
        return "```console\n" + "\n".join(lines) + "\n```"

    def _run(self, words: list[str], what: str) -> str:
        """What a command writes to a terminal."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(
                words, cwd=self._folder, env=self._env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=errors
            ) as process,
        ):
            os.close(theirs)
            output = b"".join(_chunks(ours)).decode()
            os.close(ours)
            if process.wait():
                errors.seek(0)
                self.failures.append(
                    f"{self._name}: `{what}` ends with {process.returncode}: {errors.read()[-500:]}"
                )
        plain = ESCAPE.sub("", output).replace(str(self._folder), "~")
        return "\n".join(line.rstrip() for line in plain.strip("\n").splitlines())


def _chunks(terminal: int) -> Iterator[bytes]:
    try:
        while chunk := os.read(terminal, 1 << 16):
            yield chunk
    except OSError:  # Linux: the other side is closed
        return


def run(root: Path, *, write: bool = False) -> list[str]:
    """Run all samples; what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(Path(folder))
        for path in pages(root):
            text = runner.page(path)
            if write:
                path.write_text(text)
    return runner.failures


def main() -> int:
    """Run, compare, say what differs."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--write", action="store_true", help="put the new output into the pages")
    failures = run(ROOT, write=parser.parse_args().write)
    for failure in failures:
        print(failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
