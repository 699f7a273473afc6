"""Where a picture comes from: all that is needed to draw it again, kept as its metadata."""

from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from diffcli import __version__
from diffcli.core.parameters import PredictionType, ScheduleConfig
from diffcli.core.samplers import SAMPLERS
from diffcli.errors import DiffcliError
from diffcli.files.checkpoint import ModelDescription, fingerprint
from diffcli.files.documents import decode
from diffcli.files.embedded import Embedded, read_document
from diffcli.files.locations import usual_models
from diffcli.sampling.labels import label_text
from diffcli.sampling.model import Model
from diffcli.sampling.request import SampleRequest, Sheet

SCHEMA_VERSION = 1

Layout = Literal["picture", "grid", "strip", "sheet", "animation"]


@dataclass(frozen=True)
class ModelIdentity:
    """The model that drew a picture: its file's name and SHA-256, and how it was trained.

    The data set is a name; in pictures of 0.1.0, it may be a path.
    """

    file: str
    sha256: str
    dataset: str
    prediction_type: PredictionType
    schedule: ScheduleConfig

    @classmethod
    def of(cls, path: Path, description: ModelDescription) -> "ModelIdentity":
        """The identity of a checkpoint."""
        return cls(
            path.name,
            fingerprint(path),
            description.dataset_name,
            description.prediction_type,
            description.schedule,
        )


@dataclass(frozen=True)
class Provenance:
    """The metadata of a picture.

    Args:
        model: that drew it.
        class_names: of the labels in the request, in their order.
        request: what was drawn.
        layout: how the pictures are arranged.
        sheet: what differs between the rows of a contact sheet.
        diffcli: version of this program.
        torch: version of torch.
        schema_version: of this document.

    Raises:
        ValueError: if the schema version is unknown.
    """

    model: ModelIdentity
    class_names: tuple[str, ...]
    request: SampleRequest
    layout: Layout
    sheet: Sheet | None = None
    diffcli: str = __version__
    torch: str = torch.__version__
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise ValueError(
                f"its schema version is {self.schema_version} and this release reads "
                f"{SCHEMA_VERSION}"
            )

    def of_one(self, index: int) -> "Provenance":
        """The metadata of picture ``index`` alone."""
        one, names = self.request.one(index), self.class_names
        if one.labels != self.request.labels:
            row = index // self.request.per_label
            names = names[row : row + 1]
        return replace(self, class_names=names, request=one, layout="picture")

    def embedded(self) -> Embedded:
        """The metadata in the form that picture files take."""
        return Embedded(asdict(self), self.parameters())

    def parameters(self) -> str:
        """The settings as one paragraph, in the form that viewers of generated pictures read."""
        request, settings = self.request, self.request.settings
        fields: dict[str, Any] = {
            "Steps": settings.steps,
            "Sampler": SAMPLERS[settings.sampler].title,
            "CFG scale": f"{settings.guidance_scale:g}",
            "Seed": request.seed,
            "Model hash": self.model.sha256[:10],
            "Model": self.model.file.removesuffix(".safetensors"),
            "Version": f"diffcli {self.diffcli}",
        }
        if settings.guidance_interval:
            fields["CFG interval"] = "-".join(map(str, settings.guidance_interval))
        if settings.spacing != 1:
            fields["Spacing"] = f"{settings.spacing:g}"
        if settings.sampler == "ddpm":
            fields["Variance"] = settings.variance
        if settings.sampler == "dpmpp-sde" and settings.eta != 1:
            fields["Eta"] = f"{settings.eta:g}"
        if request.strength is not None:
            fields["Denoising strength"] = f"{request.strength:g}"
        if request.per_label > 1:
            fields["Per label"] = request.per_label
        if way := request.interpolation:
            fields["Interpolation"] = f"{way.start:g}-{way.end:g} to seed {way.last_seed}"
        names = label_text(self.class_names, request.weights)
        return f"label {names}\n" + ", ".join(f"{key}: {value}" for key, value in fields.items())


def load_identified(path: Path, device: torch.device | str) -> tuple[Model, ModelIdentity]:
    """A model with its identity, of the same file even if a training replaces it meanwhile.

    Raises:
        DiffcliError: if the file is no checkpoint, or damaged.
        OSError: if it is missing.
    """
    while True:
        before = path.stat()
        model = Model.load(path, device)
        identity = ModelIdentity.of(path, model.description)
        after = path.stat()
        if (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns):
            return model, identity


def find_recorded_model(model: ModelIdentity) -> Path | None:
    """The file in ``runs/``, or the shipped one, that drew a picture; None if it is not there."""
    for path in usual_models():
        with suppress(OSError):  # another one may still be it
            if fingerprint(path) == model.sha256:
                return path
    return None


def read_provenance(path: Path) -> Provenance:
    """The metadata of a picture, checked.

    Raises:
        DiffcliError: if there is none, or it is not valid.
    """
    document = read_document(path)
    try:
        return decode(Provenance, document)
    except ValueError as error:
        raise DiffcliError(f"{path} does not say how it was drawn: {error}", "picture") from error
