"""What the commands that train have in common: the plan, the run, its end."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from diffcli.commands.console import (
    ProgressDisplay,
    deferred_interruption,
    list_unreadable,
    say,
    typed,
    warn_of_copies,
)
from diffcli.commands.plan import show_plan, status_line
from diffcli.commands.run_options import Limits
from diffcli.errors import DiffcliError, UsageError, as_usage_error, reason_of
from diffcli.threads import THREADS
from diffcli.training.config import RunConfig

if TYPE_CHECKING:
    import torch

    from diffcli.data.images import LabelledImages
    from diffcli.data.sources import DataSet
    from diffcli.files.checkpoint import ModelDescription
    from diffcli.training.distributed import Distributed
    from diffcli.training.run import Run
    from diffcli.training.run_folder import RunFolder
    from diffcli.training.trainer import Trainer


@dataclass(frozen=True)
class Job:
    """A run to carry out.

    Args:
        folder: of the run.
        sources: where each setting comes from, by name.
        limits: those that were given.
        config: of a new run; None if the one in the folder is to be resumed.
        compile: whether to compile a resumed run.
        force: whether a new run may replace an old one.
        source: the model file that a new run starts from.
    """

    folder: "RunFolder"
    sources: dict[str, str]
    limits: Limits
    config: RunConfig | None
    compile: bool = False
    force: bool = False
    source: Path | None = None

    @property
    def resume(self) -> bool:
        """Whether the run exists."""
        return self.config is None

    def configuration(self) -> RunConfig:
        """The configuration of the run, with the limits that were given.

        Raises:
            DiffcliError: if that of the folder cannot be read.
        """
        config = self.config
        if config is None:
            config = self.folder.config()
            config = replace(config, compile=config.compile or self.compile)
            return self.limits.applied(config) if self.limits else config
        return self.limits.or_default().applied(config)


@dataclass(frozen=True)
class Manner:
    """How to carry it out.

    Args:
        device: where to train.
        data_dir: folder for downloads.
        dry_run: whether to stop after the plan.
        quiet: whether to print errors only.
        as_json: whether to print results as JSON.
    """

    device: str
    data_dir: Path | None
    dry_run: bool
    quiet: bool
    as_json: bool


def carry_out(job: Job, manner: Manner) -> None:
    """Show the plan of a run, train, and print the results.

    Raises:
        DiffcliError: if that is not possible.
        typer.Exit: if it was interrupted.
    """
    from diffcli.device import open_device
    from diffcli.training.distributed import join_processes

    where = open_device(manner.device)
    with join_processes() as distributed:
        writes = distributed.is_leader and not manner.dry_run
        # From before the configuration is read to after the model is written.
        with job.folder.locked() if writes else nullcontext():
            _carry_out(job, manner, where, distributed)


def _carry_out(job: Job, manner: Manner, where: "torch.device", distributed: "Distributed") -> None:
    from diffcli.files.checkpoint import read_description
    from diffcli.training.run import Run
    from diffcli.training.setup import resolved

    config, folder = job.configuration(), job.folder
    quiet = manner.quiet or not distributed.is_leader
    before = folder if job.resume else None
    dataset = _dataset(config, before, manner.data_dir, distributed, quiet)
    if job.source:
        config = _for_source(config, dataset.train, read_description(job.source), quiet)
    if not job.resume:
        config = _fitted(config, dataset.train, where, distributed, job.sources)
    config = resolved(config, dataset.train)
    complete = job.resume and _is_complete(job, config, len(dataset.train), quiet)
    if (manner.dry_run and distributed.is_leader) or not (quiet or complete):
        _foresee(job, config, dataset.train, where, distributed.size, manner)
    if manner.dry_run:
        return
    with deferred_interruption() as interruption, ProgressDisplay(quiet) as display:
        if job.resume:
            run = Run.open(folder, config, dataset, where, distributed)
        else:
            run = Run.create(
                folder.path, config, dataset, where, distributed, job.force, job.source
            )
        if not complete:
            _compile(run.trainer, config, quiet=True)
        with _saved_before(folder):
            for status in run.train(interruption):
                display.show(status.progress, status_line(status))
    if interruption() and run.progress < 1:
        _say_how_to_go_on(run, distributed)
        raise typer.Exit(interruption.exit_code)
    if distributed.is_leader:
        result = {"folder": str(folder.path), **run.summary()}
        if not quiet:
            _conclude(run, result["copies"])
        print(json.dumps(result) if manner.as_json else folder.path)


def _say_how_to_go_on(run: "Run", distributed: "Distributed") -> None:
    if distributed.is_leader:
        say(f"stopped after {run.trainer.steps_done} steps, all saved; {_how_to_go_on(run.folder)}")


def _how_to_go_on(folder: "RunFolder") -> str:
    return f"go on with: diffcli train --resume {typed(folder.path)}"


@contextmanager
def _saved_before(folder: "RunFolder") -> Iterator[None]:
    """A block whose errors of the file system say that what was saved before is still there."""
    try:
        yield
    except OSError as error:
        if folder.position() is None:
            raise
        raise DiffcliError(
            f"the run cannot be saved: {reason_of(error)}; when it can, {_how_to_go_on(folder)}"
        ) from error


def _conclude(run: "Run", copies: float | None) -> None:
    """Say what became of a run, and which commands come next."""
    if run.kept_step < run.trainer.steps_done:
        say(
            f"the loss on held-out pictures was lowest after step {run.kept_step:,} of "
            f"{run.trainer.steps_done:,}; the average of then is the model"
        )
    if copies is not None:
        warn_of_copies(copies, run.held_out_compared)
    name = typed(run.folder.path)
    commands = [f"draw with it: diffcli sample --model {name}"]
    # The settings of a distilled one need no search.
    if run.trainer.config.distillation is None:
        commands.append(f"look for better sampling settings: diffcli tune {name}")
    say("; ".join(commands))


def _dataset(
    config: RunConfig,
    before: "RunFolder | None",
    data_dir: Path | None,
    distributed: "Distributed",
    quiet: bool,
) -> "DataSet":
    """Read the data set of a run, whose folder is ``before`` if it exists already.

    Raises:
        UsageError: if it is gone, or another one than before.
    """
    if before is None:
        return _load(config, data_dir, distributed, quiet)
    try:
        dataset = _load(config, data_dir, distributed, quiet)
        _check_resumed(config, before, dataset.train)
    except UsageError as error:
        if error.argument != "data":
            raise
        # Without the advice to choose another data set: a run keeps its own.
        advice = "put it back as it was, or start a new run"
        if before.model.exists() and config.distillation is None:
            advice += f" with --from {typed(before.path)}"
        raise UsageError(f"{error}; {advice}") from error
    return dataset


def _load(
    config: RunConfig, data_dir: Path | None, distributed: "Distributed", quiet: bool
) -> "DataSet":
    """Read the data set; with several processes, the first one downloads it before the others."""
    from diffcli.data.sources import load_data

    with ProgressDisplay(quiet) as display, distributed.leader_first():

        def show(done: int, total: int, size: int) -> None:
            text = f"{done:,} of {total:,} pictures, {size / 1e6:.1f} MB in memory"
            display.show(done / total, text)

        dataset = load_data(config.data, config.image_size, data_dir, show)
    if not quiet:
        list_unreadable(dataset.unreadable)
        if dataset.resized and config.image_size is None:
            height, width = dataset.train.images.shape[2:]
            say(f"pictures of another size, resized to {width}x{height}: {dataset.resized:,}")
    return dataset


def _for_source(
    config: RunConfig, data: "LabelledImages", model: "ModelDescription", quiet: bool
) -> RunConfig:
    """The configuration of a run that starts from a model, for a data set.

    Raises:
        UsageError: if the data set does not suit the model.
    """
    from diffcli.training.origin import adapted

    if config.origin is None:
        model.check_data(data.class_names, data.images.shape[1])
        return config
    with as_usage_error("image_size"):
        architecture = adapted(model.architecture, data)
    if not quiet:
        kept = sum(name in model.class_names for name in data.class_names)
        say(
            f"going on from {config.origin.model}: {kept} labels that it knows, "
            f"{len(data.class_names) - kept} new ones"
        )
    return replace(config, architecture=architecture)


def _check_resumed(config: RunConfig, folder: "RunFolder", data: "LabelledImages") -> None:
    """Check that the data set of a run is still the one that it was trained on.

    Raises:
        UsageError: if it has other classes, pictures of another shape, or more or fewer of them.
    """
    from diffcli.data.images import describe_shape
    from diffcli.files.checkpoint import read_description

    if folder.model.exists():
        read_description(folder.model).check_data(data.class_names, data.images.shape[1])
    network = config.architecture
    shape, classes = tuple(data.images.shape[1:]), len(data.class_names)
    if network and (network.image_shape, network.num_classes) != (shape, classes):
        height, width = network.image_shape[1:]
        raise UsageError(
            f"{config.data} has changed since the run began: it has {classes} classes of "
            f"{describe_shape(data.images)} pictures, and the network is for "
            f"{network.num_classes} classes of {width}x{height}",
            "data",
        )
    position = folder.position()
    before = position.class_counts if position else None
    for name, old, new in zip(data.class_names, before or (), data.class_counts, strict=False):
        if old != new:
            raise UsageError(
                f"{config.data} has changed since the run began: {new:,} training pictures of "
                f"class {name!r}, which had {old:,}",
                "data",
            )


def _fitted(
    config: RunConfig,
    data: "LabelledImages",
    device: "torch.device",
    distributed: "Distributed",
    sources: dict[str, str],
) -> RunConfig:
    """The configuration with a recipe that is fitted to machine and limits."""
    from diffcli.training.fit import fitted

    given = {name for name, source in sources.items() if source == "commandline"}
    choices = fitted(config, data, device, distributed, given)
    sources.update(dict.fromkeys(choices, "fitted"))
    return replace(config, recipe=replace(config.recipe, **choices))


def _foresee(
    job: Job,
    config: RunConfig,
    data: "LabelledImages",
    device: "torch.device",
    processes: int,
    manner: Manner,
) -> None:
    """Measure the speed of a trial and print the plan of the run."""
    from diffcli.training.distributed import Distributed
    from diffcli.training.plan import make_plan
    from diffcli.training.setup import make_trainer

    source = job.source or job.folder.source(config)
    trial = make_trainer(config, data, device, Distributed(), source)
    _compile(trial, config, quiet=False)
    saved = job.folder.position() if job.resume else None
    budget = config.budget(len(data))
    done = budget.progress(saved.steps_done, saved.seconds) if saved else 0.0
    plan = make_plan(trial, processes, min(1.0, done))
    if manner.dry_run and manner.as_json:
        print(json.dumps({"config": config.document(), "plan": asdict(plan)}))
    else:
        show_plan(plan, config, job.sources)


def _compile(trainer: "Trainer", config: RunConfig, quiet: bool) -> None:
    """Compile if requested, or say why it is not possible."""
    if not config.compile:
        return
    if not quiet:
        say("compiling the network, which takes up to a minute the first time")
    # For another number of threads it would be compiled again.
    THREADS.keep()
    # The messages of torch are about the machine, not about this run.
    logging.getLogger("torch").setLevel(logging.ERROR)
    try:
        trainer.compile()
    except RuntimeError as error:
        if not quiet:
            reason = str(error).strip().partition("\n")[0]
            say(f"the network cannot be compiled and runs without it: {reason}")


def _is_complete(job: Job, config: RunConfig, images: int, quiet: bool) -> bool:
    """Whether a run that is to be resumed is complete, and say so.

    Raises:
        UsageError: if limits were given that the run has already reached.
    """
    saved, budget = job.folder.position(), config.budget(images)
    if saved is None:
        return False
    past = budget.progress(saved.steps_done, saved.seconds) > 1
    if not job.folder.is_complete(budget) and not (job.limits and past):
        return False
    had = f"{job.folder.path} has had {saved.steps_done:,} steps in {saved.seconds:.0f} s already"
    if job.limits:
        raise UsageError(f"{had}; to go on, give a later limit")
    if not quiet:
        say(f"{had} and is complete; to go on, give a later limit")
    return True
