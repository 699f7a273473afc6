"""The figures that ``diffcli evaluate`` prints."""

import json
from typing import Any

# Name, heading, and how a number is written.
_FIGURES = (
    ("frechet_train", "Frechet distance to training images", "{:.4f}"),
    ("frechet_train_over_noise", "  over sampling noise", "{:.1f}x"),
    ("frechet_train_over_shift", "  over test images' own", "{:.1f}x"),
    ("frechet_test", "Frechet distance to test images", "{:.4f}"),
    ("frechet_test_over_noise", "  over sampling noise", "{:.1f}x"),
    ("frechet_test_over_shift", "  over test to training images", "{:.1f}x"),
    ("agreement", "Recognised as what was asked for", "{:.2%}"),
    ("precision", "Precision", "{:.3f}"),
    ("recall", "Recall", "{:.3f}"),
    ("density", "Density", "{:.3f}"),
    ("coverage", "Coverage", "{:.3f}"),
    ("nearest_median", "Distance to nearest training image, median", "{:.2f}"),
    ("nearest_first_percentile", "  1st percentile", "{:.2f}"),
    ("grey_mean", "Grey values, mean", "{:.1f}"),
    ("grey_std", "  standard deviation", "{:.1f}"),
    ("classification_accuracy", "Test images recognised, learnt from samples", "{:.2%}"),
)
_MOST_CLASSES = 20


def print_figures(document: dict[str, Any], as_json: bool) -> None:
    """Print what ``Evaluation.document`` holds, as a table or whole."""
    if as_json:
        print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
        return

    from rich.console import Console
    from rich.table import Table

    runs, real = document["runs"], document["real"]
    table = Table(title=f"{runs[0]['images']:,} pictures", title_justify="left")
    table.add_column("")
    table.add_column("samples" if len(runs) == 1 else f"median of {len(runs)}", justify="right")
    if len(runs) > 1:
        table.add_column("from .. to", justify="right")
    table.add_column(f"{real['images']:,} test images", justify="right")
    for name, heading, form in _FIGURES:
        if document["median"][name] is None:
            continue
        cells = [form.format(document["median"][name])]
        if len(runs) > 1:
            cells.append(" .. ".join(form.format(document[end][name]) for end in ("low", "high")))
        cells.append("" if real[name] is None else form.format(real[name]))
        table.add_row(heading, *cells)
    console = Console()
    console.print(table)
    shares = runs[0]["agreement_per_class"]
    if len(shares) <= _MOST_CLASSES:
        listed = "  ".join(
            f"{name} {share:.1%}" for name, share in shares.items() if share is not None
        )
        console.print(f"Recognised, by label: {listed}", highlight=False)
