"""Fit one booster. The training notebook of the benchmarks is made of the cells of this script."""

# %% parameters
path = "rows.parquet"
learning_rate = 0.1
max_leaf_nodes = 31

# %%
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

rows = pd.read_parquet(path)
X, y = rows.drop(columns="y"), rows["y"]
X.describe()

# %%
booster = HistGradientBoostingClassifier(learning_rate=learning_rate, max_leaf_nodes=max_leaf_nodes, max_iter=100,
                                         early_stopping=False, random_state=0)
booster.fit(X, y)

# %%
print(f"AUC on its own rows: {roc_auc_score(y, booster.predict_proba(X)[:, 1]):.4f}")
