import itertools
import math
import xml.etree.ElementTree as ET

import pytest

from cd4ml.base.errors import DataError
from cd4ml.model.evaluation import Interval
from cd4ml.model.importance import Dependence, Importance
from cd4ml.model.model_figures import SHOWN, draw_dependence, draw_importance, draw_operation
from cd4ml.model.operation import Cost, Operation

UNKNOWN = Interval(math.nan, math.nan, math.nan, 0.95, 1)
HALF_KNOWN = Interval(0.3, math.nan, math.nan, 0.95, 3)


def bound(value, half=0.01):
    return Interval(value, value - half, value + half, 0.95, 400)


def make_importance(count, **own):
    return Importance("rmse", {f"feature_{i}": bound(1 / (i + 1)) for i in range(count)} | own, 400, 3)


def make_cost(scale=1.0, p95=None):
    return Cost(int(412_000 * scale), 0.2 * scale, bound(8 * scale), p95 or bound(11 * scale), bound(300 * scale))


def make_dependence(feature="x", values=(1.0, 2.0, 4.0, 5.0), answer="prediction"):
    mean = tuple(0.1 * i for i in range(len(values)))
    return Dependence(feature, answer, values, mean, tuple(x - 0.1 for x in mean), tuple(x + 0.1 for x in mean), 500)


PLOTS = {
    "importance": lambda: draw_importance(make_importance(5)),
    "importance, champion": lambda: draw_importance(make_importance(30), make_importance(3, other=bound(9))),
    "importance, one": lambda: draw_importance(make_importance(1)),
    "importance, unknown": lambda: draw_importance(make_importance(2, a=UNKNOWN, b=HALF_KNOWN), make_importance(0)),
    "importance, nothing": lambda: draw_importance(Importance("rmse", {"a": UNKNOWN, "b": UNKNOWN}, 1, 3)),
    "importance, odd names": lambda: draw_importance(make_importance(0, **{"a_<b>_$x^2$&_$_$" + "l" * 60: bound(1)})),
    "dependence": lambda: draw_dependence([make_dependence(), make_dependence("y"), make_dependence("z")], {"x": "m"}),
    "dependence, one": lambda: draw_dependence([make_dependence()]),
    "dependence, a point": lambda: draw_dependence([make_dependence(values=(1.0,))]),
    "dependence, names": lambda: draw_dependence([make_dependence(values=tuple(f"airport {i}" * 3 for i in range(12)),
                                                                  answer="probability of b")]),
    "dependence, odd names": lambda: draw_dependence([make_dependence("a<b>_$_$", ("$_$", "<c>"))], {"a<b>_$_$": "$"}),
    "dependence, missing": lambda: draw_dependence([make_dependence(values=("(missing)",), answer="probability")]),
    "operation": lambda: draw_operation(Operation(make_cost(), make_cost(1.2), bound(0.8))),
    "operation, alone": lambda: draw_operation(Operation(make_cost())),
    "operation, unknown": lambda: draw_operation(Operation(make_cost(p95=HALF_KNOWN), make_cost(), UNKNOWN)),
    "operation, nothing": lambda: draw_operation(Operation(make_cost(0, bound(0)), make_cost(0, bound(0)), UNKNOWN)),
}


@pytest.fixture(scope="module", params=PLOTS)
def plot(request):
    return PLOTS[request.param]()


@pytest.mark.filterwarnings("error")
def test_each_figure_has_its_words_and_is_well_formed(plot):
    html = plot._repr_html_()
    assert plot.title.endswith("?")
    assert plot.caption.endswith(".")
    assert plot.title in html
    assert "nan" not in plot.caption
    ET.fromstring(html)
    assert len(html) < 200_000


def test_a_figure_drawn_again_has_the_same_bytes(plot):
    first = plot.to_bytes()
    plot.drawn.clear()
    assert plot.to_bytes() == first


def test_no_two_labels_overlap_and_none_leaves_the_figure(plot):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(plot.figure).get_renderer()
    width, height = plot.figure.canvas.get_width_height()
    for ax in plot.figure.axes:
        texts = [ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels(), *ax.texts]
        texts += [plot.figure._suptitle]
        texts += [label for child in ax.child_axes for label in child.get_yticklabels()]
        lows, highs = sorted(ax.get_xlim()), sorted(ax.get_ylim())
        texts = [text for text in texts if text.get_text() and text.get_visible()
                 and not (text in ax.get_xticklabels() and not lows[0] <= text.get_position()[0] <= lows[1])
                 and not (text in ax.get_yticklabels() and not highs[0] <= text.get_position()[1] <= highs[1])]
        boxes = [text.get_window_extent(renderer) for text in texts]
        for text, box in zip(texts, boxes, strict=True):
            assert -2 <= box.x0 <= box.x1 <= width + 2, text
            assert -2 <= box.y0 <= box.y1 <= height + 2, text
        for (one, a), (other, b) in itertools.combinations(zip(texts, boxes, strict=True), 2):
            assert not (a.x0 < b.x1 - 1 and b.x0 < a.x1 - 1 and a.y0 < b.y1 - 1 and b.y0 < a.y1 - 1), (one, other)


def test_captions_answer():
    caption = draw_importance(make_importance(20), make_importance(3, feature_1=bound(0.9))).caption
    assert "Most of all feature_0 (1.000 ± 0.010)" in caption
    assert "20 of 20 features have an interval above 0" in caption
    assert "apart in feature_1" in caption
    assert f"the first {SHOWN} are shown" in caption
    assert "No feature for sure" in draw_importance(Importance("rmse", {"a": bound(0)}, 400, 3)).caption
    assert "x from 0 at 1 to 0.3 at 5 (m)" in draw_dependence([make_dependence()], {"x": "m"}).caption
    assert "from 0% at 1 to 30% at 5" in draw_dependence([make_dependence(answer="probability")]).caption
    for ratio, word in ((0.8, "faster"), (1.2, "slower"), (1.0, "neither slower nor faster for sure")):
        assert f"champion's: {word}." in draw_operation(Operation(make_cost(), make_cost(), bound(ratio))).caption
    assert "412 kB" in draw_operation(Operation(make_cost())).caption


def test_nothing_to_draw_is_an_error():
    with pytest.raises(DataError):
        draw_importance(make_importance(0))
    with pytest.raises(DataError):
        draw_dependence([])
