"""The audit of a fitted model: good models pass, and each way of being wrong is named."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hybridflow
from hybridflow import (
    Config,
    Event,
    FlowDensity,
    FlowOutlierDetector,
    FlowSpec,
    HybridClassifier,
    HybridRegressor,
    Registry,
    TrainingConfig,
    hookimpl,
)
from hybridflow.bundle import inspect, verify
from hybridflow.densities import Normal
from hybridflow.errors import InexactModelError, InexactModelWarning
from hybridflow.exactness import AUDITED, audit_models
from hybridflow.model import HybridModel
from hybridflow.specs import Interval, Positive
from hybridflow.transforms import Compose, Coupling, Identity, Standardize, Transform
from hybridflow.transforms.rational_quadratic import RationalQuadraticMap
from hybridflow.verdict import Audit

NAMES = [
    "not finite",
    "round trip, 99 % of rows",
    "round trip, worst row",
    "log-determinant",
    "largest stretch",
    "smallest stretch",
    "condition",
    "outside the support",
    "row alone",
]
QUICK = TrainingConfig(steps=5)


class Nothing(Config):
    """The config of the flows here."""


class Scaled(Transform):
    """A right one: every feature times e."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x * self.log_scale.exp(), (self.log_scale * x.shape[1]).expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z * (-self.log_scale).exp(), (-self.log_scale * z.shape[1]).expand(len(z))


class Wrong(Transform):
    """The right one, made wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.right = Scaled()

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.right(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.right.inverse(z)


class WrongSign(Wrong):
    def forward(self, x, context=None):
        z, ladj = self.right(x)
        return z, -ladj


class DroppedTerm(Wrong):
    def forward(self, x, context=None):
        z, ladj = self.right(x)
        return z, ladj * (1 - 1 / x.shape[1])


class LeakingRows(Wrong):
    def forward(self, x, context=None):
        z, ladj = self.right(x)
        return z - 1e-4 * z.mean(0), ladj


class LeakingIntoLogDet(Wrong):
    def forward(self, x, context=None):
        z, ladj = self.right(x)
        return z, ladj + 1e-7 * (ladj.new_tensor(len(x)) - 1)


class NotInvertible(Wrong):
    def forward(self, x, context=None):
        z, ladj = self.right(x)
        return z.abs(), ladj


class NoInverse(Wrong):
    def inverse(self, z, context=None):
        raise NotImplementedError


class NotANumber(Wrong):
    def forward(self, x, context=None):
        z, ladj = self.right(x)
        return torch.where(x > 1, math.nan, z), ladj


class Stiff(Wrong):
    def forward(self, x, context=None):
        z, ladj = self.right(x)
        return z * z.new_tensor([1e-5, 1e5]), ladj

    def inverse(self, z, context=None):
        return self.right.inverse(z / z.new_tensor([1e-5, 1e5]))


class Raising(Wrong):
    def forward(self, x, context=None):
        if len(x) == 1:
            raise ValueError("one row is too few")
        return self.right(x)


WRONG: dict[str, tuple[type[Transform], set[str]]] = {
    # name: (the flow, what is bad about it)
    "wrong-sign": (WrongSign, {"log-determinant"}),
    "dropped-term": (DroppedTerm, {"log-determinant"}),
    "leaking-rows": (
        LeakingRows,
        {
            "row alone",
            "log-determinant",
            "round trip, 99 % of rows",
            "round trip, worst row",
        },
    ),
    "leaking-into-log-det": (LeakingIntoLogDet, {"row alone", "log-determinant"}),
    "not-invertible": (NotInvertible, {"round trip, 99 % of rows", "round trip, worst row"}),
    "no-inverse": (NoInverse, {"round trip", "outside the support"}),
    "not-a-number": (
        NotANumber,
        {
            "not finite",
            "round trip, 99 % of rows",
            "round trip, worst row",
            "log-determinant",
            "row alone",
            "condition",
        },
    ),
    "stiff": (Stiff, {"condition"}),
    "raising": (Raising, {"row alone"}),
}


def spec_of(flow: type[Transform], **claims: object) -> FlowSpec:
    return FlowSpec("wrong", "For the audit", Nothing, lambda event, config: flow(), **claims)


def model_of(flow: Transform, event: Event | None = None) -> HybridModel:
    event = event or Event.real(2)
    features = event.features
    model = HybridModel(
        event,
        Standardize(features),
        flow,
        Normal(features),
        None,
        step=torch.zeros(features),
        lattice=torch.zeros(features, dtype=torch.bool),
        origin=torch.zeros(features),
    )
    model.network_to(torch.float64)
    return model.eval().requires_grad_(False)


def rows(n: int = 50, features: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, features, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str) -> None:
    flow, expected = WRONG[name]
    audit = audit_models([model_of(flow())], rows(), spec_of(flow))
    assert {finding.name for finding in audit.bad} == expected
    assert not audit.ok
    with pytest.raises(InexactModelError, match=f"audit of 50 rows.*{min(expected)}"):
        audit.check()
    assert Audit.from_json(json.loads(json.dumps(audit.model_dump(mode="json")))) == audit


def test_what_is_right_is_measured_and_passes() -> None:
    audit = audit_models([model_of(Scaled())], rows(), spec_of(Scaled))
    assert [finding.name for finding in audit.findings] == NAMES
    audit.check()
    assert audit["largest stretch"].value == pytest.approx(1.0)
    assert audit["condition"].value == pytest.approx(0.0, abs=1e-9)
    assert audit["row alone"].value < 1e-12


class TestClaims:
    def test_an_estimated_log_det_is_reported(self) -> None:
        audit = audit_models(
            [model_of(WrongSign())], rows(), spec_of(WrongSign, log_det="estimated")
        )
        assert audit.ok
        assert audit["log-determinant"].value == pytest.approx(4.0)

    def test_an_iterative_inverse_may_be_off_by_more(self) -> None:
        class Rough(Wrong):
            def inverse(self, z, context=None):
                x, ladj = self.right.inverse(z)
                return x + 1e-7, ladj

        model = model_of(Rough())
        assert not audit_models([model], rows(), spec_of(Rough)).ok
        assert audit_models([model], rows(), spec_of(Rough, inverse="iterative")).ok

    def test_no_inverse_is_no_fault_where_none_is_claimed(self) -> None:
        audit = audit_models([model_of(NoInverse())], rows(), spec_of(NoInverse, inverse="none"))
        assert audit.ok
        assert audit["round trip, worst row"].value is None
        assert "no inverse is claimed" in str(audit["outside the support"])

    def test_the_round_trip_is_held_to_as_far_as_is_claimed(self) -> None:
        class Short(Wrong):
            def inverse(self, z, context=None):
                x, ladj = self.right.inverse(z)
                return x.clamp(-20, 20), ladj

        model, x = model_of(Short()), torch.cat([rows(), 100 * rows(1)])
        assert audit_models([model], x, spec_of(Short, stable_to=10.0)).ok
        assert not audit_models([model], x, spec_of(Short, stable_to=1e8)).ok


def test_samples_outside_the_support_are_found() -> None:
    event = Event(shape=(2,), support=(Positive(), Interval(low=-9.0, high=9.0)))
    x = rows().abs()
    audit = audit_models([model_of(Scaled(), event)], x, spec_of(Scaled))
    assert [finding.name for finding in audit.bad] == ["outside the support"]
    assert audit["outside the support"].value == pytest.approx(0.5, abs=0.1)


def test_of_several_models_the_worst_counts() -> None:
    right, wrong = model_of(Scaled()), model_of(WrongSign())
    for models in ([right, wrong], [wrong, right]):
        audit = audit_models(models, rows(), spec_of(Scaled))
        assert [finding.name for finding in audit.bad] == ["log-determinant"]


@pytest.mark.parametrize("features", [1, 2, 40, 1025])
def test_any_width_is_audited(features: int) -> None:
    model = model_of(Scaled(), Event.real(features))
    audit = audit_models([model], rows(5, features), spec_of(Scaled))
    assert audit.ok
    assert (audit["log-determinant"].value is None) == (features > 1024)


def test_no_columns_and_few_rows_are_no_fault() -> None:
    none = audit_models([model_of(Identity(), Event.real(0))], rows(5, 0), spec_of(Identity))
    assert none.ok
    assert none.findings == ()
    assert audit_models([model_of(Scaled())], rows(0), spec_of(Scaled)).findings == ()
    assert audit_models([model_of(Scaled())], rows(1), spec_of(Scaled)).ok


def test_the_random_state_of_the_caller_is_left_alone() -> None:
    model = model_of(Scaled())
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = audit_models([model], rows(), spec_of(Scaled))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    with torch.inference_mode():
        assert audit_models([model], rows(), spec_of(Scaled)) == first


def test_knots_at_the_rows_are_no_fault() -> None:
    x = torch.linspace(-4, 4, 9, dtype=torch.float64)[:, None].repeat(1, 2)
    spline = Compose([Coupling(RationalQuadraticMap(bins=4, bound=4.0), [True, False], (4,))])
    with torch.no_grad():
        for parameter in spline.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    assert audit_models([model_of(spline)], x, spec_of(Identity)).ok


# -- estimators and files --------------------------------------------------


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = np.exp(rng.normal(size=(400, 3))) * [1.0, 1e6, 1e-6]
    X[:, 1] = np.round(X[:, 1], -6)
    return X, rng.normal(size=400) + X[:, 0]


ESTIMATORS = {
    "classifier": lambda: HybridClassifier(training=QUICK, random_state=0),
    "regressor": lambda: HybridRegressor(training=QUICK, members=2, random_state=0),
    "density": lambda: FlowDensity(training=QUICK, random_state=0),
    "detector": lambda: FlowOutlierDetector(training=QUICK, random_state=0),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_audits_itself(name: str, table, tmp_path: Path) -> None:
    X, y = table
    model = ESTIMATORS[name]()
    model.fit(X, y > 1 if name == "classifier" else y)
    assert model.audit_.ok
    assert model.audit_.rows == AUDITED
    found = model.audit(X)
    found.check()
    assert found.rows == 400
    model.save(tmp_path / "model.hflow")
    assert hybridflow.load(tmp_path / "model.hflow").audit_ == model.audit_
    assert verify(tmp_path / "model.hflow").audit == model.audit_
    stored = inspect(tmp_path / "model.hflow")["audit"]
    assert set(stored) == {"rows", "findings"}  # statistics, and no row of the table
    assert [finding["name"] for finding in stored["findings"]] == NAMES


def test_an_audit_does_not_change_the_model(table) -> None:
    X, _ = table
    model = ESTIMATORS["density"]().fit(X)
    before, kept = model.score_samples(X), model.audit_
    model.audit(10 * X)
    assert np.array_equal(model.score_samples(X), before)
    assert model.audit_ is kept


class Plugin:
    @hookimpl
    def hybridflow_flows(self):
        return [spec_of(WrongSign)]


@pytest.fixture
def inexact(table) -> FlowDensity:
    registry = Registry(entry_points=False)
    registry.register(Plugin(), distribution="wrong-flows", version="1.0")
    return FlowDensity("wrong", training=QUICK, random_state=0, registry=registry).fit(table[0])


def test_saving_an_inexact_model_warns(inexact: FlowDensity, tmp_path: Path) -> None:
    with pytest.warns(InexactModelWarning, match="cannot be exported: log-determinant: 6 nats"):
        inexact.save(tmp_path / "model.hflow")
    with pytest.raises(InexactModelError, match=r"log-determinant.*estimator\.audit\(X\)"):
        inexact.audit_.check()
    result = verify(tmp_path / "model.hflow", registry=inexact.registry)
    assert not result.audit.ok


def test_a_model_without_an_audit_is_saved_in_silence(inexact, tmp_path: Path) -> None:
    inexact.audit_ = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inexact.save(tmp_path / "model.hflow")
    assert verify(tmp_path / "model.hflow", registry=inexact.registry).audit is None
