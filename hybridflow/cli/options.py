"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Task = Literal["classification", "regression", "density", "outliers"]
ChosenTask = Literal["auto", "classification", "regression", "density", "outliers"]
Format = Literal["csv", "parquet", "json", "ndjson"]

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A CSV or Parquet file with a header of column names; - reads the standard input.",
        show_default=False,
    ),
]
Model = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="A file written by hybridflow fit.", show_default=False),
]
Output = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where to write: .csv, .parquet, .json (a list of records) or .jsonl (one record a "
        "line); - is the standard output.",
    ),
]
OutputFormat = Annotated[
    Format | None,
    typer.Option("--format", help="Format of the output, where its suffix does not say it."),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace the output file if it exists.", show_default=False)
]
