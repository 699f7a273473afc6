"""The samples of a run: some of each class, always of the same seeds, to be compared."""

import copy
from collections.abc import Mapping

from PIL import Image
from torch import Tensor

from diffcli.core.generate import count_evaluations
from diffcli.data.images import proportional_subset
from diffcli.data.sources import DataSet
from diffcli.evaluation.neighbours import nearest_images, share_of_copies
from diffcli.figures.grid import grid
from diffcli.sampling.model import Model

_COLUMNS, _MOST_ROWS = 8, 10
_MOST_COMPARED = 500


class Samples:
    """Draws the samples of a run and compares them with its data.

    Args:
        model: with the latest average of the weights.
        data: the data set.

    Attributes:
        cost: how many evaluations of the network, of one image each, the samples take.
        held_out_compared: with how many held-out images they are compared.
    """

    def __init__(self, model: Model, data: DataSet) -> None:
        self._model = model
        self._train = data.train.images
        held_out = data.held_out
        self.held_out_compared = min(_MOST_COMPARED, len(held_out))
        compared = proportional_subset(held_out.labels, self.held_out_compared, 0)
        self._held_out = held_out.images[compared]
        self._classes = range(min(len(model.class_names), _MOST_ROWS))
        each = count_evaluations(model.description.sampling, model.num_timesteps)
        self.cost = len(self._classes) * _COLUMNS * each

    def draw(self, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """Pictures of each class but those after the tenth, uint8 ``(N, C, H, W)`` on the CPU.

        Args:
            weights: of the network, if not the latest average.
        """
        model = self._model
        if weights is not None:
            denoiser = copy.deepcopy(model.denoiser)
            denoiser.network.load_state_dict(weights)
            model = Model(model.description, denoiser, model.path)
        return model.sample(self._classes, _COLUMNS, seed=0)

    def grid(self, pixels: Tensor) -> Image.Image:
        """The samples as one picture, a row for each class."""
        return grid(pixels, _COLUMNS)

    def share_of_copies(self, pixels: Tensor) -> float:
        """How many of the samples are copies, see ``neighbours.share_of_copies``."""
        distances = [
            nearest_images(images, self._train).distances for images in (pixels, self._held_out)
        ]
        return share_of_copies(*distances)
