"""Tell from four measurements which cultivar a wine is from: validate, featurise, score, explain.

`train.py` writes the model.json that is loaded here, once per process, before the first request.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from asgipipe import get_step_context, pipeline, step

MODEL_FILE = Path(__file__).with_name("model.json")

Vector = NDArray[np.float64]


class Wine(BaseModel):
    alcohol: Annotated[float, Field(gt=0, lt=100, description="Per cent by volume.")]
    flavanoids: Annotated[float, Field(ge=0, lt=100, description="Total flavonoids, as in the data set.")]
    color_intensity: Annotated[float, Field(ge=0, lt=100, description="Absorbance, as in the data set.")]
    proline: Annotated[float, Field(ge=0, lt=10_000, description="Milligrams per litre.")]


class Score(BaseModel):
    cultivar: str
    probability: float
    probabilities: dict[str, float]


class Contribution(BaseModel):
    """How much one measurement spoke for the cultivar that was found (above 0) or against it, in log-odds."""

    feature: str
    value: float
    contribution: float


class ModelFile(BaseModel, extra="forbid"):
    """What train.py writes."""

    features: list[str]
    mean: list[float]
    scale: list[float]
    lowest: list[float]
    highest: list[float]
    classes: list[str]
    coefficients: list[list[float]]
    intercepts: list[float]
    accuracy: float


@dataclass(frozen=True)
class Model:
    """The state of the pipeline: what `on_init` returns and every run shares."""

    file: ModelFile
    scaler: StandardScaler
    classifier: LogisticRegression
    blas: threadpool_limits


def load_model(path: str = str(MODEL_FILE)) -> Model:
    """Rebuild the estimators from their parameters.

    Requests are answered in several threads already, so each of them gets one BLAS thread.
    """
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"There is no {file.name} yet; write it with: python {file.with_name('train.py')}")
    parameters = ModelFile.model_validate_json(file.read_bytes())
    scaler = StandardScaler()
    scaler.mean_, scaler.scale_ = np.array(parameters.mean), np.array(parameters.scale)
    scaler.n_features_in_ = len(parameters.features)
    classifier = LogisticRegression()
    classifier.coef_, classifier.intercept_ = np.array(parameters.coefficients), np.array(parameters.intercepts)
    classifier.classes_ = np.array(parameters.classes)
    classifier.n_features_in_ = len(parameters.features)
    return Model(parameters, scaler, classifier, threadpool_limits(1))


def unload_model(model: Model) -> None:
    model.blas.restore_original_limits()


def current_model() -> Model:
    return cast(Model, get_step_context().pipeline_state)


@step
def validate(wine: Wine) -> list[str]:
    """Name the measurements outside of what the model was trained on: there its answer is a guess."""
    file = current_model().file
    ranges = zip(file.features, file.lowest, file.highest, strict=True)
    return [
        f"{feature} is {value:g}; the model knows {lowest:g} to {highest:g}"
        for feature, lowest, highest in ranges
        if not lowest <= (value := getattr(wine, feature)) <= highest
    ]


@step
def featurise(wine: Wine) -> Vector:
    """Put the measurements in the model's order and on its scale."""
    model = current_model()
    vector: Vector = model.scaler.transform([[getattr(wine, feature) for feature in model.file.features]])
    return vector


@step
def score(vector: Vector) -> Score:
    classifier = current_model().classifier
    probabilities = dict(zip(classifier.classes_.tolist(), classifier.predict_proba(vector)[0].tolist(), strict=True))
    cultivar = max(probabilities, key=probabilities.__getitem__)
    return Score(cultivar=cultivar, probability=probabilities[cultivar], probabilities=probabilities)


@step
def explain(wine: Wine, vector: Vector, cultivar: str) -> list[Contribution]:
    """List the measurements, the weightiest first."""
    file = current_model().file
    contributions = vector[0] * np.array(file.coefficients[file.classes.index(cultivar)])
    listed = [
        Contribution(feature=feature, value=getattr(wine, feature), contribution=contribution)
        for feature, contribution in zip(file.features, contributions.tolist(), strict=True)
    ]
    return sorted(listed, key=lambda entry: abs(entry.contribution), reverse=True)


@pipeline(on_init=load_model, on_cleanup=unload_model)
def scoring(
    wine: Wine,
) -> tuple[
    Annotated[Score, "score"],
    Annotated[list[Contribution], "explanation"],
    Annotated[list[str], "warnings"],
]:
    """Find the cultivar of a wine and say why."""
    warnings = validate(wine)
    vector = featurise(wine)
    result = score(vector)
    return result, explain(wine, vector, result.cultivar), warnings
