import pandas as pd
import pytest

from cd4ml.base.errors import DataError, StoreError
from cd4ml.base.store import Store
from cd4ml.data.snapshot import encode_frame, read_snapshot, write_snapshot

FRAME = pd.DataFrame({"text": ["a", None], "number": [1.5, None], "whole": [1, 2], "flag": [True, False],
                      "day": pd.to_datetime(["2013-01-01", "2013-07-01"]).astype("datetime64[us]")})


def test_round_trip_keeps_values_and_types(tmp_path):
    store = Store(str(tmp_path))
    snapshot = write_snapshot(FRAME, store)
    pd.testing.assert_frame_equal(read_snapshot(snapshot.sha256, store), FRAME)
    assert (snapshot.rows, snapshot.columns) == (2, tuple(FRAME))


def test_attributes_and_index_do_not_count():
    other = FRAME.set_index(pd.Index([5, 6]))
    other.attrs["note"] = "x"
    assert encode_frame(other) == encode_frame(FRAME)
    assert other.attrs == {"note": "x"}


def test_second_write_does_not_touch_the_file(tmp_path):
    store = Store(str(tmp_path))
    path = tmp_path / write_snapshot(FRAME, store).path
    before = path.stat().st_mtime_ns, path.stat().st_ino
    write_snapshot(FRAME, store)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_damage_is_refused_then_repaired(tmp_path):
    store = Store(str(tmp_path))
    snapshot = write_snapshot(FRAME, store)
    (tmp_path / snapshot.path).write_bytes(b"")
    with pytest.raises(StoreError, match="not what was stored"):
        read_snapshot(snapshot.sha256, store)
    write_snapshot(FRAME, store)
    assert read_snapshot(snapshot.sha256, store).equals(FRAME)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64])
def test_names_that_are_no_hash_are_refused(name, tmp_path):
    with pytest.raises(StoreError, match="not the hash"):
        read_snapshot(name, Store(str(tmp_path)))


def test_unkeepable_columns_are_refused():
    for df in (pd.DataFrame([[1, 2]], columns=["a", "a"]), pd.DataFrame({0: [1]})):
        with pytest.raises(DataError):
            encode_frame(df)
