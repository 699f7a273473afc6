"""Put a model and the sources in ``web/`` together into one HTML file.

The file loads nothing: scripts, styles and weights are in it, and a content security policy
with the hash of each forbids all others.
"""

import base64
import hashlib
import html
import json
import math
import re
from dataclasses import asdict
from importlib.resources import files
from string import Template
from typing import Any

from torch import Tensor

from diffcli import __version__
from diffcli.core.denoiser import Denoiser
from diffcli.errors import UsageError, printable
from diffcli.files.checkpoint import ModelDescription

_MOST_BYTES = 25_000_000
# Of fewer, torch draws noise in another way than the scripts do.
_FEWEST_VALUES = 16
_LARGEST = 2**15 - 1
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(async )?(class|const|function))", re.MULTILINE)
_WEB = files("diffcli.page") / "web"


def build_page(description: ModelDescription, denoiser: Denoiser, name: str | None = None) -> bytes:
    """The file, in UTF-8.

    Args:
        description: of the model.
        denoiser: the model.
        name: of a shipped model, for the commands that the page shows.

    Raises:
        UsageError: if the file would have more than 25 MB, or pictures have less than 16 values.
    """
    if math.prod(description.architecture.image_shape) < _FEWEST_VALUES:
        raise UsageError(f"a page draws pictures of {_FEWEST_VALUES} values or more", "model")
    tensors = denoiser.network.state_dict()
    rounded = {key: _rounded(tensor) for key, tensor in tensors.items()}
    weights = b"".join(numbers for numbers, _ in rounded.values())
    # What a browser might obey in a text from a stranger, such as another direction of writing.
    dataset = printable(description.dataset_name)
    model = {
        "name": name,
        "architecture": asdict(description.architecture),
        "alphas_cumprod": denoiser.schedule.alphas_cumprod.tolist(),
        "schedule_name": description.schedule.name,
        "prediction_type": description.prediction_type,
        "sampling": asdict(description.sampling),
        "is_distilled": description.is_distilled,
        "gives_likelihood": not description.is_distilled and denoiser.schedule.num_timesteps > 1,
        "class_names": [printable(label) for label in description.class_names],
        "dataset": dataset,
        "version": __version__,
        "tensors": [
            {"name": key, "count": tensors[key].numel(), "scale": scale}
            for key, (_, scale) in rounded.items()
        ],
    }
    main, style = bundle("main"), _read("page.css")
    policy = (
        f"default-src 'none'; script-src {_hash(main)}; style-src {_hash(style)}; "
        "worker-src blob:; base-uri 'none'; form-action 'none'"
    )
    page = (
        Template(_read("page.html"))
        .substitute(
            policy=policy,
            title=html.escape(f"A diffusion model of {dataset}"),
            style=style,
            model=_as_json(model),
            worker=bundle("worker"),
            weights=base64.b64encode(weights).decode(),
            main=main,
        )
        .encode()
    )
    if len(page) > _MOST_BYTES:
        raise UsageError(
            f"a page with this model would have {len(page) / 1e6:.0f} MB, and may have "
            f"{_MOST_BYTES / 1e6:.0f}; train a narrower one",
            "model",
        )
    return page


def bundle(name: str) -> str:
    """A module of ``web/`` and all that it imports, as one script.

    Names at the top level of modules must differ, and each is imported as it is called.
    """
    order: list[str] = []

    def visit(module: str) -> None:
        for needed in _IMPORT.findall(_read(f"{module}.js")):
            if needed not in order:
                visit(needed)
        order.append(module)

    visit(name)
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", _read(f"{part}.js"))) for part in order)


def _rounded(tensor: Tensor) -> tuple[bytes, float]:
    """A tensor as little-endian integers of 16 bits, and what to multiply them with.

    Of float16, only the largest weights would be as near.
    """
    tensor = tensor.detach().double().cpu()
    scale = float(tensor.abs().max()) / _LARGEST or 1.0
    return (tensor / scale).round().numpy().astype("<i2").tobytes(), scale


def _read(name: str) -> str:
    return (_WEB / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _as_json(value: dict[str, Any]) -> str:
    # A name from a stranger's file must not end the element that it stands in.
    return json.dumps(value).replace("<", "\\u003c")
