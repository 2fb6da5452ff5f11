"""``hybridflow export``: a model as files that other programs run, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hybridflow.cli.failures import talk
from hybridflow.cli.options import Model

NAME = "export"

app = typer.Typer(no_args_is_help=True, help="Write a model for other programs: ONNX.")

EPILOG = """Examples:

hybridflow export onnx houses.hflow -o houses

hybridflow export onnx houses.hflow -o houses --rows houses.csv --outputs mean,interval"""


@app.command("onnx", epilog=EPILOG)
def onnx(
    model: Model,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Where predict.onnx and sample.onnx shall be."
        ),
    ],
    rows: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="A CSV or Parquet file of real rows to compare the files with the model on; rows "
            "drawn from the model if not given.",
        ),
    ] = None,
    outputs: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Outputs of predict.onnx, separated by commas; all if not given."
        ),
    ] = None,
    quantiles: Annotated[
        str, typer.Option(metavar="LEVELS", help="Levels of the output quantiles.")
    ] = "0.05,0.25,0.5,0.75,0.95",
    coverage: Annotated[
        float, typer.Option(metavar="SHARE", help="Coverage of the outputs interval and set.")
    ] = 0.9,
    float32: Annotated[
        bool,
        typer.Option(
            "--float32", help="Networks compute in float32; the preprocessing never does."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that exist.", show_default=False)
    ] = False,
) -> None:
    """Write predict.onnx and sample.onnx, compared with the model row by row."""
    from hybridflow.cli.loading import load_model, load_rows, target_name
    from hybridflow.export import to_onnx

    estimator = load_model(model)
    table = None
    if rows is not None:  # of a large file, the first part is enough to compare on
        table = next(load_rows(estimator, rows, apart=target_name(estimator))).X
    found = to_onnx(
        estimator,
        output,
        rows=table,
        outputs=None if outputs is None else [name.strip() for name in outputs.split(",")],
        quantiles=_numbers(quantiles),
        coverage=coverage,
        float32=float32,
        overwrite=force,
    )
    print(found)
    for file in found.files:
        talk(f"wrote {file} ({file.stat().st_size / 1000:,.0f} kB)")


def _numbers(text: str) -> list[float]:
    from hybridflow.errors import ConfigError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--quantiles: expected numbers separated by commas, got {text!r}"
        ) from None
