"""The choice of device, and what is known of it, also of devices that are not here."""

from dataclasses import replace

import pytest
import torch

from diffcli.core.parameters import UNetConfig
from diffcli.device import has_native_bfloat16, images_per_batch, open_device
from diffcli.errors import UsageError


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """As if there were two; returns those that were made current."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda _: None)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return current


def test_devices_that_are_here() -> None:
    assert open_device("cpu") == torch.device("cpu")
    assert open_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "", "CPU", "cuda:", "meta"])
def test_devices_that_are_not_here(name: str) -> None:
    with pytest.raises(
        UsageError, match=r"there is no device .*; this computer has .*cpu"
    ) as caught:
        open_device(name)
    assert caught.value.argument == "device"
    assert "--" not in str(caught.value)


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_without_torchrun_the_first_gpu_is_used(name: str, two_gpus: list[torch.device]) -> None:
    assert open_device(name) == torch.device("cuda:0")
    assert two_gpus == [torch.device("cuda:0")]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_of_torchrun_uses_the_gpu_of_its_local_rank(
    name: str, rank: int, two_gpus: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    assert open_device(name) == torch.device(f"cuda:{rank}")
    assert two_gpus == [torch.device(f"cuda:{rank}")]
    assert open_device("cuda:0") == torch.device("cuda:0")
    assert open_device("cpu") == torch.device("cpu")


def test_a_gpu_that_is_not_there(two_gpus: list[torch.device]) -> None:
    with pytest.raises(UsageError, match="this computer has cpu, cuda:0, cuda:1"):
        open_device("cuda:2")


def test_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert open_device("auto") == open_device("mps") == torch.device("mps")
    assert not has_native_bfloat16(torch.device("mps"))


def test_bfloat16_is_that_of_the_given_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        def __init__(self, device: torch.device) -> None:
            self.major = {0: 7, 1: 9}[device.index]

    monkeypatch.setattr(torch.cuda, "get_device_properties", Properties)
    monkeypatch.setattr(torch.version, "hip", None)
    assert not has_native_bfloat16(torch.device("cuda:0"))
    assert has_native_bfloat16(torch.device("cuda:1"))
    monkeypatch.setattr(torch.version, "hip", "6.0")
    assert has_native_bfloat16(torch.device("cuda:0"))


@pytest.mark.parametrize(
    ("capabilities", "level", "onednn", "expected"),
    [
        ({"architecture": "x86_64", "avx512_bf16": True}, "AVX512", True, True),
        ({"architecture": "x86_64", "amx_bf16": True}, "AVX512", True, True),
        ({"architecture": "x86_64", "avx512_bf16": True}, "AVX2", True, False),
        ({"architecture": "x86_64", "avx512_bf16": True}, "AVX512", False, False),
        ({"architecture": "x86_64", "avx2": True}, "AVX2", True, False),
        ({"architecture": "arm64", "bf16": True}, "SVE256", True, True),
        ({"architecture": "arm64", "bf16": True}, "DEFAULT", False, False),
        ({"architecture": "arm64", "neon": True}, "DEFAULT", True, False),
    ],
)
def test_bfloat16_of_processors(
    capabilities: dict[str, object],
    level: str,
    onednn: bool,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: level)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    assert has_native_bfloat16(torch.device("cpu")) is expected


def test_batches_are_larger_for_networks_of_fewer_values_per_image() -> None:
    cpu, digits = torch.device("cpu"), UNetConfig()
    assert images_per_batch(cpu, digits) == 64
    assert images_per_batch(cpu, replace(digits, image_height=56, image_width=56)) == 16
    assert images_per_batch(cpu, replace(digits, channels=(128, 256))) == 32
    assert images_per_batch(cpu, replace(digits, channels=(32, 64))) == 64
    assert images_per_batch(cpu, replace(digits, patch_size=1)) == 16
    assert images_per_batch(cpu, replace(digits, image_height=4096, image_width=4096)) == 1
    assert images_per_batch(torch.device("cuda"), digits) == 4096
