"""What else a spec claims: supports, sizes, estimators, export."""

from __future__ import annotations

import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

import hybridflow
from hybridflow.config import Int
from hybridflow.errors import HybridFlowWarning
from hybridflow.estimators import FlowDensity
from hybridflow.history import TrainingConfig
from hybridflow.testing.case import normal
from hybridflow.testing.check import CheckSkipped, expect, expect_below, expect_close, fail
from hybridflow.testing.flows.case import FlowCase
from hybridflow.testing.flows.log_det import log_determinant
from hybridflow.testing.supports import SUPPORTS, distance

_TABLE = 60
_EXPORT = 1e-4


def every_claimed_support_works(case: FlowCase) -> None:
    """On each support that the spec names, rows come back and ladj is right."""
    for kind in case.spec.supports:
        if kind not in SUPPORTS:
            raise CheckSkipped(f"the kit has no rows on the support {kind!r}")
        on = FlowCase(case.spec, case.registry, kind)
        flow, (x, context) = on.ready(), on.inputs(10)
        with torch.no_grad():
            z, ladj = flow(x, context)
        if case.spec.log_det == "exact":
            expected = log_determinant(flow, x, context)
            expect_close(ladj, expected, 1e-8, f"ladj on {kind} from the Jacobian's")
        if on.invertible:
            with torch.no_grad():
                back, _ = flow.inverse(z, context)
            expect_below(distance(kind, back, x).max(), 1e-6, f"the round trip on {kind}")


def fewest_features_are_enough(case: FlowCase) -> None:
    """As few features as `min_features` says can be trained on."""
    features = case.spec.min_features
    flow = case.sized(features).train()
    z, ladj = flow(*case.sized_inputs(30, features, 0))
    expect(z.shape == (30, features), f"z of {features} features has shape {tuple(z.shape)}")
    total = z.square().sum() - ladj.sum()
    if total.requires_grad:
        torch.autograd.backward(total)


def works_in_flow_density(case: FlowCase) -> None:
    """`FlowDensity` fits, scores, samples, saves and loads with it."""
    features = max(2, case.spec.min_features)
    table = normal(_TABLE, features, 51).numpy()
    table[:, -1] += 0.5 * table[:, 0] ** 2
    model = FlowDensity(
        case.spec.config(),
        training=TrainingConfig(steps=4),
        random_state=0,
        registry=case.registry,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HybridFlowWarning)
        model.fit(table)
    scores = model.score_samples(table)
    expect(bool(np.isfinite(scores).all()), "score_samples is not finite")
    if case.invertible:
        samples = model.sample(7, random_state=0)
        expect(samples.shape == (7, features), f"sample(7) has shape {samples.shape}")
        expect(bool(np.isfinite(samples).all()), "samples are not finite")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.hflow"
        model.save(path)
        loaded = hybridflow.load(path, registry=case.registry)
    expect(
        bool(np.array_equal(loaded.score_samples(table), scores)),
        "scores of the saved and loaded model differ",
    )


def exports_to_onnx_as_claimed(case: FlowCase) -> None:
    """The exported graph of `forward` gives what torch gives, at another number of rows too."""
    missing = [name for name in ("onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise CheckSkipped(f"not installed: {', '.join(missing)}")
    # The time of an export grows with the number of layers: the smallest flow will do.
    smallest = {
        name: search.low
        for name, search in case.spec.config.space().items()
        if isinstance(search, Int)
    }
    flow = case.sized(case.features, config=case.spec.config(**smallest)).float()
    (x,) = case.sized_inputs(8, case.features, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(
            flow,
            (x.float(),),
            dynamo=True,
            opset_version=20,
            dynamic_shapes=({0: torch.export.Dim("rows")},),
            verbose=False,
        )
    if program is None:
        fail("torch.onnx.export returned nothing")
    for n in (1, 5):
        (rows,) = case.sized_inputs(n, case.features, 0, seed=2)
        with torch.no_grad():
            expected = flow(rows.float())
        for what, one, other in zip(("z", "ladj"), program(rows.float()), expected, strict=True):
            expect_close(one, other, _EXPORT, f"{what} of the exported graph")


EVERY = (every_claimed_support_works, fewest_features_are_enough)
ON_REAL_ROWS = (works_in_flow_density,)
ONNX = (exports_to_onnx_as_claimed,)
