"""How fast a page is: a drawn digit, and the estimate that follows a slider, in Chromium.

    python -m tests.benchmarks.page_speed [MODEL...]

``taskset -c 0`` before it limits the browser to one core.
"""

import argparse
import os
import tempfile
from pathlib import Path
from statistics import mean, stdev

from playwright.sync_api import Page, sync_playwright

from diffcli.files.checkpoint import load_model
from diffcli.files.locations import find_model
from diffcli.page.build import build_page
from tests.page.browsing import CHROMIUM

DRAW = """async (steps) => {
  const seed = document.getElementById("draw-seed");
  const film = document.querySelector("#draw-first .film");
  const times = [];
  for (let i = 0; i < 14; i++) {
    const start = performance.now();
    seed.value = String(100 + i);
    seed.dispatchEvent(new Event("input"));
    while (film.children.length < steps) await new Promise((resume) => setTimeout(resume, 1));
    times.push(performance.now() - start);
  }
  return times;
}"""

SLIDE = """async () => {
  const slider = document.getElementById("noise-t");
  const canvas = document.getElementById("noise-estimate");
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const shown = () => pen.getImageData(0, 0, canvas.width, canvas.height).data.join();
  const times = [];
  for (let i = 0; i < 14; i++) {
    const before = shown();
    const start = performance.now();
    slider.value = String(60 + 10 * i);
    slider.dispatchEvent(new Event("input"));
    while (shown() === before) await new Promise((resume) => setTimeout(resume, 1));
    times.push(performance.now() - start);
  }
  return times;
}"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", default=["mnist", "mnist-2step"])
    print(f"{len(os.sched_getaffinity(0))} cores; milliseconds, without the first two of each")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        print(f"Chromium {browser.version}")
        for name in parser.parse_args().models:
            description, denoiser = load_model(find_model(Path(name)))
            path = Path(folder, "page.html")
            path.write_bytes(build_page(description, denoiser))
            page = browser.new_page()
            page.goto(path.as_uri())
            measure(page, name, description.sampling.steps)
            page.close()


def measure(page: Page, name: str, steps: int) -> None:
    """Time one page."""
    page.locator("#draw-first .film canvas").nth(steps - 1).wait_for()
    report(f"{name}: a digit", page.evaluate(DRAW, steps))
    page.click("#tab-noise")
    report(f"{name}: an estimate", page.evaluate(SLIDE))


def report(what: str, times: list[float]) -> None:
    """Print mean and spread."""
    settled = times[2:]
    print(f"{what:<28}{mean(settled):6.0f} ± {stdev(settled):.0f}")


if __name__ == "__main__":
    main()
