"""Whole networks from Q: the weights reproduce the function, have their prior, and their posterior without MCMC."""

from functools import reduce

import jax
import numpy as np
import oracles
import pytest

import bayeslin as bl
from bayeslin import lifting, network

NETWORKS = {  # widths, outputs, signal variance
    "no hidden layer": ((), 2, 1.7),
    "one layer": ((5,), 2, 1.0),
    "two layers": ((6, 4), 3, 2.0),
    "bottleneck last": ((6, 2), 3, 1.0),
    "bottleneck first": ((1, 5), 3, 0.5),
    "bottleneck between": ((4, 1, 3), 2, 1.0),
    "deep": ((5,) * 40, 3, 2.0),
}
by_network = pytest.mark.parametrize("name", NETWORKS)


def chains(key, widths, outputs, count):
    """Prior draws of the triangular chain (count, L, D, D)."""
    import numpyro

    def one(key):
        with numpyro.handlers.block(), numpyro.handlers.seed(rng_seed=key):
            return network.sample_chain(widths, outputs)[0]

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(key, count)))


def end_to_end(weights):
    """W_{L+1} ... W_1 / sqrt(N_1 ... N_L), before the division by sqrt(p)."""
    return reduce(lambda right, W: W @ right / np.sqrt(W.shape[-1]), weights[1:], weights[0])


@by_network
def test_layers_multiply_to_the_map_that_was_lifted(name, float64):
    widths, D, s2 = NETWORKS[name]
    count, p = 50, 4
    key_chain, key_map, key_lift = jax.random.split(jax.random.key(0), 3)
    chain = chains(key_chain, widths, D, count) if widths else np.empty((count, 0, D, D))
    rank = network.ranks(widths, D)[-1]
    E = jax.random.normal(key_map, (count, rank, p))
    weights = list(lifting.iter_weights(key_lift, chain, E, np.full(count, s2), widths))
    assert [W.shape[1:] for W in weights] == network.layer_shapes(p, widths, D)
    C = reduce(np.matmul, np.moveaxis(chain, 1, 0), np.broadcast_to(np.eye(D), (count, D, D)))[:, :, :rank]
    expected = np.sqrt(s2) * C @ E
    size = np.linalg.norm(expected, axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(end_to_end(weights) / size, expected / size, atol=1e-10)
    if widths:  # and what follows the first layer has the scale of the chain
        H = end_to_end([np.broadcast_to(np.eye(widths[0]), (count, widths[0], widths[0])), *weights[1:]])
        Q = C @ np.swapaxes(C, 1, 2)
        np.testing.assert_allclose(H @ np.swapaxes(H, 1, 2), Q, rtol=0, atol=1e-10 * np.abs(Q).max())


@pytest.mark.parametrize(("widths", "outputs"), [((4, 3), 2), ((2, 3), 3), ((3, 1), 2)], ids=str)
def test_lifts_of_the_prior_are_white_noise_entry_by_entry(widths, outputs, float64):
    count, p = 40_000, 2
    key_chain, key_map, key_lift = jax.random.split(jax.random.key(1), 3)
    chain = chains(key_chain, widths, outputs, count)
    E = jax.random.normal(key_map, (count, network.ranks(widths, outputs)[-1], p))
    layers = lifting.iter_weights(key_lift, chain, E, np.ones(count), widths)
    flat = np.concatenate([W.reshape(count, -1) for W in layers], axis=1)
    assert oracles.within(flat, 0.0)
    assert oracles.within(flat[:, :, None] * flat[:, None, :], np.eye(flat.shape[1])), "uncorrelated across layers too"
    assert oracles.within(flat**4, 3.0)
    squares = (flat**2 - 1)[:, :, None] * (flat**2 - 1)[:, None, :]
    assert oracles.within(squares, 2 * np.eye(flat.shape[1])), "nor are their squares"
    short = lifting.iter_weights(key_lift, chain, E, np.full(count, 1.1), widths)
    assert not oracles.within(next(short).reshape(count, -1) ** 2, 1.0), "the test can fail"


def test_prior_weights_are_the_literal_ones():
    law = bl.FiniteNetwork((5, 4), signal_variance=2.0)
    weights = law.sample_weights(jax.random.key(2), inputs=3, outputs=2, shape=(4000, 2))
    assert [W.shape for W in weights] == [(4000, 2, 5, 3), (4000, 2, 4, 5), (4000, 2, 2, 4)]
    assert {W.dtype for W in weights} == {np.dtype(float)}
    flat = np.concatenate([W.reshape(8000, -1) for W in weights], axis=1)
    expected = np.diag([2.0] * 15 + [1.0] * (flat.shape[1] - 15))
    assert oracles.within(flat[:, :, None] * flat[:, None, :], expected)
    assert [W.shape for W in law.sample_weights(jax.random.key(2), inputs=3, outputs=2)] == [(5, 3), (4, 5), (2, 4)]


# Posteriors; lifted weights against NUTS over weights: tests/test_paper.py


@by_network
def test_input_maps_given_labels_are_dense_conditioning(name, rng, float64):
    widths, D, s2 = NETWORKS[name]
    p, count = 5, 20_000
    X = rng.standard_normal((12, p))
    X[:, 4] = X[:, 3]  # one direction that no row reaches
    Y = X @ rng.standard_normal((p, D)) / 2 + 0.5 * rng.standard_normal((12, D))
    Sigma, X_new = oracles.wishart(rng, D) / 4, rng.standard_normal((3, p))
    chain = chains(jax.random.key(3), widths, D, 1)[0] if widths else np.empty((0, D, D))
    C = reduce(np.matmul, chain, np.eye(D))[:, : network.ranks(widths, D)[-1]]
    many = (np.broadcast_to(array, (count, *np.shape(array))) for array in (C, Sigma, s2))
    E = np.asarray(lifting.posterior_input_map(jax.random.key(4), *many, bl.Spectrum.from_rows(X, Y)))
    f = np.sqrt(s2 / p) * np.einsum("ak,ske,me->sma", C, E, X_new)
    mean, cov = oracles.condition(C @ C.T, Sigma, X, Y, X_new, s2)
    moved = f - mean
    products = moved[:, :, :, None] * moved[:, :, None, :]
    assert oracles.within(f, mean)
    assert oracles.within(products, cov)
    assert not oracles.within(1.1 * f, mean), "the test can fail"
    assert not oracles.within(1.1 * products, cov)


def check_layers(law):
    """Fit, lift one network in single precision, and compare its function with the predictions."""
    data = bl.data.teacher(30, 3, 2, seed=0, correlation=0.5).dataset.standardize()
    with pytest.warns(bl.ConvergenceWarning):
        post = bl.fit(law, data.X, data.Y, noise=0.5, draws=10, warmup=30, chains=1, progress=False)
    product, shapes = np.eye(3, dtype=np.float32), []
    for W in post.iter_weights(jax.random.key(0), dtype=np.float32):
        assert W.dtype == np.float32
        assert jax.numpy.ones(1).dtype == np.float32, "double precision stays inside"
        product = W @ product / np.float32(np.sqrt(W.shape[1]))
        shapes.append(W.shape)
    assert shapes == network.layer_shapes(3, law.widths, 2)
    prediction = post.predict(data.X)
    moved = data.X @ product.T - prediction.mean
    assert (np.abs(moved) < 6 * prediction.std).all()
    assert np.abs(moved).max() > 1e-3
    assert len(list(law.iter_weights(jax.random.key(1), inputs=3, outputs=2, dtype=np.float32))) == len(shapes)


def test_networks_come_out_layer_by_layer_in_the_precision_asked_for():
    check_layers(bl.FiniteNetwork((30, 2, 30)))


@pytest.mark.slow
def test_a_network_of_a_hundred_layers_of_a_thousand_comes_out():
    check_layers(bl.FiniteNetwork((1000,) * 100))


def test_networks_without_hidden_layers_are_their_map(rng):
    X, Y = rng.standard_normal((9, 2)), rng.standard_normal((9, 2))
    post = bl.fit(bl.FiniteNetwork((), signal_variance=2.0), X - X.mean(0), Y - Y.mean(0), noise=0.5)
    (W,) = post.sample_weights(jax.random.key(0), (20_000,))
    assert W.shape == (20_000, 2, 2)
    prediction = post.predict([[1.0, -2.0]])
    f = W @ np.array([1.0, -2.0]) / np.sqrt(2)
    assert oracles.within(f, prediction.mean[0])
    assert oracles.within((f - prediction.mean[0]) ** 2, prediction.std[0] ** 2)


def test_only_finite_networks_have_weights(linnerud):
    post = bl.fit(bl.NNGP(), *linnerud, noise=0.9)
    with pytest.raises(bl.InputError, match=r"only a FiniteNetwork has weights.*NNGP"):
        post.sample_weights(jax.random.key(0))
    with pytest.raises(bl.InputError, match="inputs must be an integer of at least 1"):
        bl.FiniteNetwork((3,)).sample_weights(jax.random.key(0), inputs=0, outputs=1)
