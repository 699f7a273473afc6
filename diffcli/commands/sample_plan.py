"""From the options of ``diffcli sample`` to all that drawing needs."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from diffcli.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from diffcli.core.samplers import SamplerName
    from diffcli.files.provenance import Layout, Provenance
    from diffcli.model import Model
    from diffcli.request import SampleRequest, Sheet

Form = Literal["picture", "animation", "arrays", "files"]
"""What is written: one still picture, an animation, an npz, or a file per picture."""

_DEFAULT_STRENGTH = 0.6
_MOST_PICTURES = {"grid": 10_000, "sheet": 1000, "strip": 200, "animation": 1000}


@dataclass(frozen=True)
class Wishes:
    """The options that say what to draw; None where the user has said nothing."""

    labels: list[str] | None
    n: int | None
    seed: int | None
    again: Path | None
    model: Path | None
    device: str
    sampler: "SamplerName | None"
    steps: int | None
    guidance: float | None
    guidance_interval: str | None
    init: Path | None
    strength: float | None
    strip: bool | None
    sheet: str | None


class Plan(NamedTuple):
    """Everything that a drawing needs."""

    model: "Model"
    request: "SampleRequest"
    layout: "Layout"
    sheet: "Sheet | None"
    init: "Tensor | None"
    provenance: "Provenance | None"


def say(line: str) -> None:
    """Tell the user something that is no result."""
    print(line, file=sys.stderr, flush=True)


def make_plan(wishes: Wishes, form: Form, metadata: bool) -> Plan:
    """What the options add up to, with those of a picture to draw again beneath them.

    Raises:
        UsageError: if they contradict each other, or the model.
        DiffcliError: if the model or the picture cannot be read.
    """
    from diffcli.commands.devices import find_device
    from diffcli.files.models import find_model
    from diffcli.files.provenance import ModelIdentity, Provenance, read_provenance
    from diffcli.model import Model

    before = read_provenance(wishes.again) if wishes.again else None
    path = find_model(wishes.model)
    model = Model.load(path, find_device(wishes.device))
    identity = ModelIdentity.of(path, model.description)
    if before and before.model.sha256 != identity.sha256:
        say(
            f"{wishes.again} was drawn by another model, {before.model.file} "
            f"({before.model.sha256[:10]}); this is {path} ({identity.sha256[:10]})"
        )
    layout, sheet = _layout(wishes, form, before)
    request = _request(wishes, model, layout, sheet, before)
    most = _MOST_PICTURES.get(layout)
    if most and len(request) > most:
        raise UsageError(
            f"{len(request):,} pictures are too many to show as one {layout}, {most:,} is the "
            "most; write them to a folder with --out-dir, or to one .npz"
        )
    if layout == "grid" and len(request) == 1:
        layout = "picture"
    if sheet:
        for _, row in sheet.rows(request):
            model.check(row.settings)
    names = tuple(model.class_names[label] for label in request.labels)
    provenance = Provenance(identity, names, request, layout, sheet) if metadata else None
    return Plan(model, request, layout, sheet, _init(wishes, model), provenance)


def _layout(
    wishes: Wishes, form: Form, before: "Provenance | None"
) -> tuple["Layout", "Sheet | None"]:
    if wishes.strip and wishes.sheet:
        raise UsageError("--strip and --sheet are two layouts; choose one")
    if form != "picture":
        if wishes.strip or wishes.sheet:
            raise UsageError("--strip and --sheet make one PNG; change -o")
        return ("animation" if form == "animation" else "picture"), None
    if wishes.sheet:
        return "sheet", _parse_sheet(wishes.sheet)
    if wishes.strip or (wishes.strip is None and before and before.layout == "strip"):
        return "strip", None
    if before and before.sheet and wishes.strip is None:
        return "sheet", before.sheet
    return "grid", None


def _request(
    wishes: Wishes,
    model: "Model",
    layout: "Layout",
    sheet: "Sheet | None",
    before: "Provenance | None",
) -> "SampleRequest":
    old = before.request if before else None
    # Rows of several scales are asked for as one scale is, and not only in the model's interval.
    guidance = sheet.values[0] if sheet and sheet.varied == "guidance" else wishes.guidance
    settings = model.settings(
        wishes.sampler,
        wishes.steps,
        guidance,
        _parse_interval(wishes.guidance_interval),
        old.settings if old else None,
    )
    n, seed, strength = wishes.n, wishes.seed, wishes.strength
    if old:
        n = old.per_label if n is None else n
        seed = old.seed if seed is None else seed
        strength = old.strength if strength is None else strength
    if n is None:
        n = 1 if layout in ("strip", "sheet") else 8
    if wishes.init is None and strength is not None:
        raise UsageError("--strength says how far to go from a picture; give it with --init")
    if wishes.init is not None and strength is None:
        strength = _DEFAULT_STRENGTH
    labels: Sequence[str | int] = wishes.labels or (old.labels if old else ["all"])
    return model.request(labels, n, seed, settings, strength)


def _parse_interval(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})-(\d{1,6})", text)
    if not match:
        raise UsageError(f"--guidance-interval {text!r} is no interval; write it like 50-250")
    return int(match[1]), int(match[2])


def _parse_sheet(text: str) -> "Sheet":
    from diffcli.request import Sheet

    match = re.fullmatch(r"(guidance|steps)=(\d+(?:\.\d+)?(?:,\d+(?:\.\d+)?)*)", text)
    if not match:
        raise UsageError(f"--sheet {text!r} must be like guidance=0,1,2,4 or steps=2,4,8,50")
    try:
        return Sheet(
            "steps" if match[1] == "steps" else "guidance",
            tuple(float(value) for value in match[2].split(",")),
        )
    except ValueError as error:
        raise UsageError(f"--sheet {text}: {error}") from error


def _init(wishes: Wishes, model: "Model") -> "Tensor | None":
    if wishes.init is None:
        return None
    from diffcli.data.images import to_model_range
    from diffcli.files.pictures import fitted, from_pillow
    from diffcli.files.reading import open_picture

    shape = model.description.architecture
    picture = open_picture(wishes.init)
    size = (shape.image_height, shape.image_width)
    pixels = from_pillow(fitted(picture, shape.image_channels, *size))
    return to_model_range(pixels[None])
