from pathlib import Path

import torch

from diffcli.charts.arrange import enlarged
from diffcli.charts.colours import DIVERGING
from diffcli.charts.heat import heat_map
from diffcli.charts.scales import Scale
from diffcli.core.likelihood import Score
from diffcli.core.noise import ImageNoise
from diffcli.data.images import to_model_range, to_pixels
from diffcli.figures.score_figure import score_figure
from diffcli.files.pictures import to_pillow
from diffcli.sampling.model import Model
from diffcli.sampling.pictures import Pictures
from tests import tiny
from tests.figures.places import place_of

SIDE = 116


def test_below_each_noisy_picture_are_both_estimates_and_their_difference() -> None:
    model = Model(tiny.description(), tiny.denoiser(), Path("a.safetensors"))
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 256, (1, 1, 8, 8), generator=generator).to(torch.uint8)
    pictures = Pictures([f"folder/{'long' * 50}.png"], pixels, [-1], 0, [])
    posterior = torch.tensor([[0.1, 0.2, 0.7]], dtype=torch.float64)
    bits = torch.ones(1, dtype=torch.float64)
    figure = score_figure(model, pictures, Score(bits, bits, posterior))

    schedule = model.denoiser.schedule
    x0 = to_model_range(pixels)
    epsilon = ImageNoise([0], x0.shape[1:], torch.device("cpu"))()
    tops = []
    for log_snr in (2.0, 0.0, -2.0, -4.0):
        t = int((schedule.log_snr - log_snr).abs().argmin())
        x_t = schedule.add_noise(x0, t, epsilon)
        best, second = (
            model.denoiser.clipped(x_t, t, torch.tensor([label])).x0[0] for label in (2, 1)
        )
        parts = [to_pillow(to_pixels(x)) for x in (x_t[0], best, second)]
        parts.append(heat_map((best - second).mean(0), Scale(-1, 1), DIVERGING))
        places = [place_of(enlarged(part, SIDE), figure) for part in parts]
        assert len({left for left, _ in places}) == 1
        tops.append([top for _, top in places])
        assert tops[-1] == sorted(set(tops[-1]))
    assert all(row == tops[0] for row in tops)
    # The folder is not told, and a long name makes no wider figure.
    assert figure.width < 1000
    first, other = (
        score_figure(model, pictures._replace(names=[name]), Score(bits, bits, posterior))
        for name in ("secret/b.png", "b.png")
    )
    assert first.tobytes() == other.tobytes()
