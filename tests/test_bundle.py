"""Bundles: what is saved answers alike after loading, and what does not fit is refused."""

from __future__ import annotations

import copy
import json
import math
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from pydantic import Field
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

import hybridflow
from hybridflow import (
    Config,
    FlowDensity,
    FlowOutlierDetector,
    FlowSpec,
    HybridClassifier,
    HybridRegressor,
    Registry,
    TrainingConfig,
    hookimpl,
)
from hybridflow.allocation import AllocationLimit
from hybridflow.bundle import inspect, load, save, verify
from hybridflow.container import read_container, write_container
from hybridflow.errors import (
    ConfigError,
    CorruptModelError,
    IncompatibleModelError,
    MissingPluginError,
    ModelFileError,
    ModelSelfTestError,
    PluginVersionWarning,
    ResourceLimitError,
)
from hybridflow.estimators.base import FlowEstimator
from hybridflow.flows import NICE, RealNVP
from hybridflow.transforms import Transform

GOLDEN = Path(__file__).parent / "golden"
TRAINING = TrainingConfig(steps=10)
ADDED = ("format_version", "hybridflow_version", "sha256")


def table(n: int = 150) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3)) * [1.0, 100.0, 0.01] + [0.0, 50.0, 3.0]
    X[:, 2] = np.round(X[:, 2], 2)  # ties
    return X, X[:, 0] + rng.normal(size=n)


CASES: dict[str, Callable[[], FlowEstimator]] = {
    "classifier": lambda: HybridClassifier(
        RealNVP(layers=2, hidden_units=8), training=TRAINING, random_state=0
    ).fit(table()[0], np.where(table()[1] > 0, "ü yes", "no")),
    "regressor-members": lambda: HybridRegressor(
        "nice", head="student-t", training=TRAINING, members=2, random_state=0
    ).fit(*table()),
    "regressor-counts": lambda: HybridRegressor(
        "maf", head="poisson", training=TRAINING, random_state=0
    ).fit(table()[0], np.abs(table()[1]).round()),
    "density": lambda: FlowDensity(
        "spline-coupling", "mixture", training=TRAINING, members=1, random_state=0
    ).fit(table()[0]),
    "detector": lambda: FlowOutlierDetector(
        "nice", contamination=0.1, training=TRAINING, dtype="float32", random_state=0
    ).fit(table()[0]),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[FlowEstimator, Path]]:
    """Return a fitted estimator and its bundle, by the name of the case."""
    folder = tmp_path_factory.mktemp("bundles")
    made: dict[str, tuple[FlowEstimator, Path]] = {}

    def get(name: str) -> tuple[FlowEstimator, Path]:
        if name not in made:
            estimator = CASES[name]()
            estimator.save(folder / f"{name}.hflow")
            made[name] = estimator, folder / f"{name}.hflow"
        return made[name]

    return get


Saved = Callable[[str], tuple[FlowEstimator, Path]]


def edited(
    source: Path,
    target: Path,
    change: Callable[[dict[str, Any], dict[str, Tensor]], object],
) -> Path:
    """Write a bundle anew with a changed description or tensors and the right digest."""
    document, tensors = read_container(source)
    rest = {name: value for name, value in document.items() if name not in ADDED}
    change(rest, tensors)
    write_container(target, rest, tensors)
    return target


@pytest.mark.parametrize("name", CASES)
class TestRoundTrip:
    def test_answers_are_the_same(self, name: str, saved: Saved) -> None:
        before, path = saved(name)
        after = hybridflow.load(path)
        X, _ = table(40)
        assert type(after) is type(before)
        assert np.array_equal(after.score_samples(X), before.score_samples(X))
        assert np.array_equal(after.transform(X), before.transform(X))
        if isinstance(before, HybridClassifier):
            assert np.array_equal(after.predict_proba(X), before.predict_proba(X))
            assert np.array_equal(after.predict(X), before.predict(X))
            assert after.classes_.dtype == before.classes_.dtype
        if isinstance(before, HybridRegressor):
            assert np.array_equal(after.predict(X), before.predict(X))
        if isinstance(before, FlowOutlierDetector):
            assert np.array_equal(after.decision_function(X), before.decision_function(X))
            assert set(after.predict(X)) == {-1, 1}
        one, two = (e.sample(5, random_state=3) for e in (before, after))
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))

    def test_saved_again_is_the_same_file(self, name: str, saved: Saved, tmp_path: Path) -> None:
        _, path = saved(name)
        hybridflow.load(path).save(tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == path.read_bytes()

    def test_probe_rows_are_not_training_rows(self, name: str, saved: Saved) -> None:
        _, path = saved(name)
        rows = np.array(inspect(path)["probe"]["rows"])
        X, _ = table()
        assert rows.shape == (8, 3)
        nearest = np.abs(rows[:, None] - X[None]).max(axis=2).min()
        assert nearest > 0

    def test_verify_reports_what_was_checked(self, name: str, saved: Saved) -> None:
        estimator, path = saved(name)
        report = verify(path)
        assert report.estimator == type(estimator).__name__
        assert re.fullmatch("[0-9a-f]{64}", report.sha256)
        assert report.probe_rows == 8
        assert max(report.differences.values()) < 1e-12
        assert report.parameters == sum(
            p.numel() for model in estimator.models_ for p in model.parameters()
        )
        assert {c.distribution for c in report.components} == {"hybridflow"}
        assert report.other_versions == ()

    def test_the_callers_random_state_and_estimator_are_untouched(
        self, name: str, saved: Saved, tmp_path: Path
    ) -> None:
        estimator, _ = saved(name)
        legacy = np.random.mtrand._rand  # the state behind np.random.seed
        params = estimator.get_params()
        attributes = sorted(vars(estimator))
        torch_state, (_, numpy_state, *_rest) = torch.get_rng_state(), legacy.get_state()
        save(estimator, tmp_path / "a")
        load(tmp_path / "a")
        assert torch.equal(torch_state, torch.get_rng_state())
        assert np.array_equal(numpy_state, legacy.get_state()[1])
        assert estimator.get_params() == params
        assert sorted(vars(estimator)) == attributes


class TestKeptFacts:
    @pytest.mark.parametrize("library", [pd, pl], ids=["pandas", "polars"])
    def test_frames(self, library: Any, tmp_path: Path) -> None:
        X, _ = table()
        frame = library.DataFrame({"größe": X[:, 0], "b": X[:, 1], "c": X[:, 2]})
        model = FlowDensity("nice", training=TRAINING, random_state=0).fit(frame)
        model.save(tmp_path / "a")
        again = load(tmp_path / "a")
        assert list(again.feature_names_in_) == ["größe", "b", "c"]
        assert type(again.sample(2, random_state=0)) is library.DataFrame
        assert np.array_equal(again.score_samples(frame), model.score_samples(frame))

    @pytest.mark.parametrize(
        "labels",
        [[False, True], [0, 7], [-1, 1], [0.0, 1.0], ["a", "bb"]],
        ids=str,
    )
    def test_labels(self, labels: list[Any], tmp_path: Path) -> None:
        X, y = table()
        model = HybridClassifier("nice", training=TRAINING, random_state=0)
        model.fit(X, np.array(labels)[(y > 0).astype(int)]).save(tmp_path / "a")
        again = load(tmp_path / "a")
        assert again.classes_.dtype == model.classes_.dtype
        assert again.classes_.tolist() == labels
        assert np.array_equal(again.predict(X), model.predict(X))

    def test_params_and_history(self, saved: Saved) -> None:
        before, path = saved("regressor-members")
        after = load(path)
        assert after.get_params() == before.get_params()
        assert after.histories_ == before.histories_
        assert len(after.models_) == 2

    def test_constant_columns_only(self, tmp_path: Path) -> None:
        X, y = table()
        X[:, 1] = 5.0
        with pytest.warns(hybridflow.errors.ConstantFeatureWarning):
            model = HybridRegressor("nice", training=TRAINING, random_state=0).fit(X, y)
        model.save(tmp_path / "a")
        assert np.array_equal(load(tmp_path / "a").predict(X), model.predict(X))

    def test_parameter_changed_after_the_fit(self, tmp_path: Path) -> None:
        model = FlowDensity(RealNVP(layers=2), training=TRAINING, random_state=0).fit(table()[0])
        model.set_params(flow=NICE())
        model.save(tmp_path / "a")
        again = load(tmp_path / "a")
        assert again.flow == NICE()
        assert np.array_equal(again.score_samples(table()[0]), model.score_samples(table()[0]))

    def test_inspect_needs_no_torch(self, saved: Saved) -> None:
        _, path = saved("classifier")
        code = (
            "import json, sys; from hybridflow.bundle import inspect;"
            "document = inspect(sys.argv[1]);"
            "print(json.dumps([document['estimator'], 'torch' in sys.modules]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout) == ["HybridClassifier", False]

    def test_loading_in_a_second_process(self, saved: Saved) -> None:
        before, path = saved("density")
        code = (
            "import sys, hybridflow, numpy as np; model = hybridflow.load(sys.argv[1]);"
            "print(model.score_samples(np.zeros((1, 3)))[0].hex());"
            "assert 'torch._dynamo' not in sys.modules"  # a second of imports
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
        )
        here = float(before.score_samples(np.zeros((1, 3)))[0])
        assert float.fromhex(done.stdout) == pytest.approx(here, abs=1e-9)


class TestRefusedToSave:
    @pytest.mark.parametrize(
        "kind", [HybridClassifier, HybridRegressor, FlowDensity, FlowOutlierDetector]
    )
    def test_c01_not_fitted(self, kind: type[FlowEstimator], tmp_path: Path) -> None:
        with pytest.raises(NotFittedError):
            kind().save(tmp_path / "a")
        assert list(tmp_path.iterdir()) == []

    def test_class_of_ones_own(self, tmp_path: Path) -> None:
        class Mine(FlowDensity):
            pass

        with pytest.raises(ModelFileError, match="FlowDensity"):
            save(Mine(), tmp_path / "a")

    def test_existing_file(self, saved: Saved, tmp_path: Path) -> None:
        estimator, _ = saved("density")
        (tmp_path / "a").write_text("old")
        with pytest.raises(FileExistsError):
            estimator.save(tmp_path / "a", overwrite=False)
        assert (tmp_path / "a").read_text() == "old"

    def test_weights_that_are_not_finite(self, saved: Saved, tmp_path: Path) -> None:
        estimator = copy.deepcopy(saved("density")[0])
        next(estimator.models_[0].parameters()).data.flatten()[0] = math.nan
        with pytest.raises(ModelFileError, match="NaN"):
            estimator.save(tmp_path / "a")
        assert list(tmp_path.iterdir()) == []

    def test_loaded_as_another_class(self, saved: Saved) -> None:
        with pytest.raises(IncompatibleModelError, match="FlowDensity"):
            HybridClassifier.load(saved("density")[1])


def first(tensors: dict[str, Tensor], count: int = 1) -> list[str]:
    """Return names of float tensors with more than one element."""
    names = [name for name, t in sorted(tensors.items()) if t.is_floating_point() and t.dim() == 2]
    return names[:count]


TensorEdit = Callable[[dict[str, Any], dict[str, Tensor]], object]

WRONG_TENSORS: dict[str, TensorEdit] = {
    "missing": lambda _, t: t.pop(first(t)[0]),
    "extra": lambda _, t: t.update({"members.0.more": torch.ones(1)}),
    "extra-outside-members": lambda _, t: t.update(more=torch.ones(1)),
    "extra-member": lambda _, t: t.update({"members.1.step": torch.ones(3)}),
    "transposed": lambda _, t: t.update({first(t)[0]: t[first(t)[0]].new_zeros(7, 11)}),
    "flat": lambda _, t: t.update({first(t)[0]: t[first(t)[0]].flatten()}),
    "other-dtype": lambda _, t: t.update({first(t)[0]: t[first(t)[0]].float()}),
    "integers": lambda _, t: t.update({first(t)[0]: t[first(t)[0]].long()}),
    "renamed": lambda _, t: t.update({"members.0.renamed": t.pop(first(t)[0])}),
    "none": lambda _, t: t.clear(),
    "two-members-declared": lambda d, _: d.update(members=2),
    "no-members": lambda d, t: (d.update(members=0), t.clear()),
    "billions-of-members": lambda d, _: d.update(members=10**9),
    "members-not-a-count": lambda d, _: d.update(members=True),
}


@pytest.mark.parametrize("name", WRONG_TENSORS)
def test_m05_m13_tensors_that_do_not_fit(name: str, saved: Saved, tmp_path: Path) -> None:
    path = edited(saved("density")[1], tmp_path / "a", WRONG_TENSORS[name])
    with pytest.raises(CorruptModelError, match=f"^{re.escape(str(path))}: "):
        load(path)


def test_m05_tensors_swapped(saved: Saved, tmp_path: Path) -> None:
    """Even with the digest right, the self-test notices."""

    def swap(_: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        same = {}
        for name, tensor in sorted(tensors.items()):
            other = same.setdefault((tensor.shape, tensor.dtype), name)
            if tensor.dim() == 2 and not torch.equal(tensors[other], tensor):
                tensors[name], tensors[other] = tensors[other], tensor
                return
        raise AssertionError("no two tensors of one shape")

    path = edited(saved("classifier")[1], tmp_path / "a", swap)
    with pytest.raises(ModelSelfTestError):
        load(path)


def test_m05_description_of_another_bundle(saved: Saved, tmp_path: Path) -> None:
    other, _ = read_container(saved("detector")[1])

    def exchange(document: dict[str, Any], _: dict[str, Tensor]) -> None:
        document.clear()
        document.update({name: other[name] for name in other if name not in ADDED})

    path = edited(saved("density")[1], tmp_path / "a", exchange)
    with pytest.raises(CorruptModelError):
        load(path)


HOSTILE = [
    "os.system",
    "os:system",
    "../../x",
    "/etc/passwd",
    "builtins.eval",
    "torch.nn.Linear",
    "__import__",
    "hybridflow:nice",
    "nice\n",
    "NICE",
    "",
    "a" * 5 + "." * 500,
    None,
    3,
    ["nice"],
    {"name": "nice"},
]


class TestM09:
    """A name is a plain word, and resolves only through the registry."""

    @pytest.mark.parametrize("field", ["name", "distribution"])
    @pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:30])
    def test_name(self, field: str, value: object, saved: Saved, tmp_path: Path) -> None:
        def change(document: dict[str, Any], _: dict[str, Tensor]) -> None:
            document["components"]["flow"][field] = value

        path = edited(saved("density")[1], tmp_path / "a", change)
        before = set(sys.modules)
        with pytest.raises(ModelFileError, match=r"cannot be|not there"):
            load(path)
        assert set(sys.modules) == before

    @pytest.mark.parametrize("value", ["os.system", "object", "Registry", "", None, 1, ["a"], {}])
    def test_estimator(self, value: object, saved: Saved, tmp_path: Path) -> None:
        path = edited(saved("density")[1], tmp_path / "a", lambda d, _: d.update(estimator=value))
        with pytest.raises(CorruptModelError):
            load(path)

    @pytest.mark.parametrize("value", ["os.system", "../../x", "no-such-flow"])
    def test_parameter(self, value: str, saved: Saved, tmp_path: Path) -> None:
        def change(document: dict[str, Any], _: dict[str, Tensor]) -> None:
            document["params"]["flow"] = {"name": value, "config": {}}

        path = edited(saved("density")[1], tmp_path / "a", change)
        with pytest.raises(CorruptModelError):
            load(path)

    def test_an_unknown_plain_name(self, saved: Saved, tmp_path: Path) -> None:
        def change(document: dict[str, Any], _: dict[str, Tensor]) -> None:
            document["components"]["flow"]["name"] = "flow-of-tomorrow"

        path = edited(saved("density")[1], tmp_path / "a", change)
        with pytest.raises(IncompatibleModelError, match="flow-of-tomorrow"):
            load(path)


DocumentEdit = Callable[[dict[str, Any]], object]

WRONG_DOCUMENTS: dict[str, DocumentEdit] = {
    **{
        f"no-{name}": (lambda d, n=name: d.pop(n))
        for name in (
            "estimator",
            "params",
            "components",
            "schema",
            "target",
            "members",
            "histories",
            "interrupted",
            "event",
            "probe",
        )
    },
    **{
        f"{name}-{value!r}": (lambda d, n=name, v=value: d.update({n: v}))
        for name in ("params", "components", "schema", "histories", "event", "probe", "members")
        for value in (None, 3, "x", [3], {"x": 3})
    },
    "unknown-parameter": lambda d: d["params"].update(more=1),
    "flow-config": lambda d: d["components"]["flow"].update(config={"layers": 0}),
    "flow-config-list": lambda d: d["components"]["flow"].update(config=[1]),
    "flow-config-unknown": lambda d: d["components"]["flow"]["config"].update(more=1),
    "no-flow": lambda d: d["components"].pop("flow"),
    "kind": lambda d: d["components"].update(os=d["components"]["flow"]),
    "columns": lambda d: d["schema"].update(columns=[]),
    "column-more": lambda d: d["schema"]["columns"].append(d["schema"]["columns"][0]),
    "container": lambda d: d["schema"].update(container="os"),
    "event-other": lambda d: d["event"].update(shape=[7]),
    "audit-type": lambda d: d.update(audit="good"),
    "audit-nan": lambda d: d["audit"]["findings"][0].update(value="NaN"),
    "probe-rows-nan": lambda d: d["probe"].update(rows=[["x"] * 3] * 8),
    "probe-rows-ragged": lambda d: d["probe"]["rows"][0].append(1.0),
    "probe-rows-narrow": lambda d: d["probe"].update(rows=[[1.0]] * 8),
    "probe-rows-fewer": lambda d: d["probe"]["rows"].pop(),
    "probe-rows-many": lambda d: d["probe"].update(rows=[[0.0] * 3] * 2000),
    "probe-answers": lambda d: d["probe"].update(answers={}),
    "probe-answers-type": lambda d: d["probe"]["answers"].update(score_samples="x"),
    "classes-dtype": lambda d: d.update(classes_dtype="<U1000000000"),
}


@pytest.mark.parametrize("name", WRONG_DOCUMENTS)
def test_m05_descriptions_that_make_no_sense(name: str, saved: Saved, tmp_path: Path) -> None:
    path = edited(saved("density")[1], tmp_path / "a", lambda d, _: WRONG_DOCUMENTS[name](d))
    with pytest.raises(ModelFileError, match=f"^{re.escape(str(path))}: "):
        load(path)


class Wide(Config):
    """A flow whose config has no upper bounds."""

    hidden_units: Annotated[int, Field(ge=1)] = 4
    factor: float = 2.0


class Scaled(Transform):
    """z = factor * x, with as many weights beside it as are asked for."""

    def __init__(self, hidden_units: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.net = nn.Linear(hidden_units, 2)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        ladj = x.new_full((len(x),), x.shape[1] * math.log(self.factor))
        return x * self.factor + 0 * self.net.weight.sum(), ladj

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        ladj = z.new_full((len(z),), -z.shape[1] * math.log(self.factor))
        return z / self.factor, ladj


class OneWay(Scaled):
    """The same without an inverse."""

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("one way only")


class Plugin:
    """Offers `wide`, as another version of it may: with other mathematics or weights."""

    def __init__(self, extra: float = 0.0, units: int = 0, kind: type[Scaled] = Scaled) -> None:
        self.extra, self.units, self.kind = extra, units, kind

    @hookimpl
    def hybridflow_flows(self) -> Iterable[FlowSpec]:
        """Offer the flow."""
        return [
            FlowSpec(
                "wide",
                "A scaling",
                Wide,
                lambda _, config: self.kind(
                    config.hidden_units + self.units, config.factor + self.extra
                ),
                inverse="none" if self.kind is OneWay else "exact",
            )
        ]


class Other(Config):
    """A config of somebody else."""


class Namesake:
    """Offers another flow named `wide`."""

    @hookimpl
    def hybridflow_flows(self) -> Iterable[FlowSpec]:
        """Offer the flow."""
        return [FlowSpec("wide", "Not that one", Other, lambda *_: Scaled(4, 3.0))]


def registry_with(
    plugin: Plugin, distribution: str = "acme-flows", version: str = "1.2"
) -> Registry:
    registry = Registry(entry_points=False)
    registry.register(plugin, distribution=distribution, version=version)
    return registry


@pytest.fixture
def plugged(tmp_path: Path) -> Path:
    """Return a bundle that needs a plugin."""
    model = FlowDensity(
        Wide(), training=TRAINING, random_state=0, registry=registry_with(Plugin())
    ).fit(table()[0])
    model.save(tmp_path / "plugged.hflow")
    return tmp_path / "plugged.hflow"


class TestM14:
    def test_a_billion_hidden_units(self, plugged: Path, tmp_path: Path) -> None:
        def change(document: dict[str, Any], _: dict[str, Tensor]) -> None:
            document["components"]["flow"]["config"]["hidden_units"] = 10**9

        path = edited(plugged, tmp_path / "a", change)
        with pytest.raises(ResourceLimitError, match=re.escape(str(path))):
            load(path, registry=registry_with(Plugin()))

    def test_a_built_in(self, saved: Saved, tmp_path: Path) -> None:
        def change(document: dict[str, Any], _: dict[str, Tensor]) -> None:
            document["components"]["flow"]["config"]["hidden_units"] = 10**9

        path = edited(saved("density")[1], tmp_path / "a", change)
        with pytest.raises(ModelFileError, match="hidden_units"):
            load(path)

    def test_many_columns(self, saved: Saved, tmp_path: Path) -> None:
        """A linear map of 20,000 columns has 400 million weights."""

        def change(document: dict[str, Any], _: dict[str, Tensor]) -> None:
            column = document["schema"]["columns"][0]
            document["schema"]["columns"] = [column] * 20_000

        path = edited(saved("density")[1], tmp_path / "a", change)
        with pytest.raises(ResourceLimitError):
            load(path)

    @pytest.mark.parametrize(
        "allocate",
        [
            lambda: torch.empty(10**6),
            lambda: torch.zeros(1000, 1000),
            lambda: torch.randn(10**6),
            lambda: torch.arange(10**6),
            lambda: torch.eye(10**4),
            lambda: [torch.empty(1000) for _ in range(1000)],
            lambda: torch.ones(10**3).repeat(10**3),
        ],
        ids=["empty", "zeros", "randn", "arange", "eye", "many", "repeat"],
    )
    def test_limit(self, allocate: Callable[[], object]) -> None:
        with pytest.raises(ResourceLimitError), AllocationLimit(10**6):
            allocate()

    def test_views_and_changes_in_place_are_free(self) -> None:
        weight = torch.zeros(1000)
        with AllocationLimit(1000):
            for _ in range(100):
                weight.view(10, 100).T.detach().add_(1)
        assert weight[0] == 100


class TestM16:
    """Which distribution, in which version, and what to install."""

    @pytest.mark.parametrize(
        "version", ["", " 1", "1; rm -rf ~", "1\n", "--pre", "x" * 99, None, 1]
    )
    def test_version_that_is_none(self, version: object, plugged: Path, tmp_path: Path) -> None:
        def change(document: dict[str, Any], _: dict[str, Tensor]) -> None:
            document["components"]["flow"]["version"] = version

        path = edited(plugged, tmp_path / "a", change)
        with pytest.raises(CorruptModelError, match="version"):
            load(path, registry=registry_with(Plugin()))

    def test_not_installed(self, plugged: Path) -> None:
        with pytest.raises(MissingPluginError, match=r"pip install acme-flows==1\.2 ") as caught:
            load(plugged, registry=Registry(entry_points=False))
        assert str(plugged) in str(caught.value)

    def test_other_distribution_with_the_same_name(self, plugged: Path) -> None:
        registry = registry_with(Plugin(), distribution="evil-flows")
        with pytest.raises(MissingPluginError, match="acme-flows==1"):
            load(plugged, registry=registry)

    def test_two_distributions_with_the_same_name(self, plugged: Path) -> None:
        registry = registry_with(Plugin())
        registry.register(Namesake(), distribution="evil-flows", version="1.2")
        load(plugged, registry=registry)

    def test_registered_by_hand(self, tmp_path: Path) -> None:
        registry = registry_with(Plugin(), distribution="local", version="0")
        model = FlowDensity("wide", training=TRAINING, random_state=0, registry=registry)
        model.fit(table()[0]).save(tmp_path / "a")
        load(tmp_path / "a", registry=registry)
        with pytest.raises(MissingPluginError, match="registry=") as caught:
            load(tmp_path / "a", registry=Registry(entry_points=False))
        assert "pip install" not in str(caught.value)

    def test_same_version(self, plugged: Path) -> None:
        load(plugged, registry=registry_with(Plugin()))

    def test_other_version_that_answers_alike(self, plugged: Path) -> None:
        registry = registry_with(Plugin(), version="1.3")
        with pytest.warns(PluginVersionWarning, match=r"acme-flows 1\.2, installed is 1\.3"):
            model = load(plugged, registry=registry)
        assert model.score_samples(table()[0]).shape == (150,)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            report = verify(plugged, registry=registry)
        assert len(report.other_versions) == 1

    def test_other_version_that_answers_otherwise(self, plugged: Path) -> None:
        registry = registry_with(Plugin(extra=1e-4), version="1.3")
        with pytest.raises(ModelSelfTestError, match=r"pip install acme-flows==1\.2"):
            load(plugged, registry=registry)

    def test_other_version_with_other_weights(self, plugged: Path) -> None:
        registry = registry_with(Plugin(units=1), version="1.3")
        with pytest.raises(IncompatibleModelError, match=r"pip install acme-flows==1\.2"):
            load(plugged, registry=registry)

    def test_flow_without_an_inverse(self, tmp_path: Path) -> None:
        registry = registry_with(Plugin(kind=OneWay))
        model = FlowDensity("wide", training=TRAINING, random_state=0, registry=registry)
        model.fit(table()[0]).save(tmp_path / "a")
        assert verify(tmp_path / "a", registry=registry).probe_rows == 8


class TestM19:
    @pytest.mark.parametrize("case", CASES)
    def test_stored_answer_changed(self, case: str, saved: Saved, tmp_path: Path) -> None:
        for answer in inspect(saved(case)[1])["probe"]["answers"]:

            def change(
                document: dict[str, Any], _: dict[str, Tensor], answer: str = answer
            ) -> None:
                values = np.array(document["probe"]["answers"][answer])
                values.flat[-1] += 1e-3 * (1 + abs(values.flat[-1]))
                document["probe"]["answers"][answer] = values.tolist()

            path = edited(saved(case)[1], tmp_path / answer, change)
            with pytest.raises(ModelSelfTestError, match=answer):
                load(path)
            with pytest.raises(ModelSelfTestError, match=answer):
                verify(path)

    def test_weight_changed(self, saved: Saved, tmp_path: Path) -> None:
        """With the digest made right again, only the self-test can notice."""

        def change(_: dict[str, Any], tensors: dict[str, Tensor]) -> None:
            tensors["members.0.preprocess.transforms.0.location"][0] += 0.01

        path = edited(saved("density")[1], tmp_path / "a", change)
        with pytest.raises(ModelSelfTestError, match="score_samples"):
            load(path)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.hflow")), ids=lambda path: path.stem)
def test_m18_golden_bundles(path: Path) -> None:
    """Every bundle ever released loads, and answers as it did."""
    expected = json.loads(path.with_suffix(".json").read_text())
    model = load(path)
    X = np.array(expected["X"])
    for method, values in expected["answers"].items():
        found = getattr(model, method)(X)
        assert np.allclose(found, np.array(values), rtol=1e-6, atol=1e-6), method


def test_m18_there_are_golden_bundles_of_every_estimator() -> None:
    kinds = {inspect(path)["estimator"] for path in GOLDEN.glob("*.hflow")}
    assert kinds == {"HybridClassifier", "HybridRegressor", "FlowDensity", "FlowOutlierDetector"}


def test_config_errors_of_the_user_stay_config_errors() -> None:
    """Only a file's own configs are the file's fault."""
    with pytest.raises(ConfigError):
        FlowDensity("no-such-flow").fit(table()[0])
