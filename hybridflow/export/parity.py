"""Do the files answer as the estimator does? Compared on rows, by batch, and printed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hybridflow import selftest
from hybridflow.errors import ExportError, HybridFlowWarning
from hybridflow.estimators import HybridClassifier, HybridRegressor
from hybridflow.estimators.base import FlowEstimator
from hybridflow.estimators.novelty import NoveltyEstimator
from hybridflow.estimators.outlier import FlowOutlierDetector
from hybridflow.export.columns import inputs_of
from hybridflow.export.engine import Session
from hybridflow.export.graph import Answers
from hybridflow.export.sampling import Drawing, SampleGraph
from hybridflow.schema import Schema

BATCHES = (1, 7, 64, 4096)

_TOLERANCE = {False: 1e-6, True: 1e-4}
_IN_TAILS = {False: 1e-6, True: 1e-3}
_STEPS = {False: 0.0, True: 0.01}
"""Share of answers that jump, such as labels and ranks, that may differ; by float32."""

_SPREADS = (10.0, 100.0)
_JUMPS = ("label", "set", "novelty_pvalue")

Array = NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """How far one output is from what the estimator says.

    Parameters
    ----------
    output : str
    rows : {"rows", "tails", "missing", "drawn"}
    batch : int
    value : float
        The largest difference, relative to 1 + magnitude; of labels, sets and, in float32,
        p-values, the share of rows that differ.
    limit : float
    """

    output: str
    rows: str
    batch: int
    value: float
    limit: float

    @property
    def ok(self) -> bool:
        """Whether it is small enough."""
        return self.value <= self.limit  # NaN is not

    @property
    def shown(self) -> str:
        """The value as text."""
        return "equal" if self.value == 0 else f"{self.value:.1e}"


def compare_predictions(
    estimator: FlowEstimator, answers: Answers, model: bytes, rows: Any, *, float32: bool
) -> list[Difference]:
    """Compare ``predict.onnx`` with the estimator.

    Raises
    ------
    ExportError
        Naming what differs most.
    """
    session, schema = Session(model), estimator.schema_
    found = []
    for kind, x in _rows(estimator, rows):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HybridFlowWarning)
            expected = _expected(estimator, answers, x)
        for batch in BATCHES:
            part = x if batch > len(x) else x[: max(batch, min(len(x), 3 * batch))]
            pieces = [part[k : k + batch] for k in range(0, len(part), batch)][:3]
            if batch > len(x):  # the batch is filled by repeating rows
                pieces = [np.resize(np.arange(len(x)), batch)]
                pieces = [x[pieces[0]]]
            got = [session.run(fed(piece, schema)) for piece in pieces]
            count = sum(len(piece) for piece in pieces)
            index = np.resize(np.arange(len(x)), count)
            for name in answers.outputs:
                values = np.concatenate([np.atleast_1d(each[name]) for each in got])
                found.append(_difference(name, kind, batch, values, expected[name][index], float32))
    _check(found)
    return found


def compare_samples(estimator: FlowEstimator, model: bytes, *, float32: bool) -> list[Difference]:
    """Compare ``sample.onnx`` with the members' inverse on the same noise."""
    session = Session(model)
    # The module that was traced; the members' own inverse is what it is compared with.
    graph = SampleGraph(estimator, torch.float64).eval()
    found = []
    for batch in BATCHES:
        inputs = graph.example(batch)
        given = dict(zip(graph.inputs, inputs, strict=True))
        got = session.run({name: value.numpy() for name, value in given.items()})
        expected = _drawn(estimator, graph, given)
        for name, values in expected.items():
            found.append(_difference(name, "drawn", batch, got[name], values, float32))
    worst: dict[int, Difference] = {}
    for each in found:
        if each.batch not in worst or each.value / (each.limit or 1e-9) > worst[
            each.batch
        ].value / (worst[each.batch].limit or 1e-9):
            worst[each.batch] = each
    _check(found)
    return [Difference("sample.onnx", "drawn", d.batch, d.value, d.limit) for d in worst.values()]


def _drawn(
    estimator: FlowEstimator, graph: SampleGraph, given: dict[str, torch.Tensor]
) -> dict[str, Array]:
    """Return what the estimator's own modules make of the noise, by column."""
    with torch.no_grad():
        columns = graph([given[name] for name in graph.inputs])
        numbers = _numbers(estimator, graph, given)
    found: dict[str, Array] = {}
    for place, (name, column) in enumerate(zip(graph.outputs, columns, strict=True)):
        values = column.numpy()
        if name in graph.texts:
            values = np.array(graph.texts[name], dtype=object)[values]
        elif place in graph.layout.numbers:
            own = numbers[:, graph.layout.numbers.index(place)]
            values = np.where(np.isnan(values), np.nan, own)
        found[name] = values
    return found


def _numbers(estimator: FlowEstimator, graph: SampleGraph, given: dict[str, torch.Tensor]) -> Array:
    """Return the numbers of rows by `HybridModel`, in the precision that answers have."""
    member = given.get("member", torch.zeros(len(given["noise"]), dtype=torch.int64))
    rows = np.empty(tuple(given["noise"].shape))
    for place, (model, drawing) in enumerate(zip(estimator.models_, graph.members, strict=True)):
        assert isinstance(drawing, Drawing)
        mine = member == place
        noise = given["noise"][mine]
        uniform = given["uniform"][mine] if "uniform" in given else None
        codes = None if uniform is None else drawing._codes(uniform)
        z = drawing.shift + noise @ drawing.root
        rows[mine.numpy()] = model.settled(model.data(z, model.context(codes))).numpy()
    return rows


def fed(x: Array, schema: Schema) -> dict[str, Array]:
    """Return rows as a model reads them as the inputs of a graph.

    Parameters
    ----------
    x : ndarray of shape (n, K)
        Numbers, and codes of levels.
    schema : Schema
    """
    feed: dict[str, Array] = {}
    for place, column in enumerate(inputs_of(schema)):
        own = schema.columns[schema.kept[place]]
        values = np.ascontiguousarray(x[:, place])
        if own.levels:
            table: list[Any] = [*own.levels]
            gone = column.missing if column.kind == "text" else np.nan
            new = "\x00 never seen" if column.kind == "text" else 1e300
            table += [gone, new] if own.missing > 0 else [new]
            values = np.array(table, dtype=object if column.kind == "text" else np.float64)[
                values.astype(np.int64)
            ]
        feed[column.name] = values
    return feed


def _rows(estimator: FlowEstimator, rows: Any) -> Iterator[tuple[str, Array]]:
    """Yield rows as the model reads them: usual ones, ones in the tails, with missing cells."""
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HybridFlowWarning)
        x = selftest._draw(estimator) if rows is None else estimator._read(rows).cpu()
    usual = x.numpy()[: BATCHES[-1]]
    usual = usual[~np.isinf(usual).any(1)]
    yield "rows", usual
    layout, model = estimator.schema_.layout, estimator.models_[0]
    numbers = list(layout.numbers)
    some = usual[np.resize(np.arange(len(usual)), min(len(usual), 256))]
    if numbers:
        tails = some.copy()
        signs = rng.choice([-1.0, 1.0], (len(tails), len(numbers)))
        far = rng.choice(_SPREADS, (len(tails), 1)) * signs * rng.random(signs.shape)
        with torch.no_grad():
            own = model.preprocess(torch.tensor(np.nan_to_num(tails[:, numbers])))[0]
            out = model.preprocess.inverse(own + torch.tensor(far))[0].numpy()
        real = np.array([s.kind == "real" for s in model.event.dimensions])
        tails[:, numbers] = np.where(real & np.isfinite(out), out, tails[:, numbers])
        yield "tails", tails
    holes = some.copy()
    chosen = rng.random((len(holes), len(numbers))) < 0.3
    holes[:, numbers] = np.where(chosen, np.nan, holes[:, numbers])
    for place, size in zip(layout.levels, layout.sizes, strict=True):
        new = rng.random(len(holes)) < 0.2
        holes[:, place] = np.where(new, size, holes[:, place])
    yield "missing", holes


def _expected(estimator: FlowEstimator, answers: Answers, x: Array) -> dict[str, Array]:
    """Return what the estimator says of rows, by output."""
    rows = torch.tensor(x).to(estimator.models_[0].step.device)
    wanted = set(answers.outputs)
    makers: dict[str, Callable[[], Any]] = {
        "log_density": lambda: estimator._log_score(rows),
        "latent": lambda: _latent(estimator, rows),
    }
    if isinstance(estimator, NoveltyEstimator) and estimator.novelty_ is not None:
        novelty = estimator.novelty_
        makers["novelty_pvalue"] = lambda: estimator._in_parts(rows, novelty.pvalue)
    if isinstance(estimator, FlowOutlierDetector):
        makers["score"] = lambda: estimator._scores(rows)
        makers["label"] = lambda: np.where(estimator._scores(rows) - estimator.offset_ < 0, -1, 1)
    if isinstance(estimator, HybridClassifier):
        makers["probabilities"] = lambda: estimator._probabilities(rows)
        makers["label"] = lambda: _labels(estimator, rows)
        makers["set"] = lambda: estimator._set(
            estimator._laws(rows), answers.coverage, allow_empty=False
        )
    if isinstance(estimator, HybridRegressor):
        levels = np.array([answers.quantiles])
        makers["mean"] = lambda: estimator._law(rows).mean()
        makers["quantiles"] = lambda: estimator._law(rows).quantile(levels)
        makers["interval"] = lambda: estimator._interval(estimator._laws(rows), answers.coverage)
    return {name: np.asarray(make()) for name, make in makers.items() if name in wanted}


def _latent(estimator: FlowEstimator, rows: torch.Tensor) -> Array:
    with torch.no_grad():
        z: Array = estimator.models_[0].task_view(rows)[0].double().cpu().numpy()
    return z


def _labels(estimator: HybridClassifier, rows: torch.Tensor) -> Array:
    chances = estimator._probabilities(rows)
    if estimator._has_several:
        return np.asarray(chances > 0.5, dtype=np.int64)
    labels = np.array(estimator.classes_.tolist(), dtype=object)
    return np.asarray(labels[chances.argmax(1)])


def _difference(
    name: str, kind: str, batch: int, got: Array, expected: Array, float32: bool
) -> Difference:
    """Return how far values are from what is expected; different shapes are infinitely far."""
    if got.shape != expected.shape:
        return Difference(name, kind, batch, np.inf, 0.0)
    if name in _JUMPS and (float32 or name != "novelty_pvalue"):
        if name == "novelty_pvalue":
            apart = np.abs(got - expected) > 1e-3
        else:
            texts = got.dtype.kind in "OUS"
            apart = (got.astype(str) != expected.astype(str)) if texts else (got != expected)
        return Difference(name, kind, batch, float(np.mean(apart)), _STEPS[float32])
    if got.dtype.kind in "OUS":
        return Difference(name, kind, batch, float(np.mean(got.astype(str) != expected)), 0.0)
    with np.errstate(invalid="ignore"):
        apart = np.abs(got - expected) / (1 + np.abs(expected))
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    limit = (_TOLERANCE if kind == "rows" else _IN_TAILS)[float32]
    return Difference(name, kind, batch, float(np.where(same, 0.0, apart).max(initial=0.0)), limit)


def _check(found: list[Difference]) -> None:
    bad = [each for each in found if not each.ok]
    if not bad:
        return
    worst = max(bad, key=lambda each: np.nan_to_num(each.value, nan=np.inf))
    raise ExportError(
        f"the exported graph does not answer as the model does, so nothing was written: "
        f"{worst.output} differs by {worst.value:.3g} on {worst.rows} in batches of {worst.batch} "
        f"({worst.limit:g} is tolerated); {len(bad)} of {len(found)} comparisons failed. Export in "
        "float64, or with outputs= without it"
    )
