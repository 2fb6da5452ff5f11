"""What all displays have in common, and how they take the place they are given."""

from __future__ import annotations

import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

import hybridflow.plots
from hybridflow.errors import InputError, MissingExtraError
from hybridflow.history import Record
from hybridflow.laws import GaussianLaw
from hybridflow.plots import (
    CoverageDisplay,
    DensityHistogramDisplay,
    LatentDisplay,
    LearningCurveDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
    SamplesDisplay,
    TradeOffDisplay,
)
from hybridflow.plots.canvas import COLORS, marker

RNG = np.random.default_rng(0)
WEIGHTS = (0.0, 0.3, 1.0)
TABLE = {
    "likelihood_weight": np.repeat(WEIGHTS, 2),
    "split": np.tile([0, 1], 3),
    **{
        name: RNG.random(6)
        for name in ("error", "negative_log_likelihood", "calibration", "log_density")
    },
}
HISTORY = [
    Record(step=step, value=5 / (step + 1), task=1.0, density=4.0, learning_rate=1e-3)
    for step in range(0, 50, 10)
]
DRAW = {
    "coverage": lambda ax: CoverageDisplay.from_predictions(
        [True, False] * 5, list("ab" * 5), ax=ax
    ),
    "density": lambda ax: DensityHistogramDisplay.from_predictions(
        {"train": RNG.random(30)}, ax=ax
    ),
    "latent": lambda ax: LatentDisplay.from_predictions(
        RNG.normal(size=(30, 3)), base=RNG.normal(size=(5000, 3)), ax=ax
    ),
    "learning": lambda ax: LearningCurveDisplay.from_predictions([HISTORY], ax=ax),
    "reliability": lambda ax: ReliabilityDisplay.from_predictions(
        RNG.integers(0, 2, 40), RNG.random(40), ax=ax
    ),
    "reliability-of-a-law": lambda ax: ReliabilityDisplay.from_predictions(
        RNG.normal(size=40), GaussianLaw(np.zeros(40), np.ones(40)), ax=ax
    ),
    "risk": lambda ax: RiskCoverageDisplay.from_predictions(
        RNG.random(20), {"score": RNG.random(20)}, ax=ax
    ),
    "samples": lambda ax: SamplesDisplay.from_predictions(
        RNG.random((20, 2)), RNG.random((20, 2)), ax=ax
    ),
    "trade-off": lambda ax: TradeOffDisplay.from_predictions(TABLE, ax=ax),
}
each_display = pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW.keys())


@each_display
def test_a_new_figure_is_made_and_can_be_rendered(draw, tmp_path):
    before = dict(matplotlib.rcParams)
    display = draw(None)
    assert display.ax_.get_figure(root=True) is display.figure_
    display.figure_.savefig(tmp_path / "display.png")
    assert dict(matplotlib.rcParams) == before


@each_display
def test_axes_that_are_given_are_drawn_in(draw):
    figure, axes = plt.subplots(1, 2, layout="constrained")
    display = draw(axes[0])
    assert display.figure_ is figure
    figure.draw_without_rendering()
    place, other = display.ax_.get_position(), axes[1].get_position()
    assert place.x1 < other.x0
    assert plt.get_fignums() == [figure.number]


@each_display
def test_axes_without_a_grid_are_divided_too(draw):
    figure = plt.figure()
    ax = figure.add_axes((0.5, 0.1, 0.4, 0.8))
    display = draw(ax)
    figure.draw_without_rendering()
    assert display.ax_.get_position().x0 > 0.49


@each_display
def test_a_display_can_be_drawn_again(draw):
    display = draw(None)
    first = display.figure_
    assert display.plot() is display
    assert display.figure_ is not first


@each_display
def test_no_text_covers_another(draw):
    """Tick labels, axis labels and legends of the panels lie apart."""
    display = draw(None)
    display.figure_.draw_without_rendering()
    renderer = display.figure_.canvas.get_renderer()
    boxes = []
    for ax in display.figure_.axes:
        texts = [ax.xaxis.label, ax.yaxis.label]
        texts += [label for label in ax.get_xticklabels() if label.get_visible()]
        for text in texts:
            box = text.get_window_extent(renderer)
            if text.get_text() and ax.axison and text.get_visible() and box.width > 1:
                boxes.append((text.get_text(), box))
    overlaps = [
        (a, b)
        for i, (a, first) in enumerate(boxes)
        for b, second in boxes[i + 1 :]
        if first.padded(-1).overlaps(second.padded(-1))
    ]
    assert not overlaps


def test_colours_and_markers_tell_28_classes_apart():
    pairs = {(COLORS[i % len(COLORS)], marker(i)) for i in range(28)}
    assert len(pairs) == 28


def test_axes_that_were_removed_are_refused():
    _, ax = plt.subplots()
    ax.remove()
    with pytest.raises(InputError, match="was removed"):
        SamplesDisplay.from_predictions(RNG.random((9, 2)), RNG.random((9, 2)), ax=ax)


@pytest.mark.parametrize(
    "draw",
    [
        lambda m: LatentDisplay.from_estimator(m, [[0.0, 1.0]]),
        lambda m: SamplesDisplay.from_estimator(m, [[0.0, 1.0]]),
        lambda m: DensityHistogramDisplay.from_estimator(m, {"train": [[0.0, 1.0]]}),
        lambda m: CoverageDisplay.from_estimator(m, [[0.0, 1.0]], [1.0]),
        lambda m: ReliabilityDisplay.from_estimator(m, [[0.0, 1.0]], [1.0]),
    ],
    ids=["transform", "sample", "score_samples", "predict_interval", "predict_distribution"],
)
def test_an_estimator_without_the_method_is_named(draw):
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit([[0.0, 1.0], [1.0, 0.0]], [0.0, 1.0])
    with pytest.raises(InputError, match=r"LinearRegression has no \w+\(\)"):
        draw(model)


def test_importing_displays_imports_no_matplotlib():
    code = "import hybridflow.plots, sys; assert 'matplotlib' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtraError, match=r'pip install "hybridflow\[plots\]"'):
        DRAW["density"](None)


def test_every_display_is_tested_here():
    drawn = {type(draw(None)).__name__ for draw in DRAW.values()}
    assert drawn == {name for name in hybridflow.plots.__all__ if name.endswith("Display")}
