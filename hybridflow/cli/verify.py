"""``hybridflow verify``: whether a model file may be trusted to be what was saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hybridflow.cli.failures import VERIFICATION_FAILED, talk
from hybridflow.cli.options import Model

if TYPE_CHECKING:
    from hybridflow.verdict import Audit

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
    """Check a model file's digest, build the model, ask its probe rows again; show its audit."""
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
    for line in table(result.audit):
        print(f"  {line}")


def table(audit: Audit | None) -> list[str]:
    """Return what the audit of a model found, as lines.

    Parameters
    ----------
    audit : Audit or None
        None for a file that has none.
    """
    from hybridflow.cli.plugins import aligned

    if audit is None:
        return ["not audited: saved by a version that did not"]
    if not audit.findings:
        return ["nothing to audit: no column carries a density"]
    rows = [("AUDIT", "FOUND", "", "GOOD UP TO", "")]
    rows += [
        (
            finding.name,
            finding.shown,
            finding.unit,
            "" if finding.limit is None else f"{finding.limit:.2g}",
            " ".join(part for part in ("" if finding.ok else "BAD", finding.note) if part),
        )
        for finding in audit.findings
    ]
    verdict = "the model is what it claims to be" if audit.ok else "THE MODEL IS INEXACT"
    return [f"audited on {audit.rows:,} training rows: {verdict}", "", *aligned(rows)]
