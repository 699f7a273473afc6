"""Samplers against those of diffusers.

The same betas, the same timesteps, and the same network, whose answers each side turns into
estimates by itself.  Its tables are given in double precision; what is compared is what the
sampler makes of them.
"""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor, nn

from diffcli.core.denoiser import Denoiser, Estimate
from diffcli.core.parameters import PredictionType, SamplingSettings, ScheduleConfig, Variance
from diffcli.core.samplers import ddim, ddpm, dpmpp, dpmpp_sde
from diffcli.core.schedule import NoiseSchedule, step_plan
from tests import tiny

pytestmark = pytest.mark.long

PEERS = [
    ("epsilon", ScheduleConfig("linear", 100)),
    ("v_prediction", ScheduleConfig("linear", 100)),
    ("v_prediction", ScheduleConfig("cosine", 100)),
]
PEER_NAMES = ["linear-epsilon", "linear-v", "cosine-v"]


def peer_settings(config: ScheduleConfig, prediction: PredictionType) -> dict[str, object]:
    return {
        "num_train_timesteps": config.num_timesteps,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "beta_schedule": "squaredcos_cap_v2" if config.name == "cosine" else "linear",
        "prediction_type": prediction,
    }


class Recording:
    """A real denoiser whose network's last answer is kept, for the peer to work with."""

    answer: Tensor

    def __init__(self, config: ScheduleConfig, prediction: PredictionType) -> None:
        self.schedule = NoiseSchedule.from_config(config)
        self._denoiser = Denoiser(tiny.network(), self.schedule, prediction)
        self._denoiser.network.register_forward_hook(self._keep)

    def _keep(self, network: nn.Module, arguments: object, answer: Tensor) -> None:
        self.answer = answer

    def __call__(self, x: Tensor, t: int) -> Estimate:
        return self._denoiser(x, t, torch.arange(len(x)))


def starting_noise() -> Tensor:
    return torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))


# diffusers takes for DDPM's and DDIM's previous timestep t - T // N, which is the next one of
# the plan only where N divides T.
DIVISORS = [1, 2, 4, 10, 50, 100]


@pytest.mark.parametrize("count", DIVISORS)
@pytest.mark.parametrize(("prediction", "config"), PEERS, ids=PEER_NAMES)
@pytest.mark.parametrize("variance", ["beta", "beta-tilde"])
def test_diffusers_makes_the_same_ancestral_steps(
    variance: Variance, prediction: PredictionType, config: ScheduleConfig, count: int
) -> None:
    denoiser = Recording(config, prediction)
    peer = DDPMScheduler(
        **peer_settings(config, prediction),
        variance_type={"beta": "fixed_large", "beta-tilde": "fixed_small"}[variance],
        clip_sample=False,
        timestep_spacing="trailing",
    )
    peer.alphas_cumprod = denoiser.schedule.alphas_cumprod
    peer.set_timesteps(count)
    x = starting_noise()
    ours, theirs = (torch.Generator().manual_seed(7) for _ in range(2))
    steps = ddpm(
        denoiser,
        denoiser.schedule,
        x,
        step_plan(config.num_timesteps, count),
        lambda: torch.randn(x.shape, generator=ours),
        SamplingSettings("ddpm", variance=variance),
    )
    for step in steps:
        expected = peer.step(denoiser.answer, step.t, x, generator=theirs)
        # With the larger variance, diffusers adds noise at the last of fewer steps than T.
        mine = expected.prev_sample if step.s >= 0 else expected.pred_original_sample
        assert torch.allclose(step.x, mine, rtol=1e-5, atol=1e-5), step.t
        # Step by step from the same place: rounding must not pile up over many steps.
        x = step.x


@pytest.mark.parametrize("count", DIVISORS)
@pytest.mark.parametrize(("prediction", "config"), PEERS, ids=PEER_NAMES)
def test_diffusers_makes_the_same_ddim_steps(
    prediction: PredictionType, config: ScheduleConfig, count: int
) -> None:
    denoiser = Recording(config, prediction)
    peer = DDIMScheduler(
        **peer_settings(config, prediction),
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
    peer.alphas_cumprod = denoiser.schedule.alphas_cumprod
    peer.set_timesteps(count)
    plan = step_plan(config.num_timesteps, count)
    assert peer.timesteps.tolist() == [t for t, _ in plan]
    x = starting_noise()
    for step in ddim(denoiser, denoiser.schedule, x, plan):
        expected = peer.step(denoiser.answer, step.t, x, eta=0.0)
        assert torch.allclose(step.x, expected.prev_sample, rtol=1e-5, atol=1e-5), step.t
        assert torch.allclose(step.x0, expected.pred_original_sample, rtol=1e-5, atol=1e-5)
        x = step.x


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("count", [1, 2, 3, 7, 14, 15, 50, 100])
@pytest.mark.parametrize(("prediction", "config"), PEERS, ids=PEER_NAMES)
@pytest.mark.parametrize("algorithm", ["dpmsolver++", "sde-dpmsolver++"])
def test_diffusers_makes_the_same_dpmpp_steps(
    algorithm: str, prediction: PredictionType, config: ScheduleConfig, count: int
) -> None:
    denoiser = Recording(config, prediction)
    peer = DPMSolverMultistepScheduler(
        **peer_settings(config, prediction),
        algorithm_type=algorithm,
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
        lower_order_final=True,
    )
    peer.alphas_cumprod = denoiser.schedule.alphas_cumprod
    plan = step_plan(config.num_timesteps, count)
    peer.set_timesteps(timesteps=[t for t, _ in plan])
    x = starting_noise()
    ours, theirs = (torch.Generator().manual_seed(7) for _ in range(2))
    steps = (
        dpmpp(denoiser, denoiser.schedule, x, plan)
        if algorithm == "dpmsolver++"
        else dpmpp_sde(
            denoiser,
            denoiser.schedule,
            x,
            plan,
            lambda: torch.randn(x.shape, generator=ours),
            SamplingSettings("dpmpp-sde"),
        )
    )
    for step in steps:
        expected = peer.step(denoiser.answer, step.t, x, generator=theirs).prev_sample
        assert torch.allclose(step.x, expected, rtol=1e-5, atol=1e-5), step.t
        x = step.x
