import json

import numpy as np
import pandas as pd
import pytest

from cd4ml.base.errors import DataError
from cd4ml.data.drift import compare_profiles, measure_drift
from cd4ml.data.profile import Profile, profile_frame


@pytest.mark.parametrize("values", [[None, None], [1.0, None], [np.inf, 1.0], [3, 3], [True, False], ["a", None]])
def test_odd_columns_have_a_profile_that_is_json(values):
    profile = profile_frame(pd.DataFrame({"x": values}))
    feature = profile["x"]
    assert sum(feature.shares) + feature.other + feature.missing == pytest.approx(1)
    assert Profile.from_dict(json.loads(json.dumps(profile.to_dict(), allow_nan=False))) == profile


def test_deciles_hold_a_tenth_each():
    shares = profile_frame(pd.DataFrame({"x": np.arange(1000.0)}))["x"].shares
    assert len(shares) == 10
    assert shares == pytest.approx([0.1] * 10, abs=0.002)


def test_many_values_are_cut_to_a_thousand():
    feature = profile_frame(pd.DataFrame({"x": [f"v{i}" for i in range(1500)]}))["x"]
    assert len(feature.values) == 1000
    assert feature.other == pytest.approx(1 / 3)


def test_names_are_escaped_in_html():
    assert "<script>" not in profile_frame(pd.DataFrame({"<script>": [1]}))._repr_html_()


def test_wrong_frames_are_refused():
    with pytest.raises(DataError, match="Did you mean 'temp'"):
        profile_frame(pd.DataFrame({"temp": [1]}), ["tepm"])
    with pytest.raises(DataError):
        profile_frame(pd.DataFrame({"temp": []}))


def test_the_middle_is_a_number_of_the_rows():
    for values in ([5.0] * 20, [0.0] * 10 + [1.0] * 90, [0.0] * 90 + [1.0] * 10, list(range(100)), [3.0]):
        assert profile_frame(pd.DataFrame({"x": values}))["x"].middle in values
    assert profile_frame(pd.DataFrame({"x": [np.nan]}))["x"].middle is None


@pytest.mark.parametrize("values", [["Ada", "Emmy", "Ada", None], [36.0, 53.5, 36.0, None], [True, False, True, None]])
def test_of_a_personal_column_no_value_is_kept(values):
    df = pd.DataFrame({"who": pd.Series(values), "x": [1.0, 2.0, 3.0, 4.0]})
    profile = profile_frame(df, unit=pd.Series([1, 1, 2, 2]), personal={"who": "mask"})
    kept = profile["who"]
    assert (kept.distinct, kept.missing, kept.values, kept.edges, kept.points) == (2, 0.25, (), (), ())
    assert sum(kept.shares) + kept.other == 0.75
    assert (kept.minimum, kept.maximum, kept.mean) == (None, None, None)
    assert not [value for value in values[:2] if str(value) in json.dumps(profile.to_dict()["features"][0])]
    assert "2 values, none of them kept" in profile._repr_html_()
    assert Profile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile
    who, _ = measure_drift(profile, df)
    assert (who.psi, who.unseen) == (pytest.approx(0), 0)
    assert measure_drift(profile, df.assign(who=None))[0].missing_now == 1
    assert compare_profiles(profile, profile)[0].psi == pytest.approx(0)
