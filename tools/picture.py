"""The picture of a report in README: its sentences and its table, as a browser shows them.

python -m tools.picture results            # writes docs/images/report.png
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "images" / "report.png"
WIDTH = 1280  # pixels
COLOURS = 256  # enough for text and few colours, and a third of the bytes


def take(report: Path) -> bytes:
    """Return the first screen of a report, down to the end of its main table, as PNG."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        page.goto(report.absolute().as_uri())
        end = page.locator("table").first.bounding_box()
        assert end is not None
        height = end["y"] + end["height"] + 16
        shot = page.screenshot(
            clip={"x": 0, "y": 0, "width": WIDTH, "height": height}, full_page=True
        )
        opened.close()
    small = io.BytesIO()
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS).save(small, "PNG", optimize=True)
    return small.getvalue()


def main(arguments: Sequence[str]) -> int:
    """Take the picture of a results directory's report."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tools.picture RESULTS\n")
        return 2
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_bytes(take(Path(arguments[0]) / "report.html"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
