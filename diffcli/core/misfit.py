"""How little images look like those that a model was trained on."""

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.likelihood import squared_error

# Where images that show no digit are told from test digits best: by the error alone, at log-SNR -2
# 96 % of the pairs of a printed letter and a test digit are in order, at log-SNR 2 67 %.
_LOG_SNRS_OF_SHAPES = [-step / 2 for step in range(9)]


@torch.inference_mode()
def misfit(denoiser: Denoiser, images: Tensor, labels: Tensor, seed: int = 0) -> Tensor:
    """How little images look like those of any label; to compare with others of the same label.

    It is the mean over some noise levels, at which shapes are decided, of::

        log(error) + 2 * log(error / error without a label)

    where the error is that of the estimate, ``||x_0 - estimate(x_t, label)||^2``.  It is large for
    images that the network cannot denoise (Graham et al. 2023), and the second part for images
    that even their best label does not help to denoise.  The levels were chosen for digits of
    28x28 pixels.

    Args:
        denoiser: a trained one, on the device to use.
        images: ``(B, C, H, W)`` in [-1, 1].
        labels: ``(B,)``, under which each is likeliest.
        seed: of noise.

    Returns:
        float64 ``(B,)``.
    """
    device = denoiser.schedule.device
    images, labels = images.to(device), labels.to(device)
    no_label = torch.full_like(labels, denoiser.network.no_label)
    generator = torch.Generator().manual_seed(seed)
    levels = []
    for log_snr in _LOG_SNRS_OF_SHAPES:
        t = int((denoiser.schedule.log_snr - log_snr).abs().argmin())
        epsilon = torch.randn(images.shape[1:], generator=generator).to(device)
        error, without = (
            squared_error(denoiser, images, t, some, epsilon).clamp(min=1e-12).log()
            for some in (labels, no_label)
        )
        levels.append(error + 2 * (error - without))
    return torch.stack(levels).mean(0)
