"""The plan and the progress of a training run, as they are printed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from diffcli.commands.console import clock, sampling_text
from diffcli.errors import printable

if TYPE_CHECKING:
    from diffcli.training.config import RunConfig
    from diffcli.training.plan import Plan
    from diffcli.training.status import Status


def status_line(status: "Status") -> str:
    """Where a training run is, in one line."""
    parts = [f"epoch {status.epoch}"]
    if status.loss is not None:
        parts.append(f"loss {status.loss:.4f}")
    if status.validation_loss is not None:
        parts.append(f"held out {status.validation_loss:.4f}")
    parts.append(f"{status.images_per_second:,.0f} images/s")
    if status.progress == 1:
        parts.append(f"took {clock(status.seconds)}")
    return "  ".join(parts)


def show_plan(plan: "Plan", config: "RunConfig", sources: Mapping[str, str]) -> None:
    """Print the settings of a run with their sources, and what it will cost."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    recipe, size, teacher = config.recipe, config.image_size, config.distillation
    model = (teacher and teacher.teacher) or (config.origin and config.origin.model)
    limit = config.max_seconds
    settings = {
        "model": model,
        "guidance": teacher and f"{teacher.guidance_scale:g}",
        "data": config.data,
        "image_size": f"{size[1]}x{size[0]}" if size else None,
        "flip": config.flip,
        "recipe": recipe.name,
        "width": recipe.width,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "augmentation": recipe.augmentation,
        "sampling": sampling_text(recipe.sampling),
        "seed": config.seed,
        "compile": config.compile,
        "epochs": config.epochs,
        "max_steps": config.max_steps,
        "max_time": None if limit is None else clock(limit),
    }
    console = Console(stderr=True)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in settings.items():
        if value is not None:
            source = sources.get(name, "default").replace("commandline", "flag")
            # Text, because a path may look like markup.
            table.add_row(name.replace("_", " "), Text(printable(str(value))), source)
    table.add_section()
    table.add_row("parameters", f"{plan.parameters:,}")
    table.add_row("FLOPs per image", f"{plan.flops_per_image / 1e6:,.0f} million, forward")
    table.add_row("ᾱ at the last timestep", f"{plan.final_alphas_cumprod:.2g}")
    table.add_row("prior KL", f"{plan.prior_kl:.2g} nats per image")
    table.add_row("speed", f"{plan.images_per_second:,.0f} images/s, measured")
    table.add_row("expected to take", clock(plan.seconds))
    console.print(table)
    if plan.warning:
        warning = f"warning: {plan.warning}"
        if recipe.name == "ddpm":
            warning += "; --recipe fast has a schedule without this flaw"
        console.print(warning, style="yellow", soft_wrap=True)
