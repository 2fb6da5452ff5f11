"""One model, five answers: run it with ``python examples/quickstart.py``."""

import tempfile

from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

import hybridflow
from hybridflow import HybridClassifier, TrainingConfig

X, y = load_iris(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

model = HybridClassifier(training=TrainingConfig(steps=300), random_state=0).fit(X_train, y_train)
print("share of right answers:", model.score(X_test, y_test))
print("how sure, per class:\n", model.predict_proba(X_test[:3]).round(3))
print("log p(x) of a flower:", model.score_samples(X_test)[0].round(1))
print("log p(x) of one twice as large:", model.score_samples(2 * X_test)[0].round(1))
flowers, species = model.sample(3, random_state=0)
print(flowers.assign(species=species))

with tempfile.TemporaryDirectory() as folder:
    model.save(f"{folder}/iris.hflow")
    again = hybridflow.load(f"{folder}/iris.hflow")
print("the saved model predicts the same:", (again.predict(X_test) == model.predict(X_test)).all())
