"""Pictures that show none of a model's labels."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffcli.core.misfit import misfit
from diffcli.data.images import to_model_range
from diffcli.sampling.model import Model

# Own drawings of each label that pictures have, and of all of them together: of more than ten
# labels, each is drawn fewer times, but never fewer than the last.
_MOST_PER_LABEL, _MOST_IN_ALL, _FEWEST_PER_LABEL = 100, 1000, 10
_MOST_STEPS = 16
# Of a misfit, which is a logarithm; drawings of some models are all alike.
_LEAST_DEVIATION = 1e-6


def unusual(
    model: Model,
    pixels: Tensor,
    labels: Tensor,
    on_progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """How unusual pictures are for a model, compared with some of the same label that it draws.

    Labels differ: of the shipped digits, every drawn 1 is easier to denoise than half of all
    others, so that among drawings of all labels an I, as a 1, would not be unusual.  A model that
    often draws something else than the label says finds pictures less unusual than they are.
    Deviations order pictures that are all more unusual than any drawing, which ranks would not.

    Args:
        model: not a distilled one.
        pixels: uint8 ``(N, C, H, W)``.
        labels: ``(N,)``, under which each is likeliest, see ``Model.score``.
        on_progress: called with the number of pictures done and of all.

    Returns:
        How far the ``misfit`` of each is above the mean of 100 pictures that the model draws of the
        same label, in their standard deviations; float64 ``(N,)``.  If the pictures have more than
        ten labels, fewer are drawn of each, but ten or more.
    """
    present = labels.unique().tolist()
    each = max(_FEWEST_PER_LABEL, min(_MOST_PER_LABEL, _MOST_IN_ALL // len(present)))
    settings = model.description.sampling
    if settings.steps > _MOST_STEPS:
        settings = model.settings(sampler="dpmpp-sde", steps=min(_MOST_STEPS, model.num_timesteps))
    size, total, done = model.batch_size(settings), len(present) * each + len(pixels), 0

    def judged(images: Tensor, under: Tensor) -> Tensor:
        nonlocal done
        found = []
        for some, some_labels in zip(images.split(size), under.split(size), strict=True):
            found.append(misfit(model.denoiser, to_model_range(some), some_labels))
            done += len(some)
            if on_progress:
                on_progress(done, total)
        return torch.cat(found)

    deviations = torch.empty(len(pixels), dtype=torch.float64)
    for label in present:
        chosen = labels == label
        request = model.request([label], each, 0, settings)
        drawn = torch.cat([part.pixels for part in model.draw(request)])
        usual = judged(drawn, torch.full((each,), label))
        asked = judged(pixels[chosen], labels[chosen])
        deviations[chosen] = (asked - usual.mean()) / usual.std().clamp(min=_LEAST_DEVIATION)
    return deviations
