"""``hybridflow tune``: the best settings for a table, and a model fitted with them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hybridflow.cli.failures import INTERRUPTED, talk
from hybridflow.cli.options import ChosenTask, Data

if TYPE_CHECKING:
    from hybridflow.tuning import TuningResult

NAME = "tune"
EPILOG = """Examples:

hybridflow tune houses.csv --target price --trials 50 -o houses.hflow

hybridflow tune houses.csv --target price --search flow=maf,realnvp --search flow.layers=2:6 \
--set training.steps=1000 > best.toml

hybridflow tune houses.csv --target price --score task,likelihood --plots pictures

hybridflow tune houses.csv --target price --storage postgresql://me@host/studies --workers 4

The settings that were found go to the standard output, as a file for hybridflow fit --config. \
What is set with --set, a flag or a config file is not searched. The same command goes on with a \
search that was stopped, and joins one that runs on another machine with the same storage."""


def command(
    data: Data,
    target: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column to predict. Without it a density is tuned."),
    ] = None,
    task: Annotated[
        ChosenTask | None, typer.Option(help="What to fit, as in fit. (default: auto)")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="Features to use; by default all other columns."),
    ] = None,
    drop: Annotated[str | None, typer.Option(metavar="A,B", help="Columns to leave out.")] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="NAME=KIND", help="What a column holds, as in fit."),
    ] = None,
    weight: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column with the weight of each row.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to save a model with the best settings, fitted to all rows.",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Trials in all, earlier ones included. (default: 50, or as many as --time-limit "
            "allows)",
            rich_help_panel="Search",
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Time for the search.", rich_help_panel="Search"),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(
            metavar="SCORE",
            help="What is minimised: task, likelihood, a sum such as 'task + 0.3 likelihood', or "
            "several with commas between. (default: task, or likelihood without a target)",
            rich_help_panel="Search",
        ),
    ] = None,
    searches: Annotated[
        list[str] | None,
        typer.Option(
            "--search",
            metavar="KEY=RANGE",
            help="Search a parameter elsewhere: flow.layers=2:8, training.learning_rate="
            "1e-4:1e-2:log, flow=maf,realnvp. May be repeated.",
            rich_help_panel="Search",
        ),
    ] = None,
    holdout: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Share of the rows to score on.", rich_help_panel="Search"
        ),
    ] = 0.2,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|URL",
            help="Where the trials are kept: a journal file, sqlite:///study.db, "
            "postgresql://... or mysql+pymysql://... (default: hybridflow-tuning.journal)",
            rich_help_panel="Search",
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the study; by default each table, space and score has its own.",
            rich_help_panel="Search",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(metavar="N", help="Processes.", rich_help_panel="Search")
    ] = 1,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set one parameter, which is then not searched. May be repeated.",
            rich_help_panel="Settings",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TOML or JSON file with settings, as for fit.",
            rich_help_panel="Settings",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Of rows, search and fits. (default: 0)"),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Where to write a table of the trials."),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to draw the search."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")
    ] = False,
) -> None:
    """Search for the best settings for a table with Optuna.

    Every trial fits a model to the same part of the rows and is scored on the others. Ctrl-C
    stops the search; the same command goes on with it.
    """
    from hybridflow.cli.building import build
    from hybridflow.cli.columns import declarations, guess_task, names_in, take_apart
    from hybridflow.cli.loading import check_output
    from hybridflow.cli.searching import found_settings, space_from, toml
    from hybridflow.cli.settings import Source, merge, read_file
    from hybridflow.cli.tables import column, in_file, read_table, refuse_existing, shown
    from hybridflow.errors import ConfigError
    from hybridflow.tuning import Progress, tune
    from hybridflow.tuning.storage import JOURNAL
    from hybridflow.tuning.storage import shown as shown_storage

    if output is not None and not force:
        refuse_existing(output)
    if table is not None:
        check_output(table, None, force)
    given = {
        "target": target,
        "task": task,
        "columns": None if columns is None else names_in(columns),
        "drop": None if drop is None else names_in(drop),
        "column": declarations(kinds) if kinds else None,
        "weight": weight,
        "seed": seed,
    }
    flags = {name: value for name, value in given.items() if value is not None}
    document, source = ({}, Source()) if config is None else read_file(config)
    settings, notes = merge(document, source, assignments or [], flags)
    say = (lambda text: None) if quiet else talk
    for note in notes:
        say(f"note: {note}")

    frame = read_table(data)
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
    say(f"data: {shown(data)}, {len(parts.X):,} rows, {parts.X.width} features")
    say(f"task: {chosen} ({reason}" + ("; --task changes it)" if settings.task == "auto" else ")"))
    estimator = build(settings, chosen, source, progress=False)
    space = space_from(settings, estimator, searches or [])
    where = storage or JOURNAL
    say(f"searching; trials are kept in {shown_storage(where)}, where the same command goes on")
    try:
        with in_file(data):
            result = tune(
                estimator.set_params(training__on_interrupt="raise"),
                parts.X,
                parts.y,
                parts.weight,
                trials=50 if trials is None and time_limit is None else trials,
                time_limit=time_limit,
                space=space,
                score=None
                if score is None
                else [part for part in score.split(",") if part.strip()],
                holdout=holdout,
                storage=where,
                study=study,
                workers=workers,
                seed=settings.seed,
                refit=False,
                callbacks=() if quiet else (Progress(talk),),
            )
    except KeyboardInterrupt:
        talk("interrupted: the trials so far are kept; the same command goes on with them")
        raise typer.Exit(INTERRUPTED) from None
    best = result.best_trial
    scores = ", ".join(f"{n} {v:.5g}" for n, v in zip(result.scores, best.values, strict=True))
    say(f"best: trial {best.number} of study {result.study.study_name}: {scores}")
    settings_found = found_settings(settings, result.settings())
    sys.stdout.write(toml({"task": chosen, **settings_found}))
    if table is not None:
        _write_table(result, table, force=force)
        say(f"saved: {table}")
    if plots is not None:
        for path in _draw(result, plots):
            say(f"saved: {path}")
    if output is not None:
        say("fitting a model with these settings to all rows")
        with in_file(data):
            result.fit().save(output, overwrite=force)
        say(f"saved: {output} ({output.stat().st_size:,} bytes)")


def _write_table(result: TuningResult, path: str, *, force: bool) -> None:
    import polars as pl

    from hybridflow.cli.tables import write_table

    write_table(pl.DataFrame(result.table(), strict=False), path, force=force)


def _draw(result: TuningResult, folder: Path) -> list[Path]:
    """Draw what there is to see of a study, and return the files."""
    from hybridflow.errors import InputError, require
    from hybridflow.plots.canvas import figure_of

    require("matplotlib", "plots").use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "history": result.plot_history,
        "importances": result.plot_importances,
        "curves": result.plot_curves,
        "front": result.plot_front,
    }
    saved = []
    for name, draw in pictures.items():
        try:
            axes = draw()
        except InputError:
            continue  # that one is for other numbers of scores or trials
        path = folder / f"{name}.png"
        figure_of(axes).savefig(path, bbox_inches="tight", dpi=120)
        saved.append(path)
    return saved
