"""The figures of several sets of samples: ratios, medians, ranges."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any, NamedTuple

from diffcli.evaluation.judge import Evidence, Figures, Judge, closest_of_each_label
from diffcli.evaluation.neighbours import share_of_copies
from diffcli.files.arrays import PictureArrays

Row = Mapping[str, float | None]
"""Figures by name; those that were not requested or have no value are None."""

# Squared distances of equal features are zero but for rounding.
_ROUNDING = 1e-9

# Of the test images beside the samples, which would be compared with themselves.
_OF_THEMSELVES = ("frechet_test", "frechet_test_over_noise", "frechet_test_over_shift", "copies")

# The distance of fewer test images is an accident: of 16 digits it was from 0.03 to 0.08.
_FEWEST_COMPARED = 50


class Summary(NamedTuple):
    """Each figure's median, smallest and largest value over the sets."""

    median: Row
    low: Row
    high: Row


class Evaluation:
    """The figures of one or more sets of samples, beside those of real images.

    Args:
        judge: of the data set to compare with.
        class_names: the names of the labels.

    Attributes:
        evidence: what the figures of the last set were computed from.
        real_evidence: the same of as many test images, or of all if there are fewer.
    """

    evidence: Evidence
    real_evidence: Evidence

    def __init__(self, judge: Judge, class_names: Sequence[str]) -> None:
        self._judge = judge
        self._class_names = class_names
        self._real: Figures | None = None
        self._noise = math.nan
        self._rows: list[Row] = []
        self._runs: list[dict[str, Any]] = []

    def add(self, samples: PictureArrays, cas: bool = False) -> None:
        """Add a set of samples, as large as the first one.

        Raises:
            DiffcliError: see ``Judge.judge``.
        """
        figures, self.evidence = self._judge.judge(samples.images, samples.labels, cas)
        if self._real is None:
            self._real, self.real_evidence = self._judge.real(len(samples.images))
            self._noise = self._judge.sampling_noise(len(samples.images))
        row = self._row(figures, self.evidence)
        self._rows.append(row)
        self._runs.append({**row, **self._details(samples)})

    def summary(self) -> Summary:
        """Medians and ranges over all sets."""
        columns = {
            name: [value for row in self._rows if (value := row[name]) is not None]
            for name in self._rows[0]
        }
        return Summary(
            {name: median(values) if values else None for name, values in columns.items()},
            {name: min(values, default=None) for name, values in columns.items()},
            {name: max(values, default=None) for name, values in columns.items()},
        )

    def document(self) -> dict[str, Any]:
        """All figures as a JSON object.

        The test images, ``real``, have no figures of how far they are from test images.
        """
        real = self._real and {
            **self._row(self._real, self.real_evidence),
            **dict.fromkeys(_OF_THEMSELVES),
        }
        return {
            "sampling_noise": self._noise,
            "real": real,
            **self.summary()._asdict(),
            "runs": self._runs,
        }

    def _row(self, figures: Figures, evidence: Evidence) -> dict[str, float | None]:
        """The figures, with Frechet distances also as multiples of those of real images.

        ``.._over_noise`` divides by the distance of some training images from the others,
        ``.._over_shift`` by that of the test images; all are of sets of the same size, see
        ``Figures``.  No honest generator reaches 1 over noise: the network was trained on the
        training images, whose features differ from those of any others, also of test images.
        Of few test images, or of real images that are copies of one, there are no multiples.
        ``copies`` is what ``share_of_copies`` says.
        """
        assert self._real
        row: dict[str, float | None] = asdict(figures)
        few = self._real.images < _FEWEST_COMPARED
        for name in ("frechet_train", "frechet_test"):
            distance = getattr(figures, name)
            row[f"{name}_over_noise"] = _ratio(distance, self._noise)
            row[f"{name}_over_shift"] = None if few else _ratio(distance, self._real.frechet_train)
        row["copies"] = share_of_copies(
            evidence.nearest.distances, self.real_evidence.nearest.distances
        )
        return row

    def _details(self, samples: PictureArrays) -> dict[str, Any]:
        names, evidence = self._class_names, self.evidence
        asked = evidence.confusion.sum(dim=1).tolist()
        agreed = evidence.confusion.diagonal().tolist()
        return {
            "agreement_per_class": {
                name: right / count if count else None
                for name, right, count in zip(names, agreed, asked, strict=True)
            },
            "confusion": evidence.confusion.tolist(),
            "closest": [
                {
                    "label": names[int(samples.labels[index])],
                    "sample": index,
                    "seed": None if samples.seeds is None else int(samples.seeds[index]),
                    "training_image": int(evidence.nearest.indices[index]),
                    "distance": float(evidence.nearest.distances[index]),
                }
                for index in closest_of_each_label(samples.labels, evidence.nearest)
            ],
        }


def _ratio(distance: float, real: float) -> float | None:
    return distance / real if real > _ROUNDING else None
