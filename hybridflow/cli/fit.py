"""``hybridflow fit``: from a table to a model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hybridflow.cli.failures import INTERRUPTED, talk
from hybridflow.cli.options import ChosenTask, Data

if TYPE_CHECKING:
    from hybridflow.estimators.base import FlowEstimator

NAME = "fit"
EPILOG = """Examples:

hybridflow fit houses.csv --target price -o houses.hflow

hybridflow fit houses.csv --target price --flow maf --set flow.layers=6 -o houses.hflow

hybridflow fit sensors.parquet --task outliers --drop id,time -o sensors.hflow

hybridflow fit trips.csv --column hour=circle:24 --column line=categorical -o trips.hflow

hybridflow plugins list shows the flows, bases and heads; hybridflow plugins show NAME what --set \
takes. A config file has the same settings under the same names, and a table for each component \
and for the training."""


def command(
    context: typer.Context,
    data: Data,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where to save the model.", show_default=False
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column to predict; rows where it is empty train the density alone. Without it "
            "only the density is fitted.",
        ),
    ] = None,
    task: Annotated[
        ChosenTask | None,
        typer.Option(
            help="What to fit; auto looks at the target: text, true/false and few distinct whole "
            "numbers are classes. (default: auto)"
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="Features to use; by default all other columns."),
    ] = None,
    drop: Annotated[str | None, typer.Option(metavar="A,B", help="Columns to leave out.")] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="NAME=KIND",
            help="What a column holds: positive, interval:LOW:HIGH, circle:PERIOD (hour=circle:24) "
            "or real numbers, which samples never leave; or categorical levels, as text does. May "
            "be repeated.",
        ),
    ] = None,
    missing: Annotated[
        Literal["auto", "error"] | None,
        typer.Option(
            help="What empty cells are: auto averages over them and tells the head; error refuses "
            "them, now and later. (default: auto)"
        ),
    ] = None,
    unknown: Annotated[
        Literal["other", "error"] | None,
        typer.Option(
            help="What a level is that the training rows did not have: other counts it as one "
            "unseen level; error refuses the rows. (default: other)"
        ),
    ] = None,
    weight: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column with the weight of each row.")
    ] = None,
    flow: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Flow: the invertible network.", rich_help_panel="Model"),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Base: the distribution of the latent.", rich_help_panel="Model"
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Head: the law of the target.", rich_help_panel="Model"),
    ] = None,
    likelihood_weight: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="Weight of the density in the loss, per column: 0 only predicts. (default: 0.3)",
            rich_help_panel="Model",
        ),
    ] = None,
    members: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Models to fit and average. (default: 1)", rich_help_panel="Model"
        ),
    ] = None,
    n_jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            metavar="N",
            help="Models to fit at a time, each in a process of its own; -1 for as many as there "
            "are cores. (default: 1)",
            rich_help_panel="Training",
        ),
    ] = None,
    buffer: Annotated[
        int | None,
        typer.Option(
            metavar="ROWS",
            help="A Parquet file of more rows is read in parts, so that it need not fit in "
            "memory. (default: as many as make 16 million cells)",
            rich_help_panel="Training",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep the training here while it runs: the same command, after it was killed, "
            "goes on from there.",
            rich_help_panel="Training",
        ),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the rows held out to stop early. (default: 0.15)",
            rich_help_panel="Training",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The same seed and data give the same model. (default: 0)",
            rich_help_panel="Training",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="cpu, cuda, cuda:N or auto. (default: cpu)",
            rich_help_panel="Training",
        ),
    ] = None,
    dtype: Annotated[
        Literal["auto", "float32", "float64"] | None,
        typer.Option(
            help="Type of the networks in training. (default: auto)", rich_help_panel="Training"
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set one parameter: flow.layers=6, head.basis=identity, training.steps=500. "
            "May be repeated.",
            rich_help_panel="Settings",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TOML or JSON file with settings; flags win over it.",
            rich_help_panel="Settings",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the model file if it exists.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")
    ] = False,
) -> None:
    """Fit a model to a table and save it to one file.

    Ctrl-C stops the training; the best weights so far are saved and the exit code is 130.
    Under torchrun all processes train one model, and the first of them talks and saves.
    """
    from hybridflow.cli.building import build
    from hybridflow.cli.columns import declarations, guess_task, names_in, take_apart
    from hybridflow.cli.inspect import page
    from hybridflow.cli.settings import Source, merge, read_file
    from hybridflow.cli.tables import (
        column,
        in_file,
        is_parquet,
        read_table,
        refuse_existing,
        shown,
    )
    from hybridflow.distributed import joined
    from hybridflow.errors import ConfigError
    from hybridflow.parquet import ParquetTable

    group = context.with_resource(joined())
    if not force:
        refuse_existing(output)
    given = {
        "target": target,
        "task": task,
        "columns": None if columns is None else names_in(columns),
        "drop": None if drop is None else names_in(drop),
        "column": declarations(kinds) if kinds else None,
        "missing": missing,
        "unknown": unknown,
        "weight": weight,
        "flow": flow,
        "base": base,
        "head": head,
        "likelihood_weight": likelihood_weight,
        "members": members,
        "n_jobs": n_jobs,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "buffer": buffer,
        "validation": validation,
        "seed": seed,
        "device": device,
        "dtype": dtype,
    }
    flags = {name: value for name, value in given.items() if value is not None}
    document, source = ({}, Source()) if config is None else read_file(config)
    settings, notes = merge(document, source, assignments or [], flags)
    say = talk if group.first and not quiet else (lambda text: None)
    for note in notes:
        say(f"note: {note}")

    file = ParquetTable(data, buffer=settings.buffer) if is_parquet(data) else None
    larger = None if file is None or file.fits else file
    frame = read_table(data) if larger is None else larger.glance()
    with in_file(data):
        series = (
            None if settings.target is None else column(frame, settings.target, option="target")
        )
        chosen, reason = (
            guess_task(series) if settings.task == "auto" else (settings.task, "as asked for")
        )
        if chosen in ("classification", "regression") and series is None:
            raise ConfigError(f"task {chosen} needs a target column: --target NAME")
        if chosen in ("density", "outliers") and series is not None:
            raise ConfigError(
                f"task {chosen} takes no target; to leave the column out: --drop {settings.target}"
            )
        parts = take_apart(
            frame,
            target=settings.target,
            weight=settings.weight,
            columns=settings.columns,
            drop=settings.drop,
            categorical=[name for name, kind in settings.column.items() if kind == "categorical"],
        )
    rows = len(parts.X) if larger is None else len(larger)
    say(f"data: {shown(data)}, {rows:,} rows, {parts.X.width} features")
    if larger is not None:
        say(f"the table is read in parts, {larger.buffer:,} rows at a time; --buffer changes it")
    say(f"task: {chosen} ({reason}" + ("; --task changes it)" if settings.task == "auto" else ")"))
    estimator = build(settings, chosen, source, progress=not quiet)
    say("training; Ctrl-C stops it and keeps the best weights so far")
    with in_file(data):
        if larger is not None:
            file = larger.select(parts.X.columns)
            if settings.target is None:
                estimator.fit(file, sample_weight=settings.weight)
            else:
                estimator.fit(file, settings.target, sample_weight=settings.weight)
        elif parts.y is None:
            estimator.fit(parts.X, sample_weight=parts.weight)
        else:
            estimator.fit(parts.X, parts.y, sample_weight=parts.weight)
    for line in trained(estimator):
        say(line)
    if not group.first:
        return
    estimator.save(output, overwrite=force)
    say(f"saved: {output} ({output.stat().st_size:,} bytes)")
    if not quiet:
        from hybridflow.bundle import inspect

        say(page(inspect(output)))
    if estimator.interrupted_:
        talk(f"interrupted: the best weights so far are saved in {output}")
        raise typer.Exit(INTERRUPTED)


def trained(estimator: FlowEstimator) -> list[str]:
    """Return how far the training of each member got."""
    lines = []
    for i, history in enumerate(estimator.histories_):
        if not history:
            continue
        best = min(history, key=lambda record: record.value)
        task = "" if best.task is None else f"-log p(y|x) {best.task:.4g}, "
        member = f"member {i + 1}: " if len(estimator.histories_) > 1 else ""
        lines.append(
            f"{member}loss {best.value:.4g} ({task}-log p(x) {best.density:.4g} nats a row), best "
            f"at step {best.step} of {history[-1].step}"
        )
    return lines
