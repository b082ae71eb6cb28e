"""A classifier of scikit-learn, as any function: `python train.py` trains it over a small search.

The same function from the command line:

    itwinai hpo run train.py:train --space space.yaml --metric validation_accuracy --mode max
"""

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

from itwinai.hpo import tune

#: All that a classifier of this kind has learnt: plain arrays and numbers.
LEARNT = ("classes_", "coef_", "intercept_", "n_features_in_", "t_")

CONFIG = {"alpha": 1e-4, "eta0": 0.1, "power": 0.25}

SPACE = {
    "alpha": {"type": "loguniform", "lower": 1e-6, "upper": 1e-1},
    "eta0": {"type": "loguniform", "lower": 1e-3, "upper": 1},
    "power": {"type": "uniform", "lower": 0, "upper": 0.8},
}


def train(config, trial):
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, labels, test_size=0.3, random_state=0)
    seen, unseen, seen_labels, unseen_labels = parts
    model = SGDClassifier(
        alpha=config.alpha, eta0=config.eta0, power_t=config.power, learning_rate="invscaling"
    )
    vars(model).update(trial.load() or {})
    for _ in trial.epochs():
        model.partial_fit(seen, seen_labels, classes=range(10))
        accuracy = model.score(unseen, unseen_labels)
        learnt = {name: getattr(model, name) for name in LEARNT}
        trial.report({"validation_accuracy": accuracy}, checkpoint=learnt)


if __name__ == "__main__":
    result = tune(
        train,
        SPACE,
        config=CONFIG,
        epochs=6,
        metric="validation_accuracy",
        mode="max",
        num_samples=12,
        seed=1,
        name="any-function",
    )
    print(f"best: {result.best.params}")
