"""Answer each line of the standard input with one run of Evidently's drift preset; only its own environment runs this.

    python evidently_drift.py REFERENCE.csv CURRENT.csv CATEGORY,CATEGORY,...

A line is empty, or the path of a page to write. The answer is a line of JSON: the seconds that it took, and the value
of each column with the method that Evidently chose for it.
"""

import json
import sys
import time

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset


def main() -> None:
    """Read both tables, then answer until the input ends."""
    categories = sys.argv[3].split(",")
    then, now = (pd.read_csv(path, dtype=dict.fromkeys(categories, str)) for path in sys.argv[1:3])
    numbers = [name for name in then if name not in categories]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    for line in sys.stdin:
        began = time.perf_counter()
        found = Report([DataDriftPreset()]).run(Dataset.from_pandas(now, data_definition=definition),
                                                Dataset.from_pandas(then, data_definition=definition))
        if line.strip():
            found.save_html(line.strip())
        seconds = time.perf_counter() - began
        values = {one["config"]["column"]: [one["config"]["method"], one["value"]] for one in found.dict()["metrics"]
                  if "column" in one["config"]}
        print(json.dumps({"seconds": seconds, "values": values}), flush=True)


if __name__ == "__main__":
    main()
