"""Requests drawn with a model and put together: one picture or one animation."""

from collections.abc import Callable, Iterator

from PIL import Image
from torch import Tensor

from diffcli.core.generate import Init, count_steps
from diffcli.core.samplers import Step
from diffcli.figures.grid import (
    FRAMES,
    STRIP_COLUMNS,
    animation,
    grid,
    grid_columns,
    sheet,
    spread,
    strip,
    there_and_back,
)
from diffcli.files.embedded import Embedded
from diffcli.sampling.model import Model
from diffcli.sampling.outputs import Output, PictureArray
from diffcli.sampling.provenance import Provenance
from diffcli.sampling.request import SampleRequest
from diffcli.sampling.start import Inversion

_MAX_ROW = 12

Draw = Callable[[Output], None]
"""Draws the pictures of an output's request into it, or some if it is interrupted."""


def draw_still(
    model: Model,
    provenance: Provenance,
    init: Init | Inversion | None,
    draw: Draw,
    interrupted: Callable[[], bool],
) -> Image.Image | None:
    """One still picture: a single one, a grid, a strip or a contact sheet.

    Args:
        model: to draw with.
        provenance: what to draw, and the layout.
        init: the picture to start from, if there is one.
        draw: draws with this model and from this picture.
        interrupted: called after every step; if true, drawing ends.

    Returns:
        The picture, of a grid what is finished; None if there is nothing to show.
    """
    request = provenance.request
    if provenance.layout == "strip":
        steps = _trace(model, request, init, interrupted, STRIP_COLUMNS)
        return strip(steps) if steps else None
    if provenance.sheet is None:
        pixels = _draw_all(model, request, draw)
        return grid(pixels, _columns(request)) if len(pixels) else None
    captions, rows = [], []
    for caption, row in provenance.sheet.rows(request):
        captions.append(caption)
        rows.append(_draw_all(model, row, draw))
        if interrupted():
            return None
    return sheet(rows, captions)


def draw_animation(
    model: Model,
    request: SampleRequest,
    init: Init | Inversion | None,
    kind: str,
    embedded: Embedded | None,
    draw: Draw,
    interrupted: Callable[[], bool],
) -> bytes | None:
    """The steps of a request, or the pictures of an interpolation, as an animation.

    Args:
        model: to draw with.
        request: what to draw.
        init: the picture to start from, if there is one.
        kind: see ``grid.animation``.
        embedded: metadata.
        draw: draws with this model and from this picture.
        interrupted: called after every step; if true, drawing ends.

    Returns:
        The file; None if interrupted.
    """
    if request.interpolation:
        pixels = _draw_all(model, request, draw)
        return None if interrupted() else there_and_back(pixels, kind, embedded)
    steps = _trace(model, request, init, interrupted, FRAMES)
    return animation(steps, _columns(request), kind, embedded) if steps else None


def _columns(request: SampleRequest) -> int:
    if request.interpolation:
        return min(len(request), _MAX_ROW)
    return grid_columns(request.rows, request.per_label)


def _trace(
    model: Model,
    request: SampleRequest,
    init: Init | Inversion | None,
    interrupted: Callable[[], bool],
    most: int,
) -> list[Step] | None:
    """Up to ``most`` of the steps; None if interrupted."""

    def steps() -> Iterator[Step]:
        for step in model.trace(request, init):
            yield step
            if interrupted():
                return

    count = count_steps(request.settings, model.num_timesteps, request.strength or 1.0)
    shown = spread(steps(), count, most)
    return None if interrupted() else shown


def _draw_all(model: Model, request: SampleRequest, draw: Draw) -> Tensor:
    array = PictureArray(request, model.description.architecture.image_shape)
    draw(array)
    return array.pixels
