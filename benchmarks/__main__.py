"""Run all benchmarks, or those named; print one table and write one record. `make bench` calls it.

    python benchmarks [--quick] [--out FILE] [notebooks sweep run delivery]
"""

import argparse
import importlib
import sys
from pathlib import Path

from pairs import ROOT, Row, show_rows, write_record

NAMES = tuple(path.stem.removeprefix("bench_") for path in sorted(Path(__file__).parent.glob("bench_*.py")))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; none: all")
    parser.add_argument("--quick", action="store_true", help="one turn each, and small data: to see that it works")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/latest.json")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    rows, turns = list[Row](), 1 if options.quick else 5
    for name in options.names or NAMES:
        print(f"{name} ...", file=sys.stderr)
        rows += importlib.import_module(f"bench_{name}").measure(turns)
    show_rows(rows)
    write_record(rows, turns, options.out)


if __name__ == "__main__":
    main()
