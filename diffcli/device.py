"""The device to compute on, and what it is good at."""

import os

import torch

from diffcli.core.parameters import UNetConfig
from diffcli.errors import UsageError
from diffcli.threads import THREADS

# Digits of the default network: enough for convolutions to be fast; on a CPU, few enough for what
# passes between two of them to stay in the cache (tests/benchmarks/sampling_speed.py).
_DIGITS_PER_BATCH = {"cpu": 64, "cuda": 4096, "mps": 512}
_PIXELS_OF_DIGIT, _VALUES_OF_DIGIT = 28 * 28, 14 * 14 * 64


def open_device(name: str) -> torch.device:
    """The device of a name, ready to use.

    On CUDA, float32 matrix products and convolutions use TF32 from then on: training needs no
    more, and drawing differs by less than a grey level.  In a command, torch gets fewer threads
    if other programs use the processor.

    Args:
        name: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.  In a
            process that torchrun started, ``auto`` and ``cuda`` mean the GPU of its local rank.

    Raises:
        UsageError: if this computer has no such device.
    """
    present = ["cpu"]
    if torch.cuda.is_available():
        gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        first = int(os.environ.get("LOCAL_RANK", "0")) % len(gpus)
        present = [*gpus[first:], *gpus[:first], *present]
    if torch.backends.mps.is_available():
        present = ["mps", *present]
    wanted = name
    if name == "auto":
        wanted = present[0]
    elif name == "cuda":
        wanted = next((device for device in present if device.startswith("cuda")), name)
    if wanted not in present:
        raise UsageError(
            f"there is no device {name!r}; this computer has {', '.join(sorted(present))}",
            "device",
        )
    device = torch.device(wanted)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
    THREADS.fit()
    return device


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 faster than in float32."""
    if device.type == "cuda":
        hip = torch.version.hip is not None
        return hip or torch.cuda.get_device_properties(device).major >= 8
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    capabilities = torch.cpu.get_capabilities()
    if capabilities["architecture"] == "x86_64":
        # The level that torch was told to use may be below that of the processor.
        level = torch.backends.cpu.get_cpu_capability()
        found = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
        return level.startswith("AVX512") and bool(found)
    return bool(capabilities.get("bf16"))


def mixed_precision(device: torch.device) -> torch.autocast:
    """A block whose convolutions and products are in bfloat16 if the device is fast at it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_native_bfloat16(device))


def images_per_batch(device: torch.device, network: UNetConfig) -> int:
    """How many images to draw at once with such a network.

    Wide networks, and those with patches of single pixels, pass on more per image.  Narrow ones
    pass on less, and are no faster with larger batches.
    """
    pixels = network.image_height * network.image_width
    values = pixels // network.patch_size**2 * network.channels[0]
    digits = _DIGITS_PER_BATCH.get(device.type, _DIGITS_PER_BATCH["cpu"])
    return max(1, int(digits / max(pixels / _PIXELS_OF_DIGIT, values / _VALUES_OF_DIGIT)))
