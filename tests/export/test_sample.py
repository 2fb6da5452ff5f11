"""sample.onnx: rows from noise."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .conftest import Exported, session_of


def drawn(exported: Exported, n: int) -> tuple[pd.DataFrame, np.ndarray]:
    session = session_of(exported.folder / "sample.onnx")
    rng = np.random.default_rng(0)
    sizes = {value.name: value.shape[1:] for value in session.get_inputs()}
    feed = {"noise": rng.normal(size=(n, *sizes["noise"]))}
    if "member" in sizes:
        feed["member"] = rng.integers(0, 2, n)
    if "uniform" in sizes:
        feed["uniform"] = rng.random((n, *sizes["uniform"]))
    names = [output.name for output in session.get_outputs()]
    columns = dict(zip(names, session.run(None, feed), strict=True))
    return pd.DataFrame(columns), feed["noise"]


def test_the_latent_of_a_drawn_row_is_its_noise(density: Exported) -> None:
    rows, noise = drawn(density, 50)
    np.testing.assert_allclose(density.run(rows)["latent"], noise, atol=1e-9)


def test_rows_follow_the_model(density: Exported) -> None:
    rows, _ = drawn(density, 4000)
    own = density.estimator.sample(4000, random_state=0)
    for name in rows:
        quartiles = np.quantile(own[name], [0.25, 0.75])
        inside = rows[name].between(*quartiles).mean()
        assert abs(inside - 0.5) < 0.04, name


def test_mixed_rows_are_as_the_table_is(classifier: Exported) -> None:
    rows, _ = drawn(classifier, 2000)
    table = classifier.table
    assert set(rows["city"]) == {"Bern", "Genf", "Zürich", ""}
    assert set(rows["zone"]) == {1.0, 2.0, 7.0}
    assert set(rows["works"]) == {0.0, 1.0}
    assert (rows["age"] == rows["age"].round()).all()
    assert abs(rows["income"].isna().mean() - table["income"].isna().mean()) < 0.06
