"""What is not exported, and that nothing is left behind then."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from hybridflow import FlowDensity, HybridClassifier, HybridRegressor, TrainingConfig
from hybridflow.errors import (
    ConfigError,
    ExportError,
    InexactModelError,
    MissingExtraError,
)
from hybridflow.export import parity, to_onnx
from hybridflow.flows import IResNet
from hybridflow.heads.ordinal import OrdinalHead
from hybridflow.verdict import Audit, Finding

from .conftest import Exported

X = np.random.default_rng(0).normal(size=(60, 2))
BRIEF = TrainingConfig(steps=2)


def test_a_flow_without_a_graph_is_named(tmp_path: Path) -> None:
    model = FlowDensity(IResNet(layers=1), members=1, training=BRIEF, random_state=0).fit(X)
    with pytest.raises(ExportError, match="flow 'i-resnet' cannot be exported"):
        to_onnx(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_head_without_a_graph_is_named(tmp_path: Path) -> None:
    model = HybridRegressor("nice", head="quantile", members=1, training=BRIEF, random_state=0)
    with pytest.raises(ExportError, match="head 'quantile' cannot be exported"):
        to_onnx(model.fit(X, X[:, 0]), tmp_path)


def test_a_link_without_a_graph_is_named(tmp_path: Path) -> None:
    head = OrdinalHead(link="probit")
    model = HybridClassifier("actnorm", head=head, members=1, training=BRIEF, random_state=0)
    model.fit(X, np.digitize(X[:, 0], [-0.5, 0.5]))
    with pytest.raises(ExportError, match="Ordinal with the link 'probit' has no graph"):
        to_onnx(model, tmp_path)


def test_a_bad_audit_stops_the_export(density: Exported, tmp_path: Path) -> None:
    model, before = density.estimator, density.estimator.audit_
    lost = Finding(name="not finite", value=0.5, unit="share", limit=0.0, ok=False)
    model.audit_ = Audit(rows=2, findings=(lost,))
    try:
        with pytest.raises(InexactModelError, match="not finite"):
            to_onnx(model, tmp_path)
    finally:
        model.audit_ = before
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_answers_otherwise_is_not_written(
    density: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = parity._expected

    def shifted(*args: object) -> dict[str, np.ndarray]:
        return {name: values + 1e-3 for name, values in honest(*args).items()}

    monkeypatch.setattr(parity, "_expected", shifted)
    with pytest.raises(ExportError, match="nothing was written: log_density differs by"):
        to_onnx(density.estimator, tmp_path / "out", outputs=["log_density"])
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_kept(density: Exported) -> None:
    before = (density.folder / "predict.onnx").read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        to_onnx(density.estimator, density.folder)
    assert (density.folder / "predict.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": ["log_densty"]}, "did you mean 'log_density'"),
        ({"outputs": []}, "name at least one"),
        ({"coverage": 1.5}, "coverage must lie between 0 and 1"),
        ({"quantiles": [0.0]}, "levels between 0 and 1"),
    ],
    ids=["output", "none", "coverage", "quantiles"],
)
def test_wrong_options_are_named(
    density: Exported, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        to_onnx(density.estimator, tmp_path, **options)


def test_a_missing_extra_is_named(
    density: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r'pip install "hybridflow\[onnx\]"'):
        to_onnx(density.estimator, tmp_path)
