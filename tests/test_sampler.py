"""NUTS, driven by us: one compiled program, draws that do not depend on how they were fetched."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

import bayeslin as bl
from bayeslin import program, sampler

FEW = {"draws": 60, "warmup": 60, "chains": 2, "progress": False}
pytestmark = pytest.mark.filterwarnings("ignore::bayeslin.diagnostics.ConvergenceWarning")


@pytest.fixture(scope="module")
def data():
    truth = bl.data.teacher(30, 3, 2, seed=0, correlation=0.5)
    return truth.dataset.standardize()


@contextlib.contextmanager
def compilations():
    """Names of the programs that XLA compiles, in whatever thread."""
    names = []

    def listen(event, duration, fun_name="", **_):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def test_first_fit_compiles_and_the_next_ones_do_not(data):
    with compilations() as first:
        post = bl.fit(bl.Proportional(0.5), data.X, data.Y, **FEW)
    assert first, "the count sees compilations"
    other = bl.data.teacher(55, 4, 2, seed=1, correlation=-0.3).dataset.standardize()  # rank 4 is 3 padded
    with compilations() as again:
        bl.fit(bl.Proportional(0.5), data.X, data.Y, **FEW | {"seed": 7})
        bl.fit(bl.Proportional(0.31), data.X, data.Y, **FEW)
        bl.fit(bl.Proportional(0.5, signal_variance=2.0), data.X, -2.0 * data.Y, **FEW)
        bl.fit(bl.Proportional(0.5), other.X, other.Y, **FEW)
        bl.fit(bl.Proportional(0.5), bl.Spectrum.from_rows(other.X, other.Y), **FEW | {"draws": 70})
    assert again == []
    assert post.stats["diverging"].shape == (2, 60)


def test_a_known_noise_is_an_argument_too(data):
    bl.fit(bl.Proportional(0.5), data.X, data.Y, noise=0.5, **FEW)
    with compilations() as again:
        bl.fit(bl.Proportional(0.4), data.X, data.Y, noise=0.7, **FEW)
    assert again == []


def test_compare_compiles_each_program_once(data):
    laws = {"a": bl.Proportional(0.5), "b": bl.Proportional(0.25)}
    own = FEW | {"warmup": 61}  # a program that no other test has made
    with compilations() as first:
        bl.compare(data.X, data.Y, laws=laws, control=3, **own)
    assert (first.count("jit(start)"), first.count("jit(advance)")) == (1, 1)
    with compilations() as again:
        bl.compare(data.X, -2.0 * data.Y, laws=laws, control=3, **own)
    assert again == []


def test_same_seed_same_draws_another_seed_others(data):
    one, two, three = (bl.fit(bl.Proportional(0.5), data.X, data.Y, **FEW | {"seed": seed}) for seed in (3, 3, 4))
    assert (one.scale == two.scale).all()
    assert (one.scale != three.scale).any()
    assert (one.scale[0] != one.scale[1]).any(), "chains differ"


def test_every_bit_of_a_seed_counts(data):
    seeds = (0, 2**32, 2**63 - 1)
    with_noise = [bl.fit(bl.NNGP(), data.X, data.Y, **FEW | {"seed": seed}).noise_cov for seed in seeds]
    assert len({draws.tobytes() for draws in with_noise}) == 3
    assert (sampler.key_of(5) == jax.random.key(5)).all()


def test_draws_do_not_depend_on_the_length_of_blocks(data, monkeypatch):
    one = bl.fit(bl.Proportional(0.5), data.X, data.Y, **FEW)
    monkeypatch.setattr(sampler, "SECONDS", 1e-12)
    single = bl.fit(bl.Proportional(0.5), data.X, data.Y, **FEW)
    assert (one.scale == single.scale).all()


def test_statistics_are_there_under_arviz_names(data):
    post = bl.fit(bl.Proportional(0.5), data.X, data.Y, **FEW)
    assert set(post.stats) == set(program.STATISTICS)
    assert all(values.shape == (2, 60) for values in post.stats.values())
    assert post.stats["diverging"].dtype == bool
    steps, depth = post.stats["n_steps"], post.stats["tree_depth"]
    assert (steps < 2**depth).all()
    assert (steps >= 2 ** (depth - 1)).all()
    assert (post.stats["step_size"] == post.stats["step_size"][:, :1]).all(), "adaptation ends with the warm-up"
    assert set(post.sites) == {"scale", "noise_cov", "noise_sd"}, "coordinates stay inside"
    assert post.scale.dtype == np.float64


@pytest.mark.slow
def test_threads_may_fit_at_once(data):
    laws = [bl.NNGP(), bl.FiniteNetwork((4,))]
    settings = FEW | {"draws": 5, "warmup": 3}  # programs that no other test has compiled
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda law: bl.fit(law, data.X, data.Y, **settings).scale, laws))
    for law, scale in zip(laws, together, strict=True):
        np.testing.assert_array_equal(bl.fit(law, data.X, data.Y, **settings).scale, scale)


def test_nothing_global_changes(data, capsys):
    before = dict(jax.config.values)
    bl.fit(bl.Proportional(0.5), data.X, data.Y, **FEW)
    assert dict(jax.config.values) == before
    assert jax.numpy.ones(1).dtype == np.float32
    assert capsys.readouterr().err == ""
    bl.fit(bl.Proportional(0.5), data.X, data.Y, **FEW | {"progress": True})
    assert "Proportional(0.5) sampling: 100%" in capsys.readouterr().err


def test_no_warm_up_is_allowed(data):
    post = bl.fit(bl.NNGP(), data.X, data.Y, **FEW | {"warmup": 0, "draws": 5})
    assert np.isfinite(post.sites["noise_sd"]).all()
