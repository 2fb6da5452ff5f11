"""What belongs to the caller's process is left as it was."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hybridflow.testing.case import AnyCase, weighted_sum
from hybridflow.testing.check import expect


@dataclass(frozen=True)
class Global:
    """A piece of global state: how it is read, and how it is put back."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def _read_numpy() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  # the state that is watched
    return name, tuple(np.asarray(keys).tolist()), *rest


def _write_numpy(value: tuple[Any, ...]) -> None:
    state = (value[0], np.array(value[1], dtype=np.uint32), *value[2:])
    np.random.set_state(state)  # noqa: NPY002


def _write_deterministic(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


def _write_filters(value: list[Any]) -> None:
    warnings.filters[:] = value  # type: ignore[index]  # a list, whatever the stubs say


def _write_environment(value: dict[str, str]) -> None:
    for name in set(os.environ) - set(value):
        del os.environ[name]
    os.environ.update(value)


GLOBALS = (
    Global(
        "torch's random state",
        lambda: tuple(torch.get_rng_state().tolist()),
        lambda value: torch.set_rng_state(torch.tensor(value, dtype=torch.uint8)),
    ),
    Global("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Global("torch's grad mode", torch.is_grad_enabled, torch.set_grad_enabled),
    Global("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
    Global(
        "torch's deterministic flags",
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        _write_deterministic,
    ),
    Global(
        "torch's anomaly detection",
        torch.is_anomaly_enabled,
        torch.autograd.set_detect_anomaly,
    ),
    Global("numpy's random state", _read_numpy, _write_numpy),
    Global("numpy's floating-point errors", np.geterr, lambda value: np.seterr(**value)),
    Global("Python's random state", random.getstate, random.setstate),
    Global("the warning filters", lambda: list(warnings.filters), _write_filters),
    Global("the environment variables", lambda: dict(os.environ), _write_environment),
)


def global_state_is_left_alone(case: AnyCase) -> None:
    """Building, starting, evaluating and training touch nothing outside the component."""
    before = {each.name: each.read() for each in GLOBALS}
    seed = torch.initial_seed()
    try:
        with torch.random.fork_rng(devices=[]):  # a build may draw from it, and no more
            module = case.make(case.spec.config())
            expect(torch.initial_seed() == seed, "building seeds torch")
        _expect_unchanged(before, "building")
        module = module.double()
        case.initialize(module, case.inputs(20), None)
        _expect_unchanged(before, "initialize")
        total = weighted_sum(case.smooth(module.train(), case.inputs(5)))
        if total.requires_grad:
            torch.autograd.backward(total)
        _expect_unchanged(before, "a step of training")
        case.evaluate(module.eval(), case.inputs(5))
        _expect_unchanged(before, "evaluating")
    finally:
        for each in GLOBALS:
            if each.read() != before[each.name]:
                each.write(before[each.name])


def _expect_unchanged(before: dict[str, Any], what: str) -> None:
    changed = [each.name for each in GLOBALS if each.read() != before[each.name]]
    expect(not changed, f"{what} changed {', '.join(changed)}")


CHECKS = (global_state_is_left_alone,)
