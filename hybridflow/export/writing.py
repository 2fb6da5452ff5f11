"""Export: a fitted estimator to a folder of ONNX files, with proof that they answer alike."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from hybridflow import __version__
from hybridflow.atomic import atomic_write
from hybridflow.calibration.conformal import check_coverage
from hybridflow.errors import ConfigError, ExportError
from hybridflow.estimators.base import FlowEstimator
from hybridflow.export import engine
from hybridflow.export.columns import inputs_of
from hybridflow.export.graph import COVERAGE, QUANTILES, Answers, Graph, answers_of
from hybridflow.export.parity import Difference, compare_predictions, compare_samples
from hybridflow.export.sampling import SampleGraph
from hybridflow.specs import BaseSpec, FlowSpec, HeadSpec

PREDICT, SAMPLE = "predict.onnx", "sample.onnx"


@dataclass(frozen=True)
class Export:
    """What was written, and how far it is from the model.

    Parameters
    ----------
    files : tuple of Path
    outputs : tuple of str
        Of ``predict.onnx``.
    left_out : dict of str to str
        What the model answers and the files do not, and why.
    differences : tuple of Difference
        By kind of rows, number of rows in a batch, and output.
    """

    files: tuple[Path, ...]
    outputs: tuple[str, ...]
    left_out: dict[str, str]
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        """Return a table of the differences, and what was left out."""
        batches = sorted({d.batch for d in self.differences})
        rows = [("parity with torch", *(f"batch {n:,}" for n in batches))]
        found: dict[tuple[str, str], dict[int, Difference]] = {}
        for d in self.differences:
            found.setdefault((d.output, d.rows), {})[d.batch] = d
        for (output, kind), each in found.items():
            cells = (each[n].shown if n in each else "" for n in batches)
            rows.append((f"{output}, {kind}", *cells))
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows
        ]
        lines += [f"left out: {name}: {why}" for name, why in self.left_out.items()]
        return "\n".join(line.rstrip() for line in lines)


def to_onnx(
    estimator: FlowEstimator,
    folder: str | os.PathLike[str],
    *,
    rows: Any = None,
    outputs: Sequence[str] | None = None,
    quantiles: Sequence[float] = QUANTILES,
    coverage: float = COVERAGE,
    float32: bool = False,
    overwrite: bool = False,
) -> Export:
    """Write a fitted estimator as ``predict.onnx`` and ``sample.onnx``.

    Each file is compared with the estimator, in batches of 1, 7, 64 and 4,096 rows, in
    the tails, and with missing cells and unseen levels. If it answers otherwise, or the audit of
    the model is bad, nothing is written.

    Parameters
    ----------
    estimator : HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector
    folder : str or os.PathLike
        Made if it is not there.
    rows : table, optional
        Real rows to compare on and to audit the model with; if not given, rows
        drawn from the model.
    outputs : sequence of str, optional
        Of ``predict.onnx``; all that there are if not given. A graph computes all of
        its outputs, so fewer are faster.
    quantiles : sequence of float
        Levels of the output ``quantiles``.
    coverage : float, default=0.9
        Of the outputs ``interval`` and ``set``.
    float32 : bool, default=False
        Whether the networks compute in float32; the preprocessing never does.
    overwrite : bool, default=False
        Whether files of these names may be replaced.

    Returns
    -------
    Export
        Print it.

    Raises
    ------
    ExportError
        If a part of the model has no graph, by its name, or a file answers otherwise.
    InexactModelError
        If the audit of the model is bad.
    MissingExtraError
        If onnx, onnxscript or onnxruntime is not installed.
    FileExistsError
        If a file is there and `overwrite` is False.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from hybridflow import FlowDensity, TrainingConfig
    >>> from hybridflow.export import to_onnx
    >>> X = np.random.default_rng(0).normal(size=(60, 2))
    >>> model = FlowDensity("actnorm", members=1, training=TrainingConfig(steps=2), random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export = to_onnx(model.fit(X), folder, outputs=["log_density", "latent"])
    ...     [file.name for file in export.files]
    ['predict.onnx', 'sample.onnx']
    """
    engine.check_installed()
    check_is_fitted(estimator, "models_")
    coverage, levels = check_coverage(coverage), _check_levels(quantiles)
    refuse_unexportable(estimator)
    audit = estimator.audit_ if rows is None else estimator.audit(rows)
    if audit is not None:
        audit.check()
    place = Path(folder)
    names = [PREDICT, SAMPLE] if sampled(estimator) is None else [PREDICT]
    if not overwrite:
        for name in names:
            if (place / name).exists():
                raise FileExistsError(
                    f"{place / name}: the file exists and may not be overwritten "
                    "(overwrite=True replaces it)"
                )
    answers = answers_of(estimator, outputs, levels, coverage)
    dtype = torch.float32 if float32 else torch.float64
    predict = predict_model(estimator, answers, dtype)
    found = compare_predictions(estimator, answers, predict, rows, float32=float32)
    models = {PREDICT: predict}
    left_out = dict(answers.left_out)
    if SAMPLE in names:
        models[SAMPLE] = sample_model(estimator, dtype)
        found += compare_samples(estimator, models[SAMPLE], float32=float32)
    else:
        left_out[SAMPLE] = sampled(estimator) or ""
    place.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    try:
        for name, model in models.items():
            atomic_write(place / name, partial(_put, model), overwrite=overwrite)
            written.append(place / name)
    except BaseException:
        if not overwrite:
            for path in written:
                path.unlink(missing_ok=True)
        raise
    return Export(tuple(written), answers.outputs, left_out, tuple(found))


def refuse_unexportable(estimator: FlowEstimator) -> None:
    """Raise if a component does not claim that it exports.

    Raises
    ------
    ExportError
        Naming all of them.
    """
    registry, plan = estimator._registry(), estimator.blueprint_
    specs: list[tuple[str, FlowSpec | BaseSpec | HeadSpec]] = [
        ("flow", registry.resolve("flow", flow)[0]) for flow in (plan.flow, *plan.others)
    ]
    specs.append(("base", registry.resolve("base", plan.base)[0]))
    if plan.head is not None:
        specs.append(("head", registry.resolve("head", plan.head)[0]))
    unable = dict.fromkeys(f"{kind} {spec.name!r}" for kind, spec in specs if not spec.onnx)
    if unable:
        raise ExportError(
            f"{' and '.join(unable)} cannot be exported: ONNX has no graph of what it computes; "
            "the page on export says which parts have one"
        )


def sampled(estimator: FlowEstimator) -> str | None:
    """Return why there is no ``sample.onnx``, None if there is one."""
    registry, plan = estimator._registry(), estimator.blueprint_
    specs = [registry.resolve("flow", flow)[0] for flow in (plan.flow, *plan.others)]
    without = [spec.name for spec in specs if spec.inverse != "exact"]
    if not plan.event.features:
        return "no column carries a density"
    if without:
        return f"the inverse of flow {without[0]!r} is found by iteration, or not at all"
    return SampleGraph.reason_against(estimator)


def predict_model(estimator: FlowEstimator, answers: Answers, dtype: torch.dtype) -> bytes:
    """Return ``predict.onnx`` as bytes."""
    graph = Graph(estimator, answers, dtype).eval()
    inputs = inputs_of(estimator.schema_)
    examples = [
        torch.zeros(6, dtype=torch.int64 if column.kind == "text" else torch.float64)
        for column in inputs
    ]
    batch, rows = torch.export.Dim(engine.BATCH), torch.export.Dim(engine.ROWS)
    arguments: tuple[Any, ...] = (examples,)
    dynamic: tuple[Any, ...] = ([{0: batch}] * len(inputs),)
    names = [column.name for column in inputs]
    if graph.asks_rows:
        arguments, dynamic = (*arguments, torch.tensor([0, 2, 3, 5])), (*dynamic, {0: rows})
    proto = _traced(graph, arguments, dynamic, names, answers.outputs)
    if graph.asks_rows:
        place = estimator.schema_.layout.numbers
        engine.find_rows(proto, [names[k] for k in place])
    engine.read_text(proto, inputs)
    target = estimator.blueprint_.target
    if target is not None and target.kind == "classification" and "label" in answers.outputs:
        engine.name_classes(proto, "label", target.classes)
    return engine.finished(proto, metadata_of(estimator, answers))


def sample_model(estimator: FlowEstimator, dtype: torch.dtype) -> bytes:
    """Return ``sample.onnx`` as bytes."""
    graph = SampleGraph(estimator, dtype).eval()
    batch = torch.export.Dim(engine.BATCH)
    arguments = graph.example(6)
    proto = _traced(
        graph, (arguments,), ([{0: batch}] * len(arguments),), graph.inputs, graph.outputs
    )
    for name, levels in graph.texts.items():
        engine.name_classes(proto, name, levels)
    return engine.finished(proto, metadata_of(estimator, None))


def _traced(
    module: nn.Module, arguments: Any, dynamic: Any, inputs: Sequence[str], outputs: Sequence[str]
) -> Any:
    names = [*inputs, *([engine.ROWS] if len(arguments) > 1 else [])]
    return engine.traced(module, arguments, dynamic, names, outputs)


def metadata_of(estimator: FlowEstimator, answers: Answers | None) -> dict[str, str]:
    """Return what a file says about itself: columns, classes, versions, settings, as JSON."""
    target, schema = estimator.blueprint_.target, estimator.schema_
    columns = [
        {"name": column.name, "kind": column.kind, "missing": column.missing}
        | ({"stands_for_missing": column.missing} if column.kind == "text" else {})
        for column in inputs_of(schema)
    ]
    found: dict[str, Any] = {
        "estimator": type(estimator).__name__,
        "inputs": columns,
        "columns": [
            {"name": c.name, "dtype": c.dtype, "kind": c.kind, "levels": c.levels}
            for c in schema.columns
        ],
        "members": len(estimator.models_),
        "versions": {"hybridflow": __version__, "torch": torch.__version__},
    }
    if target is not None:
        found["classes"] = target.classes
        found["targets"] = target.names
    if answers is not None:
        found["outputs"] = answers.outputs
        found["quantiles"] = answers.quantiles
        found["coverage"] = answers.coverage
    return {f"hybridflow.{key}": json.dumps(value) for key, value in found.items()}


def _put(model: bytes, file: BinaryIO) -> None:
    file.write(model)


def _check_levels(quantiles: Sequence[float]) -> tuple[float, ...]:
    levels = tuple(float(level) for level in quantiles)
    if not levels or not all(0 < level < 1 for level in levels):
        raise ConfigError(f"quantiles: expected levels between 0 and 1, got {quantiles!r}")
    return levels
