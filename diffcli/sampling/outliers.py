"""Pictures that show none of a model's labels."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffcli.core.misfit import misfit
from diffcli.data.images import to_model_range
from diffcli.sampling.model import Model

OWN_DRAWINGS = 100
_MOST_STEPS = 16


def unusual(
    model: Model,
    pixels: Tensor,
    labels: Tensor,
    on_progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """How unusual pictures are for a model, compared with some that it draws.

    Its own drawings are judged under the label that they were drawn as.  To find their best labels
    takes three times as long as all the rest, and longer with more classes: of 100 digits of the
    shipped model one has another, and the shares of test digits change by 0.01 at most.  A model
    that often draws something else than the label says finds pictures a little less unusual than
    they are.

    Args:
        model: not a distilled one.
        pixels: uint8 ``(N, C, H, W)``.
        labels: ``(N,)``, under which each is likeliest, see ``Model.score``.
        on_progress: called with the number of pictures done and of all.

    Returns:
        The share of 100 pictures, drawn by the model of its labels in turn, that look more like
        their labels, see ``misfit``; float64 ``(N,)``.  Of over 100 labels, they are of some,
        evenly spread over all.
    """
    own, classes = torch.arange(OWN_DRAWINGS), len(model.class_names)
    own = own % classes if classes <= OWN_DRAWINGS else own * classes // OWN_DRAWINGS
    settings = model.description.sampling
    if settings.steps > _MOST_STEPS:
        settings = model.settings(sampler="dpmpp-sde", steps=min(_MOST_STEPS, model.num_timesteps))
    drawn = [part.pixels for part in model.draw(model.request(own.tolist(), 1, 0, settings))]
    images, under = torch.cat([*drawn, pixels]), torch.cat([own, labels])
    found: list[Tensor] = []
    size = model.batch_size(settings)
    for some, some_labels in zip(images.split(size), under.split(size), strict=True):
        found.append(misfit(model.denoiser, to_model_range(some), some_labels))
        if on_progress:
            on_progress(sum(map(len, found)), len(images))
    usual, asked = torch.cat(found).split([OWN_DRAWINGS, len(pixels)])
    return (usual < asked[:, None]).double().mean(1)
