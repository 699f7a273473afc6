"""Libraries for diffusion models, side by side: the same digits, time, processor and judge.

    pip install -e ".[peers]"
    python -m tests.benchmarks.peers                                  # an hour
    python -m tests.benchmarks.peers --train-seconds 1800 --only smalldiffusion

Every library trains for the same time with the model, the optimizer and the learning rate of its
own example for small labelled images, and draws as its example does, or with the faster sampler
that its documentation offers where the example's takes a thousand evaluations.  The batches are
smaller than in the examples, which are for GPUs: more steps in the time, to their advantage.
``diffcli evaluate --samples`` judges all of them.  Each runs in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from diffcli.data.images import proportional_subset, to_model_range, to_pixels
from diffcli.data.mnist import load_mnist
from diffcli.files.arrays import save_npz

BATCH = 32
_DRAWN_AT_ONCE = 100


class Peer(ABC):
    """A library with its example's configuration.

    Attributes:
        package: its name.
        model: the network that is trained.
    """

    package: str
    model: torch.nn.Module

    @abstractmethod
    def step(self, images: Tensor, labels: Tensor) -> None:
        """Train on images ``(B, 1, 28, 28)`` in [-1, 1]."""

    @abstractmethod
    def evaluate_once(self) -> None:
        """One evaluation of the network for one image."""

    @abstractmethod
    def draw(self, labels: Tensor) -> Tensor:
        """Images ``(B, 1, 28, 28)`` in [-1, 1]."""


class Diffusers(Peer):
    """The class-conditioned example of the Hugging Face course (unit 2)."""

    package = "diffusers"

    def __init__(self) -> None:
        from diffusers import DDPMScheduler, UNet2DModel

        self.model = UNet2DModel(
            sample_size=28,
            in_channels=1 + 4,
            out_channels=1,
            layers_per_block=2,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )
        self.embedding = torch.nn.Embedding(10, 4)
        self.noising = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
        # The example's own sampler, in fewer steps: its second-order solvers diverge on this
        # schedule, which ends without any signal, and DDIM draws noise.
        self.drawing = DDPMScheduler.from_config(self.noising.config)
        params = [*self.model.parameters(), *self.embedding.parameters()]
        self.optimizer = torch.optim.Adam(params, 1e-3)

    def _predict(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        maps = self.embedding(labels)[:, :, None, None].expand(-1, -1, 28, 28)
        prediction: Tensor = self.model(torch.cat([x, maps], dim=1), t).sample
        return prediction

    def step(self, images: Tensor, labels: Tensor) -> None:
        noise = torch.randn_like(images)
        t = torch.randint(0, 1000, (len(images),))
        noisy = self.noising.add_noise(images, noise, t)
        loss = (self._predict(noisy, t, labels) - noise).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def evaluate_once(self) -> None:
        self._predict(torch.zeros(1, 1, 28, 28), torch.zeros(1), torch.zeros(1, dtype=torch.long))

    def draw(self, labels: Tensor) -> Tensor:
        self.drawing.set_timesteps(100)
        x = torch.randn(len(labels), 1, 28, 28)
        for t in self.drawing.timesteps:
            x = self.drawing.step(self._predict(x, t, labels), t, x).prev_sample
        return x


class SmallDiffusion(Peer):
    """``examples/fashion_mnist_dit_cond.py``, its one with labels."""

    package = "smalldiffusion"

    def __init__(self) -> None:
        from smalldiffusion import CondEmbedderLabel, DiT, ScheduleDDPM

        self.schedule = ScheduleDDPM(beta_start=0.0001, beta_end=0.02, N=1000)
        self.model = DiT(
            in_dim=28,
            channels=1,
            patch_size=2,
            depth=6,
            head_dim=32,
            num_heads=6,
            mlp_ratio=4.0,
            cond_embed=CondEmbedderLabel(32 * 6, 10, 0.1),
        )
        self._loss = DiT.get_loss
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        average = torch.optim.swa_utils.get_ema_multi_avg_fn(0.99)
        self.average = torch.optim.swa_utils.AveragedModel(self.model, multi_avg_fn=average)

    def step(self, images: Tensor, labels: Tensor) -> None:
        from smalldiffusion import generate_train_sample

        self.model.train()
        self.optimizer.zero_grad()
        x0, sigma, eps, cond = generate_train_sample((images, labels), self.schedule, True)
        self._loss(self.model, x0, sigma, eps, cond=cond).backward()
        self.optimizer.step()
        self.average.update_parameters(self.model)

    def evaluate_once(self) -> None:
        self.model(torch.zeros(1, 1, 28, 28), torch.tensor(1.0), cond=torch.zeros(1).long())

    def draw(self, labels: Tensor) -> Tensor:
        from accelerate import Accelerator
        from smalldiffusion import samples

        model = self.average.module.eval()
        sigmas = self.schedule.sample_sigmas(20)
        *_, x0 = samples(
            model, sigmas, gam=1.6, batchsize=len(labels), cond=labels,
            accelerator=Accelerator(cpu=True),
        )  # fmt: skip
        return x0


class DenoisingDiffusionPytorch(Peer):
    """``classifier_free_guidance``: its U-Net with labels, images padded to 32x32."""

    package = "denoising-diffusion-pytorch"

    def __init__(self) -> None:
        from denoising_diffusion_pytorch.classifier_free_guidance import GaussianDiffusion, Unet
        from ema_pytorch import EMA

        self.model = Unet(
            dim=64, dim_mults=(1, 2, 4, 8), num_classes=10, cond_drop_prob=0.5, channels=1
        )
        self.diffusion = GaussianDiffusion(
            self.model, image_size=32, timesteps=1000, sampling_timesteps=50
        )
        self.optimizer = torch.optim.Adam(self.diffusion.parameters(), 8e-5, betas=(0.9, 0.99))
        self.average = EMA(self.diffusion, beta=0.995, update_every=10)

    def step(self, images: Tensor, labels: Tensor) -> None:
        padded = torch.nn.functional.pad(images, (2, 2, 2, 2), value=-1.0)
        self.optimizer.zero_grad()
        self.diffusion((padded + 1) / 2, classes=labels).backward()
        torch.nn.utils.clip_grad_norm_(self.diffusion.parameters(), 1.0)
        self.optimizer.step()
        self.average.update()

    def evaluate_once(self) -> None:
        zero = torch.zeros(1, dtype=torch.long)
        self.model(torch.zeros(1, 1, 32, 32), zero, zero, cond_drop_prob=0.0)

    def draw(self, labels: Tensor) -> Tensor:
        model = self.average.ema_model.eval()
        drawn: Tensor = model.sample(classes=labels, cond_scale=6.0)
        return drawn[:, :, 2:-2, 2:-2] * 2 - 1


PEERS: dict[str, type[Peer]] = {
    peer.package: peer for peer in (Diffusers, SmallDiffusion, DenoisingDiffusionPytorch)
}
OWN = {"diffcli": (), "diffcli --recipe ddpm": ("--recipe", "ddpm")}


def main() -> None:
    """Run all, each in its process, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train-seconds", type=int, default=300)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=[*PEERS, *OWN], default=[*PEERS, *OWN])
    parser.add_argument("--results", type=Path, default=Path("peers.jsonl"))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        (name,) = asked.only
        print(json.dumps(train_peer(PEERS[name](), asked.train_seconds, asked.images, asked.child)))
        return
    lines = []
    for name in asked.only:
        with tempfile.TemporaryDirectory() as folder:
            compare = measure_own if name in OWN else measure_peer
            figures = compare(name, Path(folder), asked.train_seconds, asked.images)
        lines.append({"name": name, "train_seconds": asked.train_seconds, **figures})
        with asked.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        print(lines[-1], flush=True)
    print(table(lines))


def measure_peer(name: str, folder: Path, seconds: int, images: int) -> dict[str, Any]:
    """Train and draw in a process of its own, then judge."""
    drawn = folder / "drawn.npz"
    options = ("--train-seconds", str(seconds), "--images", str(images), "--child", str(drawn))
    own = run(sys.executable, "-m", "tests.benchmarks.peers", "--only", name, *options)
    return {**json.loads(own), **judged("--samples", str(drawn))}


def measure_own(name: str, folder: Path, seconds: int, images: int) -> dict[str, Any]:
    """The same with the commands of this project."""
    train = ("train", "--quiet", "--json", "--max-time", f"{seconds}s", "--name", "run")
    result = json.loads(diffcli(*train, *OWN[name], folder=folder))
    model = str(folder / "runs" / "run" / "model.safetensors")
    plan = json.loads(
        diffcli("train", "--dry-run", "--json", "--quiet", "--resume", "run", folder=folder)
    )["plan"]
    start = time.perf_counter()
    diffcli("sample", "-m", model, "--n", "16", "--label", "3", "-o", "x.png", folder=folder)
    return {
        "version": result["diffcli"],
        "parameters": plan["parameters"],
        "flops": plan["flops_per_image"],
        "images_per_second": result["images_seen"] / result["seconds"],
        "seconds_for_16": time.perf_counter() - start,
        **judged("-m", model, "--n", str(images)),
    }


def train_peer(peer: Peer, seconds: int, images: int, path: Path) -> dict[str, Any]:
    """Train for a time, draw digits into a file, and say what it took."""
    torch.manual_seed(0)
    data = load_mnist("train")
    start, seen = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        index = torch.randint(len(data), (BATCH,))
        peer.step(to_model_range(data.images[index]), data.labels[index])
        seen += BATCH
    speed = seen / (time.perf_counter() - start)
    labels = data.labels[proportional_subset(data.labels, images, 0)]
    with torch.inference_mode():
        start = time.perf_counter()
        peer.draw(torch.full((16,), 3))
        for_16 = time.perf_counter() - start
        pixels = [to_pixels(peer.draw(part).clamp(-1, 1)) for part in labels.split(_DRAWN_AT_ONCE)]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        peer.evaluate_once()
    save_npz(path, torch.cat(pixels), labels)
    return {
        "version": version(peer.package),
        "parameters": sum(param.numel() for param in peer.model.parameters()),
        "flops": counter.get_total_flops(),
        "images_per_second": speed,
        "seconds_for_16": for_16,
    }


def judged(*samples: str) -> dict[str, Any]:
    """What ``diffcli evaluate`` says."""
    done = json.loads(diffcli("evaluate", *samples, "--json"))["median"]
    return {name: done[name] for name in ("agreement", "frechet_train_over_shift", "recall")}


def diffcli(*arguments: str, folder: Path | None = None) -> str:
    """What a command of this project prints."""
    return run(sys.executable, "-m", "diffcli", *arguments, folder=folder)


def run(*arguments: str, folder: Path | None = None) -> str:
    """What a process prints."""
    done = subprocess.run(arguments, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def table(lines: list[dict[str, Any]]) -> str:
    """As Markdown."""
    out = [
        "| | version | parameters | MFLOP per image | images/s in training | Frechet distance over "
        "that of real digits | agreement | recall | seconds for 16 digits |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    out += [
        f"| {line['name']}, {line['train_seconds']} s | {line['version']} "
        f"| {line['parameters'] / 1e6:.2f} M | {line['flops'] / 1e6:,.0f} "
        f"| {line['images_per_second']:,.0f} | {line['frechet_train_over_shift']:.1f} "
        f"| {line['agreement']:.1%} | {line['recall']:.3f} | {line['seconds_for_16']:.2f} |"
        for line in lines
    ]
    return "\n".join(out)


if __name__ == "__main__":
    main()
