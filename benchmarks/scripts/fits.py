"""Fit and judge as training.py does: fits.py ROWS RATE:LEAVES ...; print the seconds without imports and reading."""

import sys
import time

import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

rows = pd.read_parquet(sys.argv[1])
X, y = rows.drop(columns="y"), rows["y"]
began = time.perf_counter()
for variant in sys.argv[2:]:
    rate, leaves = variant.split(":")
    booster = HistGradientBoostingClassifier(learning_rate=float(rate), max_leaf_nodes=int(leaves), max_iter=100,
                                             early_stopping=False, random_state=0)
    roc_auc_score(y, booster.fit(X, y).predict_proba(X)[:, 1])
print(time.perf_counter() - began)
