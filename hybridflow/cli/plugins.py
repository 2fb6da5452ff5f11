"""``hybridflow plugins``: what is installed, and what one component takes."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, get_args

import typer

from hybridflow.errors import BrokenPluginWarning, ConfigError, closest
from hybridflow.registry import Entry, Kind, Provider, Registry, default_registry
from hybridflow.specs import Spec

app = typer.Typer(no_args_is_help=True, help="List the installed components and describe one.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_OWN_LINES = ("name", "summary", "config", "build")  # the other fields of a spec are claims


@app.command("list")
def list_command(
    load: Annotated[bool, typer.Option("--load", help="Import the plugins.")] = False,
    as_json: AsJson = False,
) -> None:
    """List flows, bases, heads and plugins; plugins from their metadata, unless --load."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrokenPluginWarning)  # the listing says it
        entries = default_registry().entries(load=load)
    if as_json:
        print(json.dumps([dataclasses.asdict(entry) for entry in entries], indent=2))
        return
    print(listing(entries))
    if any(entry.status == "not loaded" for entry in entries):
        typer.echo("Plugins that are not loaded offer more: add --load.", err=True)


@app.command("show")
def show_command(
    component: Annotated[
        str,
        typer.Argument(metavar="[KIND/]NAME", help="For instance spline-coupling or head/poisson."),
    ],
    as_json: AsJson = False,
) -> None:
    """Describe a component: its parameters, their bounds and search ranges, its claims."""
    registry = default_registry()
    kind, name = find(registry, component)
    spec, _ = registry.resolve(kind, name)
    facts = describe(kind, spec, registry.provider(kind, name))
    print(json.dumps(facts, indent=2) if as_json else page(facts))


def listing(entries: Sequence[Entry]) -> str:
    """Return the entries as an aligned table, with the reasons below their lines."""
    header = ("KIND", "NAME", "FROM", "STATUS", "SUMMARY")
    rows = [(e.kind, e.name, f"{e.distribution} {e.version}", e.status, e.summary) for e in entries]
    lines = aligned([header, *rows])
    for position in range(len(entries), 0, -1):
        if reason := entries[position - 1].reason:
            lines.insert(position + 1, f"  {reason}")
    return "\n".join(lines)


def find(registry: Registry, component: str) -> tuple[Kind, str]:
    """Return the kind and name that ``[KIND/]NAME`` stands for.

    Raises
    ------
    ConfigError
        If no kind or several kinds have the name.
    """
    prefix, slash, name = component.partition("/")
    for kind in get_args(Kind):
        if slash and kind == prefix:
            return kind, name
    if slash:
        raise ConfigError(f"{component!r}: the kind is one of {', '.join(get_args(Kind))}")
    bare = component.rpartition(":")[2]
    entries = registry.entries()
    if not any(entry.name == bare and entry.status == "built-in" for entry in entries):
        entries = registry.entries(load=True)
    kinds = sorted({e.kind for e in entries if e.name == bare and e.kind != "plugin"})
    if len(kinds) == 1:
        return kinds[0], component
    if kinds:
        choices = " or ".join(f"{kind}/{component}" for kind in kinds)
        raise ConfigError(f"{component!r} names a {' and a '.join(kinds)}: write {choices}")
    names = sorted({entry.name for entry in entries if entry.kind != "plugin"})
    unusable = any(entry.status in ("failed", "incompatible", "blocked") for entry in entries)
    raise ConfigError(
        f"unknown component {component!r}; installed are {', '.join(names)}"
        f"{closest(bare, names)}"
        + ("; some plugins cannot be used: hybridflow plugins list --load" if unusable else "")
    )


def describe(kind: Kind, spec: Spec, provider: Provider) -> dict[str, Any]:
    """Return all that is known of a component, as plain JSON."""
    claims = {
        field.name: getattr(spec, field.name)
        for field in dataclasses.fields(spec)
        if field.name not in _OWN_LINES
    }
    return {
        "kind": kind,
        "name": spec.name,
        "summary": spec.summary,
        "provider": dataclasses.asdict(provider),
        "claims": claims,
        "schema": spec.config.model_json_schema(),
        "space": {
            name: {"type": type(search).__name__.lower(), **dataclasses.asdict(search)}
            for name, search in spec.config.space().items()
        },
    }


def page(facts: dict[str, Any]) -> str:
    """Return what `describe` found as text."""
    provider = facts["provider"]
    fields = [
        (
            name,
            json.dumps(field.get("default")),
            allowed(field),
            ranged(facts["space"].get(name)),
        )
        for name, field in facts["schema"].get("properties", {}).items()
    ]
    claims = [
        (name, ", ".join(value) if isinstance(value, tuple) else str(value))
        for name, value in facts["claims"].items()
        if value not in (None, "")
    ]
    return "\n".join(
        [
            f"{facts['name']} ({facts['kind']}, {provider['distribution']} {provider['version']})",
            facts["summary"],
            "",
            *aligned([("FIELD", "DEFAULT", "ALLOWED", "SEARCH"), *fields]),
            "",
            *aligned(claims),
        ]
    )


def allowed(schema: dict[str, Any]) -> str:
    """Return the type and bounds of a field from its JSON schema, as text."""
    if "anyOf" in schema:
        return " or ".join(allowed(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if schema.get("type") == "array":
        return f"list of {allowed(schema.get('items', {}))}"
    limits = [f"{sign} {schema[key]:g}" for key, sign in _BOUNDS.items() if key in schema]
    return " ".join([schema.get("type", "any"), ", ".join(limits)]).strip()


def ranged(search: dict[str, Any] | None) -> str:
    """Return the search range of a field as text."""
    if search is None:
        return "-"
    if "options" in search:
        return ", ".join(json.dumps(option) for option in search["options"])
    return f"{search['low']:g} to {search['high']:g}" + (", log" if search["log"] else "")


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return rows as lines with their columns aligned."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
