"""How good is a model after how long, and what does each choice of the recipe bring?

    python -m tests.benchmarks.training_quality                      # the default recipe: hours
    python -m tests.benchmarks.training_quality --processor avx2     # as without AVX-512
    python -m tests.benchmarks.training_quality --threads 1          # as on an old laptop
    python -m tests.benchmarks.training_quality --budgets 1m --vary  # each choice undone: hours

Every figure comes from commands as a user would give them: ``diffcli train --max-time`` and
``diffcli evaluate``, one after the other, alone on the machine.  Every result is a line of
``--results``; those that are there already are not computed again, so a run may be stopped and
resumed, and grows when more is asked for.

``--processor avx2`` limits torch to AVX2, and so to float32, while it trains.  The clock rate,
the caches and the memory stay those of the machine: a real processor of that kind is slower.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
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
    "the default network, batches of 64": Variant(("--width", "64", "--batch-size", "64")),
    "half the learning rate": Variant(("--learning-rate", "1.5e-3")),
    "twice the learning rate": Variant(("--learning-rate", "6e-3")),
    "timesteps drawn alone": Variant(recipe={"stratified": False}),
    "a tenth without labels": Variant(recipe={"label_dropout": 0.1}),
    "all timesteps alike": Variant(recipe={"timesteps": TimestepDensity()}),
    "epsilon for v": Variant(recipe={"prediction_type": "epsilon"}),
    "linear schedule, epsilon": Variant(
        recipe={"prediction_type": "epsilon", "schedule": ScheduleConfig("linear", 300)}
    ),
}


PROCESSORS: dict[str, dict[str, str]] = {
    "native": {},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}


class Case(NamedTuple):
    """What is trained, and on what."""

    variant: str
    processor: str
    threads: int
    budget: str
    seed: int


class Figures(NamedTuple):
    """What came of it."""

    agreement: float
    frechet: float
    """Over the distance of real test digits to training digits."""
    recall: float
    check_agreement: float
    """By the check network, as the next."""
    check_frechet: float
    epochs: float
    steps: int
    seconds: float
    """Of the whole command ``diffcli train``."""


def main() -> None:
    """Compute what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budgets", nargs="+", default=["1m", "5m", "30m"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processor", choices=list(PROCESSORS), default="native")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--vary", action="store_true", help="all variants, not only the default")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--results", type=Path, default=Path("training_quality.jsonl"))
    asked = parser.parse_args()
    results: dict[Case, Figures] = {}
    if asked.results.exists():
        for line in asked.results.read_text(encoding="utf-8").splitlines():
            case, figures = json.loads(line)
            results[Case(*case)] = Figures(*figures)
    for budget in asked.budgets:
        for seed in range(asked.seeds):
            for name in VARIANTS if asked.vary else [DEFAULT]:
                case = Case(name, asked.processor, asked.threads, budget, seed)
                if case not in results:
                    results[case] = measure(case, asked.images)
                    line = json.dumps([case, results[case]])
                    with asked.results.open("a", encoding="utf-8") as file:
                        file.write(line + "\n")
                    print(line, flush=True)
    print(table(results))


def measure(case: Case, images: int) -> Figures:
    """Train and judge, each in a process of its own."""
    name = case.variant
    environment = {**PROCESSORS[case.processor], "OMP_NUM_THREADS": str(case.threads)}
    train = ("train", "--max-time", case.budget, "--seed", str(case.seed), "--name", "run")
    evaluate = ("evaluate", "-m", "run", "--n", str(images), "--json")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command(folder, environment, name, *train, "--quiet", *VARIANTS[name].options)
        seconds = time.perf_counter() - start
        judged = json.loads(command(folder, {}, name, *evaluate))["median"]
        checked = json.loads(command(folder, {}, name, *evaluate, "--features", "check"))["median"]
        described = json.loads(command(folder, {}, name, "info", "run", "--json"))
    training = described["metadata"]["training"]
    return Figures(
        judged["agreement"],
        judged["frechet_train_over_shift"],
        judged["recall"],
        checked["agreement"],
        checked["frechet_train_over_shift"],
        training["epochs"],
        training["steps"],
        seconds,
    )


def command(folder: str, environment: Mapping[str, str], variant: str, *arguments: str) -> str:
    """What ``diffcli`` prints, with the recipe of a variant."""
    program = f"from {__spec__.name} import run_variant; run_variant()"
    path = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r}); {program}",
         variant, *arguments],
        cwd=folder, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout


def run_variant() -> None:
    """Be ``diffcli`` with the arguments after the first, which is the name of a variant."""
    from diffcli.__main__ import main as diffcli

    name = sys.argv.pop(1)
    RECIPES["fast"] = replace(RECIPES["fast"], **VARIANTS[name].recipe)
    diffcli()


def table(results: Mapping[Case, Figures]) -> str:
    """Medians and ranges over seeds, as Markdown."""
    lines = [
        "| | processor, threads | `--max-time` | seeds | agreement | Frechet distance over that of "
        "real digits | recall | check network: agreement | distance | epochs | steps |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[Case, list[Figures]] = {}
    for case, figures in results.items():
        groups.setdefault(case._replace(seed=0), []).append(figures)
    for case, same in sorted(groups.items()):
        cells = [
            case.variant,
            f"{case.processor}, {case.threads}",
            case.budget,
            str(len(same)),
            spread([100 * figures.agreement for figures in same], "{:.1f} %"),
            spread([figures.frechet for figures in same], "{:.1f}"),
            spread([figures.recall for figures in same], "{:.3f}"),
            spread([100 * figures.check_agreement for figures in same], "{:.1f} %"),
            spread([figures.check_frechet for figures in same], "{:.1f}"),
            spread([figures.epochs for figures in same], "{:.1f}"),
            spread([figures.steps for figures in same], "{:.0f}"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float], form: str) -> str:
    """The median, and the range if there is one."""
    middle = form.format(median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({form.format(min(values))} .. {form.format(max(values))})"


if __name__ == "__main__":
    main()
