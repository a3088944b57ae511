"""Train the model that scoring.py serves and write its parameters to model.json.

The parameters are written as JSON, not pickled: a model file from a stranger can then hold wrong numbers, but no code.
"""

import json
from pathlib import Path

from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

MODEL_FILE = Path(__file__).with_name("model.json")
FEATURES = ("alcohol", "flavanoids", "color_intensity", "proline")


def train() -> dict[str, object]:
    """Fit a logistic regression on four measurements of scikit-learn's wine data and return its parameters."""
    wines = load_wine()
    columns = [wines.feature_names.index(name) for name in FEATURES]
    measured, held_out, cultivars, expected = train_test_split(
        wines.data[:, columns], wines.target, test_size=0.25, random_state=0, stratify=wines.target
    )
    scaler = StandardScaler().fit(measured)
    classifier = LogisticRegression(random_state=0).fit(scaler.transform(measured), cultivars)
    return {
        "features": FEATURES,
        "mean": scaler.mean_.tolist(),
        "scale": scaler.scale_.tolist(),
        "lowest": measured.min(axis=0).tolist(),
        "highest": measured.max(axis=0).tolist(),
        "classes": [f"cultivar {number}" for number in classifier.classes_],
        "coefficients": classifier.coef_.tolist(),
        "intercepts": classifier.intercept_.tolist(),
        "accuracy": classifier.score(scaler.transform(held_out), expected),
    }


if __name__ == "__main__":
    model = train()
    MODEL_FILE.write_text(json.dumps(model, indent=2) + "\n", encoding="utf-8")
    print(f"Wrote {MODEL_FILE.name}; accuracy on wines the model has not seen: {model['accuracy']:.3f}")
