"""How good pictures are after how many steps, of which solver, with which placement.

    python -m tests.benchmarks.sampling_quality                           # a look: 2,000 images
    python -m tests.benchmarks.sampling_quality --images 10000 --seeds 3  # the table: hours

Every result is a line of ``--results``; those that are there already are not computed again,
so a run may be stopped and resumed, and grows when more is asked for.  The table has the
median over seeds of the Frechet distance to the training images, and its ratio to that of
all T ancestral steps.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

import diffcli
from diffcli.charts.chart import Chart
from diffcli.charts.colours import MUTED, SERIES
from diffcli.charts.scales import Scale
from diffcli.core.denoiser import Estimate
from diffcli.core.noise import ImageNoise
from diffcli.core.parameters import SamplingSettings
from diffcli.core.samplers import SAMPLERS, Step
from diffcli.core.schedule import NoiseSchedule, StepPlan, step_plan
from diffcli.data.images import proportional_subset, to_pixels
from diffcli.data.sources import load_data
from diffcli.evaluation.frechet import Gaussian, fit_gaussian, frechet_distance
from diffcli.evaluation.network import FeatureNetwork, read_images
from diffcli.evaluation.provide import provide
from diffcli.files.pictures import save_png
from diffcli.sampling.model import Model
from tests.benchmarks.sampling_candidates import ipndm, log_snr_plan, unipc

SOLVERS: dict[str, Callable[..., Iterator[Step]]] = {
    **{name: sampler.function for name, sampler in SAMPLERS.items()},
    "unipc": unipc,
    "ipndm2": ipndm(2),
    "ipndm3": ipndm(3),
}
# The last is that of the recipe.
PLACEMENTS: dict[str, Callable[[NoiseSchedule, int], StepPlan]] = {
    "even": lambda schedule, steps: step_plan(schedule.num_timesteps, steps),
    "log-snr": log_snr_plan,
    "spacing 1.5": lambda schedule, steps: step_plan(schedule.num_timesteps, steps, 1.5),
}


def main() -> None:
    """Compute what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model file or run; the usual one if absent")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 6, 8, 10, 16])
    parser.add_argument("--solvers", nargs="+", default=list(SOLVERS), choices=list(SOLVERS))
    parser.add_argument("--results", type=Path, default=Path("sampling_quality.jsonl"))
    parser.add_argument("--figure", type=Path, help="draw the table to this PNG")
    asked = parser.parse_args()
    model = diffcli.load(asked.model, asked.device)
    ancestral = ("ddpm", "even", model.denoiser.schedule.num_timesteps)
    wanted = [
        (solver, placement, steps)
        for steps in asked.steps
        for solver in asked.solvers
        for placement in PLACEMENTS
    ]
    results = read_results(asked.results)
    judge: Judge | None = None
    for seed in range(asked.seeds):
        # Ancestral sampling last: it takes longer than all the others together.
        for solver, placement, steps in [*wanted, ancestral]:
            key = (solver, placement, steps, asked.images, seed)
            if key not in results:
                judge = judge or Judge(model)
                results[key] = judge.distance(*key)
                with asked.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([*key, results[key]]) + "\n")
                print(*key, f"{results[key]:.4f}", flush=True)
    medians = {
        combination: median(
            results[*combination, asked.images, seed] for seed in range(asked.seeds)
        )
        for combination in [*wanted, ancestral]
    }
    reference = medians.pop(ancestral)
    print(table(medians, reference))
    if asked.figure:
        save_png(asked.figure, figure(medians, reference).picture)


Key = tuple[str, str, int, int, int]
"""Solver, placement, steps, images, seed."""

Combination = tuple[str, str, int]


def read_results(path: Path) -> dict[Key, float]:
    """What earlier runs have found."""
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {tuple(row[:-1]): row[-1] for row in rows}


class Judge:
    """Draws with any solver, and measures the distance to the training images."""

    def __init__(self, model: Model) -> None:
        self.model = model
        data = load_data(model.description.dataset)
        device = model.denoiser.schedule.device
        self.labels = data.train.labels
        self.network: FeatureNetwork = provide("main", data.train, data.held_out, device)[1]
        self.reference: Gaussian = fit_gaussian(
            read_images(self.network, data.train.images).features
        )

    @torch.inference_mode()
    def distance(self, solver: str, placement: str, steps: int, images: int, seed: int) -> float:
        """The Frechet distance of so many images, of each class as many as are in the data."""
        size = self.model.batch_size(self.model.settings(guidance_scale=1.0))
        labels = self.labels[proportional_subset(self.labels, images, seed)]
        seeds = range(seed * images, (seed + 1) * images)
        drawn = [
            self._draw(solver, placement, steps, labels[part], seeds[part])
            for part in (slice(start, start + size) for start in range(0, images, size))
        ]
        found = fit_gaussian(read_images(self.network, torch.cat(drawn)).features)
        return frechet_distance(found, self.reference)

    def _draw(
        self, solver: str, placement: str, steps: int, labels: Tensor, seeds: range
    ) -> Tensor:
        denoiser = self.model.denoiser
        schedule = denoiser.schedule
        labels = labels.to(schedule.device)
        noise = ImageNoise(seeds, denoiser.network.config.image_shape, schedule.device)

        def denoise(x: Tensor, t: int) -> Estimate:
            return denoiser.clipped(x, t, labels)

        plan = PLACEMENTS[placement](schedule, steps)
        *_, last = SOLVERS[solver](denoise, schedule, noise(), plan, noise, SamplingSettings())
        return to_pixels(last.x).cpu()


def table(medians: dict[Combination, float], ancestral: float) -> str:
    """The medians as Markdown: a row per solver and placement, a column per number of steps."""
    columns = sorted({steps for _, _, steps in medians})
    lines = [
        f"| solver | placement | {' | '.join(f'{steps} steps' for steps in columns)} |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for solver, placement in dict.fromkeys(combination[:2] for combination in medians):
        values = [medians[solver, placement, steps] for steps in columns]
        cells = " | ".join(f"{value:.3f} ({value / ancestral:.2f}x)" for value in values)
        lines.append(f"| {solver} | {placement} | {cells} |")
    lines.append(f"\nAll ancestral steps: {ancestral:.3f}")
    return "\n".join(lines)


def figure(medians: dict[Combination, float], ancestral: float) -> Chart:
    """The distance against the number of steps, placed as the recipe has them."""
    solvers = list(dict.fromkeys(solver for solver, _, _ in medians))
    columns = sorted({steps for _, _, steps in medians})
    *_, placement = PLACEMENTS
    curves = [[medians[solver, placement, steps] for steps in columns] for solver in solvers]
    chart = Chart(
        (900, 420),
        Scale(columns[0], columns[-1], whole=True),
        Scale(0, 1.1 * max(ancestral, *(value for values in curves for value in values))),
        title="Frechet distance to the training images, guidance 1 (less is better)",
        x_label="network evaluations per picture",
        legend=[*zip(solvers, SERIES, strict=False)],
    )
    chart.level(ancestral, "all ancestral steps", MUTED)
    for values, colour in zip(curves, SERIES, strict=False):
        chart.curve(columns, values, colour)
        chart.dots(columns, values, colour)
    return chart


if __name__ == "__main__":
    main()
