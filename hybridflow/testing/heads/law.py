"""What a head implies for y, and its place in an estimator."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import hybridflow
from hybridflow.errors import ConfigError, HybridFlowError, HybridFlowWarning
from hybridflow.estimators import HybridClassifier, HybridRegressor
from hybridflow.flows import RealNVP
from hybridflow.history import TrainingConfig
from hybridflow.laws import CategoricalLaw, JointLaw, Law
from hybridflow.likelihoods.base import TargetBatch
from hybridflow.specs import Target
from hybridflow.testing.case import TRAINING_ROWS, normal
from hybridflow.testing.check import expect, expect_below
from hybridflow.testing.heads.case import HeadCase, target_of

_MASS = 1e-3
_ROWS = 6
_DRAWS = 4000


def every_task_of_the_spec_builds(case: HeadCase) -> None:
    """For each task that the spec names, and two classes, the head builds and scores."""
    for each in _cases(case):
        inputs = each.inputs(20)
        with torch.no_grad():
            nll = each.evaluate(each.ready(), inputs)["nll"]
        expect(bool(torch.isfinite(nll).all()), f"nll of {each.target.kind} is not finite")


def loss_is_minus_the_log_probability_of_the_law(case: HeadCase) -> None:
    """`nll` is -log_prob of `law`, in the units of y."""
    for each in _cases(case):
        *_, values, observed = each.inputs(_ROWS)
        law, eta = _law(each)
        nll = each.ready().head.nll(eta, TargetBatch(values, observed)).detach().numpy()
        y = values.numpy()
        found = -law.log_prob(y if isinstance(law, JointLaw) else y[:, 0])
        gap = float(np.abs(nll - found).max() / max(1.0, np.abs(nll).max()))
        expect_below(gap, 1e-7, f"the difference of nll from -law.log_prob for {_named(each)}")


def law_has_mass_one(case: HeadCase) -> None:
    """Probabilities sum to 1, densities integrate to 1, in every row."""
    for each in _cases(case):
        law, _ = _law(each)
        gap = float(np.abs(_mass(law) - 1).max())
        expect_below(gap, _MASS, f"the distance of the law's mass from 1 for {_named(each)}")


def law_agrees_with_itself(case: HeadCase) -> None:
    """cdf and sf add up to 1, quantile undoes cdf, and samples have its mean."""
    for each in _cases(case):
        law, _ = _law(each)
        expect(len(law) == _ROWS, f"the law of {_ROWS} rows has length {len(law)}")
        for one in law.marginals if isinstance(law, JointLaw) else (law,):
            _agrees_with_itself(one)


def law_of_some_rows_is_the_law_of_those_rows(case: HeadCase) -> None:
    """Indexing a law picks its rows."""
    law, _ = _law(case)
    chosen = law[np.array([4, 1])]
    expect(len(chosen) == 2, f"the law of two rows has length {len(chosen)}")
    gap = float(np.abs(chosen.mean() - law.mean()[[4, 1]]).max())
    expect_below(gap, 1e-12, "the difference of the means of chosen rows")


def works_in_estimators(case: HeadCase) -> None:
    """The estimator of each task fits, predicts, saves and loads with it."""
    table = normal(TRAINING_ROWS, 2, 51).numpy()
    for task in case.spec.tasks:
        each = HeadCase(case.spec, case.registry, target_of(task, case.spec.max_classes))
        y = each.values[:TRAINING_ROWS].numpy()
        if not each.has_several:
            y = y[:, 0]
        if task == "classification":
            y = np.array(each.target.classes)[y.astype(int)]
        kind = HybridRegressor if task == "regression" else HybridClassifier
        model = kind(
            RealNVP(layers=2, hidden_units=8),
            base=case.spec.requires_base or "normal",
            head=case.spec.config(),
            training=TrainingConfig(steps=4),
            random_state=0,
            registry=case.registry,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HybridFlowWarning)
            model.fit(table, y)
        predicted = model.predict(table)
        expect(predicted.shape == y.shape, f"predict has shape {predicted.shape}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.hflow"
            model.save(path)
            loaded = hybridflow.load(path, registry=case.registry)
        same = bool(np.array_equal(loaded.predict(table), predicted))
        expect(same, "predictions of the saved and loaded model differ")


def required_base_is_there(case: HeadCase) -> None:
    """The base that the spec requires exists, and another one is refused."""
    name = case.spec.requires_base
    if name is None:
        return
    case.registry.resolve("base", name)
    task = case.spec.tasks[0]
    kind = HybridClassifier if task == "classification" else HybridRegressor
    model = kind(
        RealNVP(layers=1, hidden_units=4),
        base="student-t" if name == "normal" else "normal",
        head=case.spec.config(),
        training=TrainingConfig(steps=1),
        registry=case.registry,
    )
    y = np.arange(TRAINING_ROWS) % 3
    try:
        model.fit(normal(TRAINING_ROWS, 2, 51).numpy(), y)
    except HybridFlowError:
        return
    expect(False, f"the head requires the base {name!r}, and was fitted on another")


def more_classes_than_claimed_are_refused(case: HeadCase) -> None:
    """A head with a limit on its classes builds up to it, and refuses more with ConfigError."""
    most = case.spec.max_classes
    if most is None:
        return
    for count in (most, most + 1):
        target = Target(kind="classification", classes=tuple(range(count)))
        try:
            HeadCase(case.spec, case.registry, target).build()
        except ConfigError:
            expect(count > most, f"{count} classes are refused, max_classes is {most}")
        else:
            expect(count <= most, f"{count} classes are accepted, max_classes is {most}")


def _cases(case: HeadCase) -> Iterator[HeadCase]:
    """Yield a case for each kind of target that the head's tasks include."""
    for task in case.spec.tasks:
        yield HeadCase(case.spec, case.registry, target_of(task, case.spec.max_classes))
        if task == "multi-label":
            continue
        other = (
            Target(kind="classification", classes=("no", "yes"))
            if task == "classification"
            else Target(kind="regression", location=(4.0,), scale=(3.0,), step=1.0)
        )
        yield HeadCase(case.spec, case.registry, other)


def _named(case: HeadCase) -> str:
    if case.classifies:
        return f"{len(case.target.classes)} classes"
    return "whole numbers" if case.target.step else "numbers"


def _law(case: HeadCase) -> tuple[Law, torch.Tensor]:
    module = case.ready()
    z, context, *_ = case.inputs(_ROWS)
    with torch.no_grad():
        eta = module.head(z, context)
    return module.head.law(eta), eta


def _agrees_with_itself(law: Law) -> None:
    levels = np.array([[0.05, 0.5, 0.9]])
    points = law.quantile(levels)
    total = law.cdf(points) + law.sf(points)
    expect_below(float(np.abs(total - 1).max()), 1e-9, "the distance of cdf + sf from 1")
    reached = law.cdf(points) >= levels - 1e-6
    expect(bool(reached.all()), "quantile(p) is below where cdf reaches p")
    draws = law.sample(_DRAWS, np.random.default_rng(0))
    expect(draws.shape == (_ROWS, _DRAWS), f"law.sample has shape {draws.shape}")
    below = (draws <= points[:, 1:2]).mean(1)
    gap = float(np.abs(below - law.cdf(points[:, 1])).max())
    expect_below(gap, 0.05, "the share of samples below the median, off by")


def _mass(law: Law) -> NDArray[np.float64]:
    """Return the mass of each row: a sum over classes or a lattice, or an integral."""
    if isinstance(law, JointLaw):
        return np.asarray(np.prod([_mass(one) for one in law.marginals], axis=0))
    if isinstance(law, CategoricalLaw):
        points: NDArray[np.float64] = np.arange(len(law.classes), dtype=np.float64)[None]
        return np.asarray(np.exp(law.log_prob(points)).sum(1))
    low, high = (float(edge) for edge in (law.quantile(1e-6).min(), law.quantile(1 - 1e-6).max()))
    if law.lattice is not None:
        origin, step = law.lattice
        count = int(min((high - low) / step + 3, 1e5))
        first = origin + step * np.floor((low - origin) / step)
        points = (first + step * np.arange(count))[None]
        return np.asarray(np.exp(law.log_prob(points)).sum(1))
    # Between quantiles a density is smooth, also where it is singular at the end of a half-line.
    logits = np.linspace(-14, 14, 501)
    edges = law.quantile(1 / (1 + np.exp(-logits))[None])
    half = np.diff(edges, axis=1)[..., None] / 2
    nodes, weights = np.polynomial.legendre.leggauss(8)
    points = (edges[:, :-1, None] + half * (1 + nodes)).reshape(len(law), -1)
    density = np.exp(law.log_prob(points)).reshape(len(law), -1, len(nodes))
    return np.asarray((density * weights * half).sum((1, 2)))


EVERY = (
    every_task_of_the_spec_builds,
    loss_is_minus_the_log_probability_of_the_law,
    law_has_mass_one,
    law_agrees_with_itself,
    law_of_some_rows_is_the_law_of_those_rows,
    works_in_estimators,
    required_base_is_there,
    more_classes_than_claimed_are_refused,
)
