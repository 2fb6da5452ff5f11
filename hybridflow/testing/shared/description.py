"""What a spec and its config say of a component."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import torch

from hybridflow.config import Choice, Int
from hybridflow.guards import building
from hybridflow.specs import Spec
from hybridflow.testing.case import AnyCase
from hybridflow.testing.check import expect, expect_finite


def spec_has_a_summary_and_a_reference(case: AnyCase) -> None:
    """The spec has a summary of one line, and a reference with a year."""
    spec = case.spec
    expect(bool(spec.summary.strip()), "summary is empty")
    expect(spec.summary == spec.summary.strip(), f"summary has spaces around it: {spec.summary!r}")
    expect(
        re.search(r"\b(1[6-9]|20)\d\d\b", spec.reference) is not None,
        f"reference must name title, authors and year, got {spec.reference!r}",
    )


def config_survives_json(case: AnyCase) -> None:
    """The default config, written as JSON and read again, is the same config."""
    config = case.spec.config()
    document = json.loads(json.dumps(config.model_dump(mode="json")))
    again = case.spec.config.from_json(document)
    expect(again == config, f"{config!r} came back as {again!r}")


def search_space_builds(case: AnyCase) -> None:
    """Both ends of every search range, and every choice, build and evaluate."""
    for name, value in search_values(case.spec):
        module = case.build(case.spec.config(**{name: value}))
        with torch.no_grad():
            outputs = case.evaluate(module, case.inputs(3))
        for what, tensor in outputs.items():
            expect_finite(tensor, f"{what} with {name}={value!r}")


def every_setting_is_read(case: AnyCase) -> None:
    """No field of the config is without effect on what is built."""
    inputs = case.inputs(40)
    plain = _fingerprint(case, {}, inputs)
    silent = []
    for name in case.spec.config.model_fields:
        others = [value for other, value in search_values(case.spec) if other == name]
        seen = [_fingerprint(case, {name: value}, inputs) for value in others]
        if seen and all(_same(plain, print_) for print_ in seen):
            silent.append(name)
    expect(not silent, f"no value of {', '.join(silent)} changes what is built")


def search_values(spec: Spec) -> Iterator[tuple[str, Any]]:
    """Yield the name of each field worth tuning with the values at the ends of its range."""
    for name, search in spec.config.space().items():
        if isinstance(search, Choice):
            yield from ((name, value) for value in search.options)
        elif isinstance(search, Int):
            yield from ((name, value) for value in (search.low, search.high))
        else:
            yield from ((name, float(value)) for value in (search.low, search.high))


def _fingerprint(case: AnyCase, changes: dict[str, Any], inputs: Any) -> list[torch.Tensor]:
    """Return the state as built, and what parameters of fixed values give, in training too."""
    module = case.build(case.spec.config(**changes))
    state = [tensor.clone() for tensor in module.state_dict().values()]
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            steps = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.copy_(0.1 * torch.sin(1.7 * steps + index).view_as(parameter))
        case.initialize(module, case.inputs(40, seed=5), None)
        outputs = [*case.evaluate(module, inputs).values()]
        with building(0):
            outputs += case.smooth(module.train(), inputs).values()
    return [*state, *outputs]


def _same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


CHECKS = (
    spec_has_a_summary_and_a_reference,
    config_survives_json,
    search_space_builds,
    every_setting_is_read,
)
