import json

import numpy as np
import pandas as pd
import pytest

from cd4ml.base.errors import DataError
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
