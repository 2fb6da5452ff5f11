"""``hybridflow inspect``: what is in a model file."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any

import typer

from hybridflow.cli.options import Model

NAME = "inspect"
EPILOG = """Examples:

hybridflow inspect houses.hflow

hybridflow inspect houses.hflow --json | jq .components"""


def command(
    model: Model,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole description.")] = False,
) -> None:
    """Describe a model file without building the model; its digest is compared."""
    from hybridflow.bundle import inspect

    document = inspect(model)
    print(json.dumps(document, indent=2) if as_json else page(document))


def page(document: dict[str, Any]) -> str:
    """Return the description of a bundle as text.

    Parameters
    ----------
    document : dict
        From `hybridflow.bundle.inspect`.
    """
    from hybridflow.cli.plugins import aligned
    from hybridflow.column import Column

    columns = [Column.from_json(column) for column in document["schema"]["columns"]]
    kinds = Counter(column.kind for column in columns)
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    lines = [("model", f"{document['estimator']}, {document['members']} member(s)")]
    lines += [
        (kind, f"{part['name']} ({part['distribution']} {part['version']}){_parameters(part)}")
        for kind, part in document["components"].items()
    ]
    if document["target"] is not None:
        lines.append(("target", _target(document["target"])))
    lines.append(("columns", f"{len(columns)}: {counted}"))
    for history in document["histories"]:
        if history:
            best = min(history, key=lambda record: record["value"])
            lines.append(("trained", f"loss {best['value']:.4g} at step {best['step']}"))
    if document["interrupted"]:
        lines.append(("", "training was interrupted"))
    lines.append(("written by", f"hybridflow {document['hybridflow_version']}"))
    lines.append(("sha256", document["sha256"]))
    table = [("COLUMN", "TYPE", "IN THE MODEL")]
    table += [(column.name, column.type, column.described()) for column in columns]
    return "\n".join([*aligned(lines), "", *aligned(table)])


def _parameters(component: dict[str, Any]) -> str:
    return "".join(f" {key}={json.dumps(value)}" for key, value in component["config"].items())


def _target(target: dict[str, Any]) -> str:
    name = ", ".join(target["names"])
    if target["kind"] == "classification":
        classes = target["classes"]
        shown = ", ".join([*map(str, classes[:10]), *(["..."] if len(classes) > 10 else [])])
        return f"{name}, {len(classes)} classes: {shown}"
    mean, deviation = target["location"][0], target["scale"][0]
    text = f"{name}, numbers, mean {mean:.4g}, standard deviation {deviation:.4g}"
    return text + (f", on a lattice of step {target['step']:g}" if target["step"] else "")
