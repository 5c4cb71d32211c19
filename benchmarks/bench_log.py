"""What looking into the prediction log costs: `cd4ml predictions` on ten million, beside a folder of Parquet files."""

import datetime as dt
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pairs import Row, at_most, make_row, time_pair

DAYS, RELEASES, BATCH, REQUEST = 30, 4, 20_000, 100
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
        one, other = build_logs(address, folder, rows)
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
            "one of a request of a hundred rows by its id": (
                lambda: find_predictions(address, LogQuery("flights", prediction_id=other[0])),
                lambda: peer.to_table(filter=pc.field("prediction_id") == other[0])),
            "predictions by their key": (
                lambda: find_predictions(address, LogQuery("flights", key=one[7])),
                lambda: peer.to_table(filter=pc.field("key") == one[7]))}
        for what, (ours, theirs) in pairs.items():
            bounds = (at_most(1.0),) if turns > 1 else ()
            yield make_row(f"{what}, of {rows:,} | the same from Parquet files by day, pyarrow",
                           time_pair(ours, theirs, turns), *bounds)


def build_logs(address: Path, folder: Path, count: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Write `count` predictions to the log at `address` and as Parquet to `folder`.

    Half of them were asked one by one with a key, the others a hundred in a request; returned is one of each.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cd4ml.production.lines import COLUMNS, DAY, make_line
    from cd4ml.production.parts import name_day
    from cd4ml.production.predictions import PredictionLog

    log, dice, a_day = PredictionLog(address), random.Random(5), count // DAYS
    chosen = tuple[Any, ...](), tuple[Any, ...]()
    for day in range(DAYS):
        place = folder / f"day={name_day(BEGAN // DAY + day)}"
        place.mkdir(parents=True)
        schema, writer = None, None
        for start in range(0, a_day, BATCH):
            asked = [make_prediction(dice, BEGAN + day * DAY + (start + i) * DAY // a_day, day)
                     for i in range(min(BATCH, a_day - start))]
            half = len(asked) // 2
            lines = [join_rows(asked[i : i + REQUEST]) for i in range(half, len(asked), REQUEST)]
            log.write_lines([*map(make_line, asked[:half]), *lines])
            rows = asked[:half] + [row for line in lines for row in line.list_rows()]
            columns = map(list, zip(*rows, strict=True))
            table = pa.table(dict(zip(COLUMNS.split(", "), columns, strict=True)), schema=schema)
            schema, writer = table.schema, writer or pq.ParquetWriter(place / "rows.parquet", table.schema)
            writer.write_table(table)
            chosen = (rows[half // 2], rows[-half // 2]) if day <= DAYS // 3 else chosen
        if writer:
            writer.close()
    log.close()
    return chosen


def join_rows(rows: list[tuple[Any, ...]]) -> Any:
    """Return the line of a request of these `rows`, without their keys."""
    from cd4ml.production.lines import STEM, Line, make_line

    first = make_line(rows[0])._replace(key="")
    features, answers = (f"[{','.join(row[place] for row in rows)}]" for place in (5, 6))
    return first if len(rows) == 1 else Line(first.stem[:STEM], len(rows), *first[2:6], features, answers, *first[8:])


def make_prediction(dice: random.Random, at: int, day: int) -> tuple[Any, ...]:
    """Return a row of the log for an answer of flights."""
    one, miles, late = f"{at:012x}{dice.getrandbits(64):016x}", dice.randrange(200, 2500), dice.random()
    features = f'{{"distance":{miles},"hour":{miles % 24},"carrier":"UA","origin":"JFK","temp":{late * 40:.2f}}}'
    answer = f'{{"prediction":{"true" if late > 0.5 else "false"},"probability":{late:.6f}}}'
    release = 1 + day * RELEASES // DAYS + (miles % 10 == 0)
    return one, one, at, "flights", release, features, answer, f"UA{dice.randrange(10**7)}", "champion", 0.002
