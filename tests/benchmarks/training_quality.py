"""How good is a model after how long, and what does each choice of the recipe bring?

    python -m tests.benchmarks.training_quality                      # the default recipe: hours
    python -m tests.benchmarks.training_quality --budgets 2m --vary  # each choice undone: hours

Every figure comes from two commands as a user would give them: ``diffcli train --max-time``
and ``diffcli evaluate --guidance 1``, the one after the other, alone on the machine.  Every
result is a line of ``--results``; those that are there already are not computed again, so a
run may be stopped and resumed, and grows when more is asked for.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, NamedTuple

from diffcli.core.parameters import ScheduleConfig
from diffcli.training.recipe import RECIPES
from diffcli.training.timesteps import TimestepDensity


class Variant(NamedTuple):
    """The default recipe with something changed."""

    options: tuple[str, ...] = ()
    """For ``diffcli train``."""
    recipe: Mapping[str, Any] = MappingProxyType({})
    """Fields of the recipe."""


DEFAULT = "the default"
VARIANTS = {
    DEFAULT: Variant(),
    "Adam for all weights": Variant(recipe={"optimizer": "adam"}),
    "half the learning rate": Variant(("--learning-rate", "1e-3")),
    "twice the learning rate": Variant(("--learning-rate", "4e-3")),
    "batches of 32": Variant(("--batch-size", "32")),
    "batches of 128": Variant(("--batch-size", "128")),
    "timesteps drawn alone": Variant(recipe={"stratified": False}),
    "a tenth without labels": Variant(recipe={"label_dropout": 0.1}),
    "all timesteps alike": Variant(recipe={"timesteps": TimestepDensity()}),
    "epsilon for v": Variant(recipe={"prediction_type": "epsilon"}),
    "linear schedule, epsilon": Variant(
        recipe={"prediction_type": "epsilon", "schedule": ScheduleConfig("linear", 300)}
    ),
}


class Result(NamedTuple):
    """What came of one run."""

    variant: str
    budget: str
    seed: int
    agreement: float
    frechet: float
    """Over the distance of real test digits to training digits."""
    epochs: float


def main() -> None:
    """Compute what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budgets", nargs="+", default=["1m", "5m", "30m"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--vary", action="store_true", help="all variants, not only the default")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--results", type=Path, default=Path("training_quality.jsonl"))
    asked = parser.parse_args()
    results: list[Result] = []
    if asked.results.exists():
        lines = asked.results.read_text(encoding="utf-8").splitlines()
        results = [Result(*json.loads(line)) for line in lines]
    known = {result[:3] for result in results}
    names = list(VARIANTS) if asked.vary else [DEFAULT]
    for budget in asked.budgets:
        for seed in range(asked.seeds):
            for name in names:
                if (name, budget, seed) not in known:
                    results.append(measure(name, budget, seed, asked.images))
                    with asked.results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(results[-1]) + "\n")
                    print(results[-1], flush=True)
    print(table([result for result in results if result.variant in names]))


def measure(name: str, budget: str, seed: int, images: int) -> Result:
    """Train and judge, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        train = ["train", "--max-time", budget, "--seed", str(seed), "--name", "run", "--quiet"]
        command(folder, name, *train, *VARIANTS[name].options)
        judged = command(
            folder, name, "evaluate", "-m", "run", "--guidance", "1", "--n", str(images), "--json"
        )
        described = command(folder, name, "info", "run", "--json")
    figures = json.loads(judged)["median"]
    epochs = json.loads(described)["metadata"]["training"]["epochs"]
    return Result(
        name, budget, seed, figures["agreement"], figures["frechet_train_over_shift"], epochs
    )


def command(folder: str, variant: str, *arguments: str) -> str:
    """What ``diffcli`` prints, with the recipe of a variant."""
    program = f"from {__spec__.name} import run_variant; run_variant()"
    path = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r}); {program}",
         variant, *arguments],
        cwd=folder, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def run_variant() -> None:
    """Be ``diffcli`` with the arguments after the first, which is the name of a variant."""
    from diffcli.__main__ import main as diffcli

    name = sys.argv.pop(1)
    RECIPES["fast"] = replace(RECIPES["fast"], **VARIANTS[name].recipe)
    diffcli()


def table(results: list[Result]) -> str:
    """Medians and ranges over seeds, as Markdown."""
    lines = [
        "| | `--max-time` | seeds | recognised | Frechet distance over that of real digits "
        "| epochs |",
        "|---|---|---|---|---|---|",
    ]
    for budget, name in sorted({(r.budget, r.variant) for r in results}):
        same = [r for r in results if (r.budget, r.variant) == (budget, name)]
        cells = [
            spread([100 * r.agreement for r in same], "{:.1f} %"),
            spread([r.frechet for r in same], "{:.1f}"),
            spread([r.epochs for r in same], "{:.1f}"),
        ]
        lines.append(f"| {name} | {budget} | {len(same)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float], form: str) -> str:
    """The median, and the range if there is one."""
    middle = form.format(median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({form.format(min(values))} .. {form.format(max(values))})"


if __name__ == "__main__":
    main()
