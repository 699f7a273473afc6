"""What the options of ``diffcli sample`` ask for: where drawing starts, and where pictures go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from diffcli.commands.drawing import check_target
from diffcli.commands.options import ANIMATED, Seeds, Target, parse_target
from diffcli.errors import UsageError
from diffcli.sampling.request import (
    DEFAULT_STRENGTH,
    MASKED_STRENGTH,
    SampleRequest,
    Sheet,
    Varied,
)

if TYPE_CHECKING:
    from diffcli.core.generate import Init
    from diffcli.core.parameters import SamplingSettings
    from diffcli.sampling.model import Model
    from diffcli.sampling.provenance import Provenance
    from diffcli.sampling.start import Inversion


class Arrangement(NamedTuple):
    """Where pictures go, and whether they are a strip or a sheet."""

    target: Target
    strip: bool
    sheet: Sheet | None


def arrange(
    output: str | None,
    out_dir: Path | None,
    strip: bool | None,
    sheet: Sheet | None,
    as_json: bool,
    given: Mapping[Varied, float | None],
    show: bool | None,
    picture: Path | None,
    before: "Provenance | None",
) -> Arrangement:
    """The arrangement that options ask for, or else that of the picture to draw again.

    Args:
        output: a file, a pattern or stdout.
        out_dir: a folder of single pictures.
        strip: whether to make a strip; None is as before.
        sheet: to make.
        as_json: whether stdout is for JSON.
        given: the settings that a sheet can vary, as options give them.
        show: whether to show the picture in the terminal; None leaves it open.
        picture: to draw again.
        before: its metadata.

    Raises:
        UsageError: if the options do not go together, or nothing can be written there.
    """
    if strip and sheet:
        raise UsageError("--strip and --sheet are two layouts; choose one")
    elsewhere = output is not None or out_dir is not None or strip or sheet
    if picture and before and before.layout == "animation" and not elsewhere:
        suffix = picture.suffix.lower()
        output = f"grid{suffix if suffix in ANIMATED else '.apng'}"
    target = parse_target(output, out_dir)
    if before and target.form in ("picture", "stdout") and strip is None and sheet is None:
        strip, sheet = before.layout == "strip", before.sheet
    check_target(target, bool(strip or sheet), as_json, bool(show))
    if sheet and given[sheet.varied] is not None:
        raise UsageError(
            f"the rows of the sheet differ in {sheet.varied}; leave --{sheet.varied} out"
        )
    return Arrangement(target, bool(strip), sheet)


@dataclass(frozen=True)
class Asked:
    """Options, and the request of a picture to draw again, which has the values not given.

    Args:
        label: the labels.
        seed: one, or the two of an interpolation.
        between: the two labels of an interpolation.
        pictures: to start from.
        invert: the label of such a picture, to draw from its noise.
        mask: of the part to draw anew.
        strength: how much to change the picture.
        picture: to draw again.
        old: its request.
    """

    label: list[str] | None
    seed: Seeds | None
    between: str | None
    pictures: list[Path]
    invert: str | None
    mask: Path | None
    strength: float | None
    picture: Path | None
    old: SampleRequest | None

    @property
    def ends(self) -> Sequence[str | int] | None:
        """The two labels of an interpolation, if it is to be one.

        Raises:
            UsageError: if other labels are given, too.
        """
        if self.between is None:
            old = self.old
            return old.labels if old and old.interpolation and not self.label else None
        if self.label:
            raise UsageError("--between names both labels; leave --label out")
        return [self.between]

    def start(self, model: "Model") -> "Init | Inversion | None":
        """The pictures that drawing starts from, if it does.

        Raises:
            UsageError: if the options do not go together.
            DiffcliError: if a picture cannot be read.
        """
        self._check_pictures()
        if not self.pictures:
            return None
        found_under: Sequence[str | int] | None = self.ends
        if found_under is None and self.invert is not None:
            found_under = [self.invert]
        elif found_under is None and self.old and self.old.inverted:
            found_under = self.old.inverted
            if len(found_under) > 1:
                raise UsageError(
                    f"{self.picture} was drawn between two pictures; name the label that the noise "
                    "of this one is found under with --invert"
                )
        if not found_under:
            return model.init(self.pictures[0], self.mask)
        if self.ends and self.invert is not None:
            raise UsageError(
                "the noise of two pictures is found under the labels between which they are drawn; "
                "leave --invert out"
            )
        unused: dict[str, object] = {"--mask": self.mask, "--strength": self.strength}
        for name, value in unused.items():
            if value is not None:
                raise UsageError(
                    f"{name} does not go with drawing from the noise of pictures; leave it out"
                )
        return model.invert(self.pictures, found_under)

    def _check_pictures(self) -> None:
        """Check that there are as many pictures to start from as are needed."""
        old, count = self.old, len(self.pictures)
        if not count and old and (old.strength is not None or old.inverted):
            sources = "another picture; name that one"
            if old.interpolation:
                sources = "two pictures; name them"
            raise UsageError(f"{self.picture} was drawn from {sources} with --init")
        if self.mask is None and old and old.masked:
            raise UsageError(f"{self.picture} was drawn with a mask; name that one with --mask")
        needing = {"--mask": self.mask, "--strength": self.strength, "--invert": self.invert}
        for name, value in needing.items():
            if not count and value is not None:
                raise UsageError(f"{name} needs a picture to start from; name it with --init")
        if count and count != (2 if self.ends else 1):
            raise UsageError(
                f"pictures with --between start from two --init, all others from one, not {count}"
            )

    def base(
        self, model: "Model", start: "Init | Inversion | None", left: Sheet | None
    ) -> "SamplingSettings | None":
        """The settings that options change, if not the model's own.

        Args:
            model: to draw with.
            start: see the method of that name.
            left: the sheet of the picture to draw again, if the new one is not that sheet.
        """
        if _noise_of(start) and (self.old is None or self.old.inverted is None):
            return model.inversion_settings()
        if self.old is None:
            return None
        # Of these two, what was kept is that of the sheet's first row; of steps, the usual number.
        own = model.description.sampling
        if left and left.varied == "guidance":
            return replace(
                self.old.settings,
                guidance_scale=own.guidance_scale,
                guidance_interval=own.guidance_interval,
            )
        if left and left.varied == "eta":
            return replace(self.old.settings, eta=own.eta)
        return self.old.settings

    def request(
        self,
        model: "Model",
        settings: "SamplingSettings",
        num: int,
        start: "Init | Inversion | None",
    ) -> SampleRequest:
        """What to draw.

        Args:
            model: to draw with.
            settings: how.
            num: pictures of each label, or of an interpolation.
            start: see the method of that name.

        Raises:
            UsageError: if the model has no such class, or a number is out of range.
        """
        old, ends, inverted = self.old, self.ends, _noise_of(start)
        way = old.interpolation if old and ends else None
        seed = self.seed
        if seed is None and old:
            seed = Seeds([old.seed, *([way.last_seed] if way else [])])
        if ends:
            seeds = (seed[0], seed[-1]) if seed else None
            part = (way.start, way.end) if way else (0.0, 1.0)
            return model.request_between(ends, num, seeds, settings, inverted, part)
        if seed and len(seed) > 1:
            raise UsageError("two seeds are the ends of an interpolation, which needs --between")
        return model.request(
            self.label or (old.labels if old else range(len(model.class_names))),
            num,
            seed[0] if seed else None,
            settings,
            self._strength(start),
            self.mask is not None,
            inverted,
            old.weights if old and not self.label else None,
        )

    def _strength(self, start: "Init | Inversion | None") -> float | None:
        if start is None or _noise_of(start):
            return None
        if self.strength is None and self.old and self.old.strength is not None:
            return self.old.strength
        usual = DEFAULT_STRENGTH if self.mask is None else MASKED_STRENGTH
        return usual if self.strength is None else self.strength


def _noise_of(start: "Init | Inversion | None") -> tuple[int, ...] | None:
    """The labels under which the noise of pictures is found, if drawing starts from that."""
    from diffcli.sampling.start import Inversion

    return start.labels if isinstance(start, Inversion) else None
