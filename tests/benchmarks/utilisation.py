"""Utilisation: the floating point rate of training over that of the largest convolution.

Whole training steps of the default model, plain and compiled, against the model's own largest
convolution, forward and backward, alternately in one process:

    python -m tests.benchmarks.utilisation
"""

import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from diffcli.data.mnist import load_mnist
from diffcli.device import has_native_bfloat16
from diffcli.training.config import RunConfig
from diffcli.training.distributed import Distributed
from diffcli.training.plan import count_flops
from diffcli.training.setup import make_trainer

ROUNDS = 7
SECONDS_PER_ROUND = 3.0
# A backward pass takes twice the operations of the forward pass.
FORWARD_AND_BACKWARD = 3


def rate(work: Callable[[], object], flops: float) -> float:
    """Operations per second of ``work``, repeated for a while."""
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < SECONDS_PER_ROUND:
        work()
        count += 1
    return count * flops / elapsed


def ratios(numerators: list[float], denominators: list[float]) -> list[float]:
    """Round by round, so that what slows both cancels."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def largest_convolution(network: nn.Module, shapes: dict[str, torch.Size]) -> tuple[nn.Conv2d, int]:
    """The convolution with the most operations per image, and how many."""
    costs = {
        name: 2 * module.weight.numel() * shapes[name][2] * shapes[name][3]
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    }
    name = max(costs, key=lambda key: costs[key])
    module = network.get_submodule(name)
    assert isinstance(module, nn.Conv2d)
    return module, costs[name]


def main() -> None:
    """Measure, and print a table."""
    config = RunConfig(max_steps=1)
    data = load_mnist("test")
    device = torch.device("cpu")
    trainer, compiled = (make_trainer(config, data, device, Distributed()) for _ in range(2))
    batch_size = config.recipe.batch_size
    compiled.compile()
    network = trainer.denoiser.network

    shapes: dict[str, torch.Size] = {}
    hooks = [
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: shapes.update({name: output.shape})
        )
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    trainer.step(0.0)
    for hook in hooks:
        hook.remove()
    convolution, flops = largest_convolution(network, shapes)

    dtype = torch.bfloat16 if has_native_bfloat16(device) else torch.float32
    alone = nn.Conv2d(
        convolution.in_channels, convolution.out_channels, 3, padding=1, dtype=dtype
    ).to(memory_format=torch.channels_last)
    name = next(name for name, module in network.named_modules() if module is convolution)
    shape = (batch_size, convolution.in_channels, *shapes[name][2:])
    images = torch.randn(shape, dtype=dtype).contiguous(memory_format=torch.channels_last)
    images.requires_grad_()
    gradient = torch.randn_like(alone(images))

    step_flops = FORWARD_AND_BACKWARD * batch_size * count_flops(trainer.denoiser)
    convolution_flops = FORWARD_AND_BACKWARD * batch_size * flops
    peaks, steps, faster_steps = [], [], []
    for _ in range(ROUNDS):
        peaks.append(rate(lambda: alone(images).backward(gradient), convolution_flops))
        steps.append(rate(lambda: trainer.step(0.0), step_flops))
        faster_steps.append(rate(lambda: compiled.step(0.0), step_flops))
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, "
        f"{dtype}, batches of {batch_size}"
    )
    for title, values, unit in (
        ("largest convolution", peaks, 1e9),
        ("training step", steps, 1e9),
        ("utilisation", ratios(steps, peaks), 1.0),
        ("compiled step", faster_steps, 1e9),
        ("utilisation", ratios(faster_steps, peaks), 1.0),
        ("compiled over plain", ratios(faster_steps, steps), 1.0),
    ):
        print(
            f"{title:20} median {statistics.median(values) / unit:8.2f}   "
            f"{min(values) / unit:8.2f} .. {max(values) / unit:8.2f}"
        )


if __name__ == "__main__":
    main()
