"""The same forest behind BentoML, which has an environment of its own. BENCH_MODEL is the file of the model."""

import os

import bentoml
import joblib
import pandas as pd


@bentoml.service(workers=1)
class Forest:
    """Answer rows with probabilities."""

    def __init__(self) -> None:
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    @bentoml.api
    def predict(self, rows: list[dict]) -> list[list[float]]:
        """Answer one row or many."""
        return self.model.predict_proba(pd.DataFrame(rows)).tolist()
