"""The README's pictures of the search page: a real service, a real query, in Debian's chromium.

    .venv/bin/python scripts/pictures.py [--home .venv/demo] [--out DIR --all] [--address '?q=…']

Serves the pydoc index, building it if the home has none, and prints the path of each picture:
docs/images/page.png (1280 px, light) and page-360.png (360 px, dark), or with --all both widths in both
schemes. Run it on a machine that does nothing else: the figures are real.
"""

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parents[1]
ADDRESS = "/?q=walk+a+directory+tree&index=pydoc&dim=128&rerank=0"
HEIGHTS = {1280: 1000, 360: 960}
PICTURES = {"page": (1280, "light"), "page-360": (360, "dark")}
COMMAND = "import sys; from resizable_search.cli.main import main; sys.argv[0] = 'rsearch'; main()"


@contextmanager
def served(home: Path) -> Iterator[str]:
    """The address of a service over this home, while it runs."""
    words = [sys.executable, "-c", COMMAND, "serve", "--port", "0"]
    env = {**os.environ, "RSEARCH_HOME": str(home)}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stderr is not None
            told = process.stderr.readline()
            found = re.search(r"http://\S+", told)
            if found is None:
                raise SystemExit(told.strip() or "the service did not start")
            yield found[0]
        finally:
            process.terminate()


def picture(browser: Browser, address: str, width: int, scheme: Any, path: Path) -> None:
    """One picture, once everything of the page is measured."""
    size = {"width": width, "height": HEIGHTS[width]}
    context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    page = context.new_page()
    for _ in range(2):  # the second time the query's embedding is cached, as in daily use
        page.goto(address)
        page.wait_for_load_state("networkidle")
    if page.locator("#chart").is_visible():
        page.locator("#chart-title", has_text="medians of 5").wait_for()
    page.locator("#query").blur()
    path.parent.mkdir(parents=True, exist_ok=True)
    shot = Image.open(io.BytesIO(page.screenshot()))
    shot.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)  # half the bytes
    context.close()
    print(path)


def main() -> None:
    """Build what is missing, serve, look."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--home", type=Path, default=ROOT / ".venv/demo", help="where the demo's index is")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images")
    parser.add_argument("--all", action="store_true", help="both widths in both schemes")
    parser.add_argument("--address", default=ADDRESS, help="what is looked at (default: %(default)s)")
    args = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("there is no chromium: apt install chromium")
    build = [sys.executable, "-c", COMMAND, "build", "pydoc"]
    subprocess.run(build, check=True, env={**os.environ, "RSEARCH_HOME": str(args.home)})
    wanted = {f"page-{w}-{s}": (w, s) for w in HEIGHTS for s in ("light", "dark")} if args.all else PICTURES
    with served(args.home) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, (width, scheme) in wanted.items():
            picture(browser, url + args.address, width, scheme, args.out / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
