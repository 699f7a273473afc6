"""Where a figure shows what it should."""

import numpy as np
from PIL import Image


def place_of(panel: Image.Image, figure: Image.Image) -> tuple[int, int]:
    """Left and top of the only place where ``figure`` has exactly ``panel``."""
    whole, part = np.asarray(figure.convert("RGB")), np.asarray(panel.convert("RGB"))
    height, width, _ = part.shape
    first, last = (whole == part[0, 0]).all(2), (whole == part[-1, -1]).all(2)
    corners = first[: len(whole) - height + 1, : whole.shape[1] - width + 1]
    places = [
        (int(left), int(top))
        for top, left in np.argwhere(corners & last[height - 1 :, width - 1 :])
        if np.array_equal(whole[top : top + height, left : left + width], part)
    ]
    assert len(places) == 1, places
    return places[0]
