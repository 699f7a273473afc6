"""How fast sampling is: in bulk, against the classic way, and as a whole process.

    python -m tests.benchmarks.sampling_speed [MODEL]

Run it on an otherwise idle machine.  Everything that is compared is timed in turns within
one process, and the best of several rounds counts.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import diffcli
from diffcli.sampling.model import Model

ROUNDS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="a model file or run; the usual one if absent")
    model = diffcli.load(parser.parse_args().model)
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, "
          f"torch {torch.__version__}, model {model.path}")  # fmt: skip
    with torch.inference_mode():
        bulk(model)
        against_ancestral(model)
    whole_process(model)


def best(function: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Seconds of the fastest of several calls."""
    function()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def flops(function: Callable[[], object]) -> int:
    """Floating point operations of a call, two per multiplication and addition."""
    with FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())


def bulk(model: Model) -> None:
    """The rate of drawing in bulk, as a share of that of the network's largest convolution."""
    settings = model.settings(guidance_scale=1.0)
    size = model.batch_size(settings)
    network = model.denoiser.network
    inputs: dict[nn.Conv2d, Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda layer, given, _: inputs.update({layer: given[0]}))
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    shape = model.description.architecture.image_shape
    x, t = torch.randn(size, *shape), torch.zeros(1, dtype=torch.long)
    labels = torch.zeros(size, dtype=torch.long)
    work = flops(lambda: network(x, t, labels)) * settings.steps
    for hook in hooks:
        hook.remove()
    largest = max(inputs, key=lambda layer: flops(lambda: layer(inputs[layer])))
    request = model.request([0], size, 0, settings)
    rate = work / best(lambda: list(model.draw(request)))
    peak = flops(lambda: largest(inputs[largest])) / best(
        lambda: [largest(inputs[largest]) for _ in range(20)]
    ) * 20  # fmt: skip
    print(f"in bulk, {size} at a time: {rate / 1e9:.0f} GFLOP/s; the largest convolution "
          f"{peak / 1e9:.0f} GFLOP/s; share {rate / peak:.2f}")  # fmt: skip


def against_ancestral(model: Model) -> None:
    """Pictures per second against 300 ancestral steps of the same network, written plainly."""
    settings = model.settings(guidance_scale=1.0)
    size = model.batch_size(settings)
    request = model.request([0], size, 0, settings)
    seconds = best(lambda: list(model.draw(request)))
    betas = model.denoiser.schedule.betas.float()
    shape = model.description.architecture.image_shape
    labels = torch.zeros(size, dtype=torch.long)

    def some_steps(count: int) -> None:
        x = torch.randn(size, *shape)
        alphas_bar = (1 - betas).cumprod(0)
        for t in reversed(range(len(betas) - count, len(betas))):
            epsilon = model.denoiser(x, t, labels).epsilon
            x = (x - betas[t] / (1 - alphas_bar[t]).sqrt() * epsilon) / (1 - betas[t]).sqrt()
            x += betas[t].sqrt() * torch.randn_like(x)

    count = 30
    ancestral = best(lambda: some_steps(count), rounds=2) / count * 300
    print(f"{settings.sampler} with {settings.steps} steps: {size / seconds:.0f} pictures/s; "
          f"300 ancestral steps: {size / ancestral:.1f} pictures/s; "
          f"{ancestral / seconds:.0f} times as many")  # fmt: skip


def whole_process(model: Model) -> None:
    """``diffcli sample`` from start to exit, against ``import torch`` alone."""
    with tempfile.TemporaryDirectory() as folder:
        asked = ["--label", "0", "--n", "16", "--force", "-o", os.fspath(Path(folder, "g.png"))]
        drawing = [sys.executable, "-m", "diffcli", "sample", "--model", str(model.path), *asked]
        importing = [sys.executable, "-c", "import torch"]
        times: dict[str, list[float]] = {"drawing": [], "importing": []}
        for _ in range(ROUNDS):
            for name, command in (("drawing", drawing), ("importing", importing)):
                start = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                times[name].append(time.perf_counter() - start)
    whole, alone = median(times["drawing"]), median(times["importing"])
    print(f"a grid of 16 as a whole process: {whole:.2f} s; import torch alone {alone:.2f} s; "
          f"{whole / alone:.2f} times as long")  # fmt: skip
    loading = best(lambda: diffcli.load(model.path))
    print(f"loading and checking the model: {loading * 1000:.0f} ms")


if __name__ == "__main__":
    main()
