"""``hybridflow verify``: whether a model file may be trusted to be what was saved."""

from __future__ import annotations

from typing import Annotated

import typer

from hybridflow.cli.failures import VERIFICATION_FAILED, talk
from hybridflow.cli.options import Model

NAME = "verify"
EPILOG = """Example:

hybridflow verify houses.hflow && hybridflow predict houses.hflow new.csv

Exit code 3: the file is damaged, no model, needs a plugin or version that is not here, or \
answers its probe rows otherwise than when it was saved."""


def command(
    model: Model,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing; the exit code says it.")
    ] = False,
) -> None:
    """Check the digest of a model file, build the model, and ask it its probe rows again."""
    from hybridflow.bundle import verify
    from hybridflow.errors import ModelFileError, PluginError

    try:
        result = verify(model)
    except (ModelFileError, PluginError) as error:
        talk(f"error: {error}")
        raise typer.Exit(VERIFICATION_FAILED) from None
    if quiet:
        return
    largest = max(result.differences.values(), default=0.0)
    print(f"{model}: intact")
    print(f"  {result.estimator}, {result.parameters:,} parameters, sha256 {result.sha256}")
    print(f"  components: {'; '.join(str(component) for component in result.components)}")
    print(f"  {result.probe_rows} probe rows answered as when it was saved, to {largest:.1g}")
    for other in result.other_versions:
        print(f"  another version than it was written with: {other}")
