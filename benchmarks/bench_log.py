"""What looking into the prediction log costs: `cd4ml predictions` on ten million, beside a folder of Parquet files."""

import datetime as dt
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pairs import Row, at_most, make_row, time_pair

DAYS, RELEASES, BATCH = 30, 4, 20_000
BEGAN = 1_772_323_200_000  # a midnight [ms]


def measure(turns: int) -> Iterator[Row]:
    """Measure on ten million predictions; with one turn, on a few thousand."""
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    from cd4ml.production.lines import DAY
    from cd4ml.production.parts import name_day
    from cd4ml.production.queries import LogQuery, count_predictions, find_predictions

    rows = 10_000_000 if turns > 1 else 30_000
    with tempfile.TemporaryDirectory() as place:
        address, folder = Path(place) / "log", Path(place) / "parquet"
        one = build_logs(address, folder, rows)
        partition = ds.partitioning(flavor="hive")
        peer = ds.dataset(folder, format="parquet", partitioning=partition)
        day = BEGAN // DAY + DAYS // 2
        window = (dt.datetime.fromtimestamp((day + i) * DAY / 1000, dt.UTC) for i in (0, 1))
        asked = LogQuery("flights", *window, release=2)
        pairs = {
            "counts by day and release": (
                lambda: count_predictions(address, LogQuery("flights"), "day"),
                lambda: peer.to_table(columns=["day", "release"]).group_by(["day", "release"]).aggregate(
                    [([], "count_all")])),
            "the newest 20 of a day and a release": (
                lambda: find_predictions(address, asked, 20),
                lambda: peer.to_table(filter=(pc.field("day") == name_day(day)) & (pc.field("release") == 2)).sort_by(
                    [("at", "descending")]).slice(0, 20)),
            "a prediction by its id": (
                lambda: find_predictions(address, LogQuery("flights", prediction_id=one[0])),
                lambda: peer.to_table(filter=pc.field("prediction_id") == one[0])),
            "predictions by their key": (
                lambda: find_predictions(address, LogQuery("flights", key=one[7])),
                lambda: peer.to_table(filter=pc.field("key") == one[7]))}
        for what, (ours, theirs) in pairs.items():
            bounds = (at_most(1.0),) if turns > 1 else ()
            yield make_row(f"{what}, of {rows:,} | the same from Parquet files by day, pyarrow",
                           time_pair(ours, theirs, turns), *bounds)


def build_logs(address: Path, folder: Path, count: int) -> tuple[Any, ...]:
    """Write `count` predictions to the log at `address` and as Parquet to `folder`, and return one of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cd4ml.production.lines import COLUMNS, DAY
    from cd4ml.production.parts import name_day
    from cd4ml.production.predictions import PredictionLog

    log, dice, a_day = PredictionLog(address), random.Random(5), count // DAYS
    chosen: tuple[Any, ...] = ()
    for day in range(DAYS):
        place = folder / f"day={name_day(BEGAN // DAY + day)}"
        place.mkdir(parents=True)
        schema, writer = None, None
        for start in range(0, a_day, BATCH):
            rows = [make_prediction(dice, BEGAN + day * DAY + (start + i) * DAY // a_day, day)
                    for i in range(min(BATCH, a_day - start))]
            log.write(rows)
            columns = map(list, zip(*rows, strict=True))
            table = pa.table(dict(zip(COLUMNS.split(", "), columns, strict=True)), schema=schema)
            schema, writer = table.schema, writer or pq.ParquetWriter(place / "rows.parquet", table.schema)
            writer.write_table(table)
            chosen = rows[len(rows) // 2] if day <= DAYS // 3 else chosen
        if writer:
            writer.close()
    log.close()
    return chosen


def make_prediction(dice: random.Random, at: int, day: int) -> tuple[Any, ...]:
    """Return a row of the log for an answer of flights."""
    one, miles, late = f"{at:012x}{dice.getrandbits(64):016x}", dice.randrange(200, 2500), dice.random()
    features = f'{{"distance":{miles},"hour":{miles % 24},"carrier":"UA","origin":"JFK","temp":{late * 40:.2f}}}'
    answer = f'{{"prediction":{"true" if late > 0.5 else "false"},"probability":{late:.6f}}}'
    release = 1 + day * RELEASES // DAYS + (miles % 10 == 0)
    return one, one, at, "flights", release, features, answer, f"UA{dice.randrange(10**7)}", "champion", 0.002
