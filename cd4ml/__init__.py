import sys

__version__ = "0.1.0"

# It cannot be imported beside the pandas that cd4ml needs, yet pandera tries to wherever pyspark is installed, which
# costs time and prints a warning.
sys.modules.setdefault("pyspark.pandas", None)  # type: ignore[arg-type]
