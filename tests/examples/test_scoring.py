"""The scoring service."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import httpx
import pytest

pytest.importorskip("sklearn")

from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tests.conftest import Serve

Load = Callable[[str], ModuleType]

WINE = {"alcohol": 14.2, "flavanoids": 3.1, "color_intensity": 5.6, "proline": 1000.0}


@pytest.fixture
def scoring(load: Load) -> ModuleType:
    """Return the module, with its model trained."""
    train = load("scoring/train.py")
    train.MODEL_FILE.write_text(json.dumps(train.train()), encoding="utf-8")
    return load("scoring/scoring.py")


def test_the_model_is_good(load: Load) -> None:
    """The trained model is right about more than nine in ten wines that it has not seen."""
    assert load("scoring/train.py").train()["accuracy"] > 0.9


def test_the_model_survives_json(scoring: ModuleType) -> None:
    """The estimators rebuilt from JSON give the probabilities of estimators fitted on the same numbers."""
    model = scoring.load_model()
    try:
        wines = load_wine()
        columns = wines.data[:, [wines.feature_names.index(name) for name in model.file.features]]
        accuracy = (
            model.classifier.predict(model.scaler.transform(columns))
            == [f"cultivar {number}" for number in wines.target]
        ).mean()
        assert accuracy > 0.9
        assert isinstance(model.scaler, StandardScaler)
        assert isinstance(model.classifier, LogisticRegression)
    finally:
        scoring.unload_model(model)


def test_an_untrained_model_stops_the_start(folder: Path, serve: Serve) -> None:
    """Without model.json the server does not start, and says how to write it."""
    server = serve("examples/scoring/scoring.py", cwd=folder, ready=False)
    assert server.process.wait(30) != 0
    assert "train.py" in server.stderr()


def test_answers(scoring: ModuleType, folder: Path, serve: Serve) -> None:
    """A wine is scored and explained, the weightiest measurement first; where the model guesses, a warning says so."""
    server = serve("examples/scoring/scoring.py", "--config", "examples/scoring/settings.yaml", cwd=folder)
    usual = invoke(server.url, WINE)
    assert usual["score"]["cultivar"] in usual["score"]["probabilities"]
    assert sum(usual["score"]["probabilities"].values()) == pytest.approx(1)
    assert {entry["feature"] for entry in usual["explanation"]} == WINE.keys()
    weights = [abs(entry["contribution"]) for entry in usual["explanation"]]
    assert weights == sorted(weights, reverse=True)
    assert usual["warnings"] == []
    (warning,) = invoke(server.url, {**WINE, "proline": 9000.0})["warnings"]
    assert warning.startswith("proline is 9000")


def invoke(url: str, wine: dict[str, float]) -> dict:
    answer = httpx.post(f"{url}/invoke", json={"parameters": {"wine": wine}})
    assert answer.status_code == httpx.codes.OK, answer.text
    outputs: dict = answer.json()["outputs"]
    return outputs
