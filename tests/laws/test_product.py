"""Laws of several outputs against the laws of each, enumeration and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from hybridflow.errors import InputError
from hybridflow.laws import (
    CategoricalLaw,
    Discretized,
    GaussianLaw,
    JointLaw,
    JointMixture,
    MixtureLaw,
    ProductLaw,
    mixed,
)

FIRST = ProductLaw(
    [GaussianLaw([0.0, 1.0, 2.0], [1.0, 2.0, 3.0]), GaussianLaw([5.0, 6.0, 7.0], [1.0, 0.5, 0.1])]
)
SECOND = ProductLaw(
    [GaussianLaw([3.0, 1.0, -2.0], [1.0, 1.0, 1.0]), GaussianLaw([8.0, 6.0, 9.0], [1.0, 1.0, 1.0])]
)
WEIGHTS = np.array([[0.3, 0.7], [0.5, 0.5], [1.0, 0.0]])
LAWS = {"product": FIRST, "mixture": JointMixture([FIRST, SECOND], WEIGHTS)}


@pytest.fixture(params=LAWS)
def law(request: pytest.FixtureRequest) -> JointLaw:
    return LAWS[request.param]


def test_each_output_answers_alone(law: JointLaw) -> None:
    y = np.array([[0.5, 5.5], [1.0, 7.0], [2.0, 7.0]])
    p = np.array([[0.1, 0.5, 0.9]])
    for i in range(2):
        one = law.marginal(i)
        assert_array_equal(law.mean()[:, i], one.mean())
        assert_array_equal(law.std()[:, i], one.std())
        assert_array_equal(law.cdf(y)[:, i], one.cdf(y[:, i]))
        assert_array_equal(law.sf(y)[:, i], one.sf(y[:, i]))
        assert_array_equal(law.quantile(p)[..., i], one.quantile(p))
        assert_array_equal(law.quantile(0.5)[:, i], one.quantile(0.5))
    assert len(law) == 3
    assert law.outputs == 2


def test_product_multiplies() -> None:
    y = np.array([[0.5, 5.5], [1.0, 7.0], [2.0, 7.0]])
    expected = sum(one.log_prob(y[:, i]) for i, one in enumerate(FIRST.marginals))
    assert_allclose(FIRST.log_prob(y), expected, rtol=1e-14)
    box = FIRST.log_mass(y - 1, y + 1)
    parts = [one.log_mass(y[:, i] - 1, y[:, i] + 1) for i, one in enumerate(FIRST.marginals)]
    assert_allclose(box, sum(parts), rtol=1e-14)


def test_mixture_keeps_the_outputs_together() -> None:
    law, y = LAWS["mixture"], np.array([[0.5, 5.5], [1.0, 7.0], [2.0, 7.0]])
    each = np.stack([np.exp(one.log_prob(y)) for one in (FIRST, SECOND)], -1)
    assert_allclose(np.exp(law.log_prob(y)), (WEIGHTS * each).sum(-1), rtol=1e-12)
    apart = sum(one.log_prob(y[:, i]) for i, one in enumerate(law.marginals))
    assert np.abs(law.log_prob(y) - apart)[0] > 0.1


def test_many_values_per_row(law: JointLaw) -> None:
    y = np.random.default_rng(0).normal(3.0, 3.0, (3, 7, 2))
    found = law.log_prob(y)
    assert found.shape == (3, 7)
    for m in range(7):
        assert_allclose(found[:, m], law.log_prob(y[:, m]), rtol=1e-13)
    assert law.cdf(y).shape == (3, 7, 2)


def test_samples_follow_the_joint_law(law: JointLaw) -> None:
    draws = law.sample(4000, np.random.default_rng(1))
    assert draws.shape == (3, 4000, 2)
    for i in range(2):
        for row in range(3):
            p = law.marginal(i).cdf(draws[..., i])[row]
            assert stats.kstest(p, "uniform").pvalue > 1e-3
    error = np.cov(draws[0].T)[0, 1]
    # Of two members the covariance is that of their means; 4,000 draws know it to 0.07.
    shift = (FIRST.mean() - SECOND.mean())[0]
    expected = 0.3 * 0.7 * shift[0] * shift[1] if isinstance(law, JointMixture) else 0.0
    assert abs(error - expected) < 0.3


def test_rows_are_picked(law: JointLaw) -> None:
    some = law[np.array([2, 0])]
    assert_array_equal(some.mean(), law.mean()[[2, 0]])
    assert len(law[1]) == 1


def test_lattice_is_that_of_all_or_none() -> None:
    counts = Discretized(GaussianLaw([0.0], [1.0]), 1.0)
    both, half = ProductLaw([counts, counts]), ProductLaw([counts, GaussianLaw([0.0], [1.0])])
    assert both.lattice == (0.0, 1.0)
    assert half.lattice is None


def test_mass_of_labels_sums_to_one() -> None:
    labels = [CategoricalLaw([[0.2, 0.8]], (0, 1)), CategoricalLaw([[0.6, 0.4]], (0, 1))]
    every = np.array([[[0, 0], [0, 1], [1, 0], [1, 1]]])
    assert_allclose(np.exp(ProductLaw(labels).log_prob(every)), [[0.12, 0.08, 0.48, 0.32]])


def test_mixed_takes_what_the_laws_are() -> None:
    plain = GaussianLaw([0.0], [1.0])
    assert mixed([plain]) is plain
    assert isinstance(mixed([plain, plain]), MixtureLaw)
    assert isinstance(mixed([FIRST, SECOND]), JointMixture)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(InputError, match=r"takes an array of shape \(3, 2\)"):
        FIRST.log_prob([1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="same number of rows"):
        ProductLaw([GaussianLaw([0.0], [1.0]), GaussianLaw([0.0, 0.0], [1.0, 1.0])])
    with pytest.raises(InputError, match="same number of outputs"):
        JointMixture([FIRST, ProductLaw([GaussianLaw([0.0] * 3, [1.0] * 3)])])
