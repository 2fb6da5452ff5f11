"""Know when not to answer: p-values, a report, and predictions that are withheld.

    python examples/novelty.py

A classifier of wines meets bottles that it cannot know: half of their measurements are taken
from another bottle, so that each is usual by itself and the whole is not.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from hybridflow import HybridClassifier
from hybridflow.metrics import area_under_risk_coverage


def main() -> None:
    """Fit, meet usual and mixed-up bottles, and decline."""
    X, y = load_wine(return_X_y=True, as_frame=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.4, stratify=y, random_state=0
    )
    held_out = np.random.default_rng(0).permutation(len(X_train))[:25]
    model = HybridClassifier(calibration=held_out, random_state=0).fit(X_train, y_train)

    mixed = X_test.copy()
    other = X_test.sample(frac=1, random_state=1)
    for name in X.columns[::2]:
        mixed[name] = other[name].to_numpy()

    for name, rows in (("usual", X_test), ("mixed up", mixed)):
        p = model.novelty_pvalue(rows)
        answers = model.predict_or_abstain(rows)
        print(
            f"{name} bottles: {(p <= 0.05).mean():.0%} with p <= 0.05, "
            f"{answers.mask.mean():.0%} declined"
        )

    rows = pd.concat([X_test, mixed])
    wrong = model.predict(rows) != np.concatenate([y_test, y_test])
    ours = area_under_risk_coverage(wrong, model.rejection_score(rows))
    confidence = area_under_risk_coverage(wrong, -model.predict_proba(rows).max(axis=1))
    print(f"area under the risk-coverage curve: {ours:.3f}, by confidence alone {confidence:.3f}")

    strangest = mixed.iloc[[int(np.argmin(model.novelty_pvalue(mixed)))]]
    print(model.novelty_report(strangest))


if __name__ == "__main__":
    main()
