"""Pictures: what is drawn is what was given, every text can be read, and wrong shapes are refused."""

import itertools

import jax
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.patches import Ellipse
from matplotlib.text import Text

import bayeslin as bl
from bayeslin import plots

NAMES = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
ALPHA = np.array([0.0, 0.1, 0.25, 0.5, 1.0, 2.0])


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def draws():
    key = jax.random.key(0)
    limit = {a: bl.Proportional(a).sample_scale(key, outputs=3, shape=(500,)) for a in (0.0, 0.5, 1.0)}
    wide = {depth / 8: bl.FiniteNetwork((8,) * depth).sample_scale(key, outputs=3, shape=(500,)) for depth in (4, 8)}
    return limit, {"width 8": wide}


@pytest.fixture
def correlations(rng):
    corr = np.corrcoef(rng.standard_normal((4, 6)))
    mean = (ALPHA / (ALPHA + 0.3))[:, None, None] * corr
    return mean, np.stack([mean - 0.2, mean + 0.1], 1), 0.1 * rng.standard_normal((6, 20, 4, 4))


@pytest.fixture
def predictions(rng):
    root = rng.standard_normal((5, 2, 2)) * [[6.0], [300.0]]
    mean = [200.0, 4000.0] + rng.standard_normal((5, 2)) * [15.0, 800.0]
    return mean, root @ np.swapaxes(root, 1, 2)


def texts(figure):
    """Every text that is drawn, with its box in pixels; a tick outside the limits has a text, but none is drawn."""
    figure.canvas.draw()
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        draw = Text.draw
        patch.setattr(Text, "draw", lambda text, renderer: (seen.update({id(text): text}), draw(text, renderer)))
        figure.canvas.draw()
    drawn = [text for text in seen.values() if text.get_visible() and text.get_text().strip()]
    return [(text, text.get_window_extent()) for text in drawn]


def assert_readable(axes):
    figure = np.atleast_1d(axes)[0].figure
    seen = texts(figure)
    assert len(seen) > 5
    for text, box in seen:
        outside = box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1
        assert not outside, f"{text.get_text()!r} leaves the figure"
    level = [(text, box) for text, box in seen if text.get_rotation() in (0, 90)]  # a slanted text has no tight box
    for (one, a), (two, b) in itertools.combinations(level, 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        assert apart, f"{one.get_text()!r} and {two.get_text()!r} overlap"


def test_every_text_of_every_picture_can_be_read(draws, correlations, predictions, rng):
    mean, interval, control = correlations
    laws = {"NNGP: NNGP()": np.eye(4), "finite: FiniteNetwork((20,) * 10)": mean[-1]}
    intervals = {law: np.stack([corr - 0.1, corr + 0.1]) for law, corr in laws.items()}
    ranks = {name: rng.integers(0, 100, 50) for name in ("log_det_scale", "scale_correlation", "noise_sd")}
    assert_readable(plots.plot_output_correlations(laws, NAMES, intervals=intervals))
    assert_readable(plots.plot_calibration(ranks, 99))
    assert_readable(plots.plot_scale_prior(*draws))
    assert_readable(plots.plot_correlation_vs_alpha(ALPHA, mean, NAMES, interval=interval, control=control))
    assert_readable(plots.plot_predictions(*predictions, NAMES[2:], labels=predictions[0] + 5))


def test_text_that_overlaps_would_be_seen():
    axes = plt.figure().subplots()
    axes.text(0.5, 0.5, "one")
    axes.text(0.51, 0.5, "two")
    with pytest.raises(AssertionError, match="'one' and 'two' overlap"):
        assert_readable(axes)


# The scale


def test_scale_prior_shows_quantiles_of_the_log_eigenvalues(draws):
    limit, finite = draws
    axes = plots.plot_scale_prior(limit, finite)
    assert [ax.get_title() for ax in axes] == ["largest", "number 2", "smallest"]
    for index, ax in enumerate(axes):
        values = {alpha: np.log(np.linalg.eigvalsh(Q)[:, 2 - index]) for alpha, Q in limit.items()}
        median = ax.get_lines()[0]
        np.testing.assert_allclose(median.get_xdata(), [0.0, 0.5, 1.0])
        np.testing.assert_allclose(median.get_ydata(), [np.median(v) for v in values.values()], atol=1e-12)
        (band,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.min() == pytest.approx(min(np.quantile(v, 0.05) for v in values.values()))
        assert heights.max() == pytest.approx(max(np.quantile(v, 0.95) for v in values.values()))
        (points,) = ax.containers
        expected = [np.median(np.log(np.linalg.eigvalsh(Q)[:, 2 - index])) for Q in finite["width 8"].values()]
        np.testing.assert_allclose(points[0].get_ydata(), expected, atol=1e-12)
        np.testing.assert_allclose(points[0].get_xdata(), [0.5, 1.0], atol=0.03)


def test_a_singular_scale_is_drawn_at_the_floor():
    Q = bl.FiniteNetwork((1, 5)).sample_scale(jax.random.key(0), outputs=2, shape=(50,))
    axes = plots.plot_scale_prior({0.0: np.tile(np.eye(2), (3, 1, 1))}, {"width 1": {1.2: Q}})
    height = axes[1].containers[0][0].get_ydata()[0]
    assert np.isfinite(height)
    assert height < -30


# Correlations


def test_correlations_against_alpha_are_those_given(correlations):
    mean, interval, control = correlations
    axes = plots.plot_correlation_vs_alpha(
        ALPHA, mean, NAMES, interval=interval, control=control, pairs=[(2, 3), (0, 1)]
    )
    for ax, (a, b), title in zip(
        axes, [(2, 3), (0, 1)], ["flipper length mm, body mass g", "bill length mm, bill depth mm"], strict=True
    ):
        assert ax.get_title() == title
        line, _, (bars,) = ax.containers[0]
        np.testing.assert_array_equal(line.get_ydata(), mean[:, a, b])
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends.T, interval[:, :, a, b].T, atol=1e-12)
        (band,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.min() == pytest.approx(np.quantile(control[:, :, a, b], 0.05, axis=1).min())
        assert heights.max() == pytest.approx(np.quantile(control[:, :, a, b], 0.95, axis=1).max())
        dashed = [line for line in ax.get_lines() if line.get_linestyle() == "--"]
        np.testing.assert_allclose(dashed[0].get_ydata(), control[:, :, a, b].mean(1))


def test_without_interval_and_control_only_the_means_are_drawn(correlations):
    axes = plots.plot_correlation_vs_alpha(ALPHA, correlations[0], NAMES)
    assert len(axes) == 6
    assert not [c for ax in axes for c in ax.collections if isinstance(c, PolyCollection)]
    np.testing.assert_array_equal(axes[5].containers[0][0].get_ydata(), correlations[0][:, 2, 3])


# Predictions


def test_ellipses_hold_the_share_of_the_gaussian_that_they_name(predictions):
    mean, cov = predictions
    axes = plots.plot_predictions(mean, cov, ["a", "b"], coverage=(0.9, 0.5))
    ellipses = [patch for patch in axes.patches if isinstance(patch, Ellipse)]
    assert len(ellipses) == 10
    draws = np.random.default_rng(0).standard_normal((20_000, 2))
    for index, ellipse in enumerate(ellipses):
        share, row = (0.5, 0.9)[index // 5], index % 5
        points = mean[row] + draws @ np.linalg.cholesky(cov[row]).T
        turn = np.deg2rad(ellipse.angle)
        along = (points - ellipse.center) @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        inside = ((2 * along / [ellipse.width, ellipse.height]) ** 2).sum(1) <= 1
        assert abs(inside.mean() - share) < 5 * np.sqrt(share * (1 - share) / len(draws))


def test_observed_labels_are_joined_to_their_means(predictions):
    mean, cov = predictions
    labels = mean + 1.0
    axes = plots.plot_predictions(mean, cov, ["a", "b"], labels=labels)
    joins = [line.get_xydata() for line in axes.get_lines() if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(joins, np.stack([mean, labels], 1))
    assert "observed" in [text.get_text() for text in axes.figure.legends[0].get_texts()]
    bare = plots.plot_predictions(mean, cov, ["a", "b"])
    assert "observed" not in [text.get_text() for text in bare.figure.legends[0].get_texts()]


def test_pictures_side_by_side_share_their_legend(predictions):
    figure, axes = plt.subplots(1, 2, layout="constrained")
    for ax in axes:
        plots.plot_predictions(*predictions, ["a", "b"], axes=ax)
    assert len(figure.legends) == 1
    plots.plot_predictions(*predictions, ["a", "b"], labels=predictions[0], axes=axes[0])
    assert len(figure.legends) == 2


# Doors


def test_pictures_go_where_they_are_told(draws, correlations, predictions):
    figure, axes = plt.subplots(1, 3)
    assert plots.plot_predictions(*predictions, ["a", "b"], axes=axes[0]) is axes[0]
    assert (plots.plot_scale_prior(draws[0], axes=axes) == axes).all()
    found = plots.plot_correlation_vs_alpha(ALPHA, correlations[0], NAMES, pairs=[(0, 1)], axes=axes[1])
    assert found[0] is axes[1]
    assert plt.get_fignums() == [figure.number]


EYES = np.tile(np.eye(2), (3, 1, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.plot_scale_prior({}), "draws of Q must all be"),
        (lambda: plots.plot_scale_prior({0.0: EYES}, {"w": {0.5: np.ones((3, 3, 3))}}), "with one D"),
        (lambda: plots.plot_correlation_vs_alpha([0.0], EYES, ["a", "b"]), r"got \(3, 2, 2\)"),
        (lambda: plots.plot_correlation_vs_alpha(range(3), EYES, "ab", control=EYES), "control"),
        (lambda: plots.plot_correlation_vs_alpha(range(3), EYES, "ab", interval=EYES), "interval"),
        (lambda: plots.plot_predictions(np.ones((3, 3)), EYES, "abc"), "two names"),
        (lambda: plots.plot_predictions(np.ones((3, 2)), EYES, "ab", labels=np.ones(3)), "labels"),
    ],
)
def test_wrong_shapes_are_refused(call, message):
    with pytest.raises(bl.InputError, match=message):
        call()
