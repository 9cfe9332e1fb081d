"""The laws of Sigma: the form that each promises, and its prior."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import oracles
import pytest
import scipy.stats as st

import bayeslin as bl

DRAWS = 20_000
NOISES = {
    "number": 0.7,
    "isotropic": "isotropic",
    "diagonal": "diagonal",
    "full": "full",
    "distribution": dist.LogNormal(-1.0, 0.5),
}


def draw(noise, outputs, count=DRAWS):
    """Sigma (count, D, D) and the sample sites of one draw."""
    law = bl.Noise(noise)

    def one(key):
        with numpyro.handlers.block(), numpyro.handlers.seed(rng_seed=key):
            return law.sample_cov(outputs)

    with numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as sites:
        law.sample_cov(outputs)
    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), count))), set(sites)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", NOISES)
def test_the_noise_covariance_has_the_promised_form(name, outputs, float64):
    Sigma, sites = draw(NOISES[name], outputs, count=50)
    off = ~np.eye(outputs, dtype=bool)
    assert Sigma.shape == (50, outputs, outputs)
    assert Sigma.dtype == np.float64
    assert (np.linalg.eigvalsh(Sigma) > 0).all()
    assert ((Sigma[:, off] != 0) == (name == "full")).all()
    diagonal = np.diagonal(Sigma, axis1=1, axis2=2)
    shared = name not in ("diagonal", "full")
    assert (outputs == 1) or ((np.ptp(diagonal, axis=1) == 0) == shared).all()
    expected = {"noise_sd"} if name != "number" else set()
    assert sites == expected | ({"_noise_cholesky"} if name == "full" and outputs > 1 else set())
    assert bl.Noise(NOISES[name]).is_random == (name != "number")
    if name == "number":
        np.testing.assert_allclose(diagonal, 0.7**2, rtol=1e-15)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", ["isotropic", "diagonal", "full", "distribution"])
def test_the_standard_deviations_have_their_prior(name, outputs):
    sd = np.sqrt(np.diagonal(draw(NOISES[name], outputs)[0], axis1=1, axis2=2))
    prior = st.lognorm(0.5, scale=np.exp(-1.0)) if name == "distribution" else st.halfnorm()
    wrong = st.lognorm(0.5, scale=1.1 * np.exp(-1.0)) if name == "distribution" else st.halfnorm(scale=1.1)
    for column in sd.T:
        assert st.kstest(column, prior.cdf).pvalue > 1e-6
        assert st.kstest(column, wrong.cdf).pvalue < 1e-6, "the test can fail"


def correlation(Sigma):
    return Sigma[:, 0, 1] / np.sqrt(Sigma[:, 0, 0] * Sigma[:, 1, 1])


def test_correlations_of_full_noise_are_uniform():
    rho = correlation(draw("full", 2)[0])
    assert oracles.within(np.column_stack([rho, rho**2, rho**4]), [0.0, 1 / 3, 1 / 5])
    assert st.kstest(rho, st.uniform(-1, 2).cdf).pvalue > 1e-6
    three = correlation(draw("full", 3)[0])  # LKJ(1): (rho + 1) / 2 ~ Beta(D / 2, D / 2)
    assert st.kstest((three + 1) / 2, st.beta(1.5, 1.5).cdf).pvalue > 1e-6
    assert not oracles.within(three**2, 1 / 3), "the test can fail"


def test_noise_of_noise_is_the_same_and_jax_sees_through_it():
    for noise in NOISES.values():
        law = bl.Noise(noise)
        again = jax.tree.unflatten(*reversed(jax.tree.flatten(bl.Noise(law))))
        assert repr(again) == repr(law)
        assert (again.kind, again.is_random) == (law.kind, law.is_random)
    assert jax.tree.leaves(bl.Noise(0.3)) == [0.3]
    assert jax.tree.structure(bl.Noise(0.3)) == jax.tree.structure(bl.Noise(0.4))


def test_precision_follows_the_program_around_it():
    for noise in NOISES.values():
        Sigma = draw(noise, 2, count=2)[0]
        assert Sigma.dtype == jnp.float32


BOUNDED = [dist.Uniform(0.1, 1.0), dist.TruncatedNormal(0.5, 0.2, low=0.0), dist.Beta(2.0, 2.0), dist.Pareto(0.2, 3.0)]


@pytest.mark.parametrize("prior", BOUNDED, ids=lambda prior: type(prior).__name__)
def test_bounded_priors_are_priors_too(prior):
    assert bl.Noise(prior).is_random
    assert repr(bl.Noise(prior)).startswith(type(prior).__name__ + "(")


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ("heteroscedastic", r"one of \('isotropic', 'diagonal', 'full'\), got 'heteroscedastic'"),
        (0.0, "noise must be a finite number above 1e-150, got 0.0"),
        (-1, "noise must be a finite number above 1e-150, got -1"),
        (np.nan, "noise must be a finite number"),
        (np.inf, "noise must be a finite number"),
        (True, "noise must be a number, got True"),
        (None, "noise must be a number, got None"),
        ([0.1, 0.2], "noise must be a number"),
        (dist.Normal(0.0, 1.0), "noise needs a scalar distribution over the positive numbers.*Normal"),
        (dist.Uniform(-1.0, 1.0), "positive numbers.*Uniform"),
        (dist.HalfNormal(np.ones(2)), r"scalar distribution.*HalfNormal of shape \(2,\)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, dist.Distribution) else repr(value),
)
def test_bad_noise_is_refused_by_name(noise, message):
    with pytest.raises(bl.InputError, match=message):
        bl.Noise(noise)


@pytest.mark.parametrize(
    "prior",
    [dist.Uniform(0.1, 1.0), dist.LogUniform(0.1, 1.0), dist.TruncatedNormal(0.0, 1.0, low=0.0), dist.Pareto(0.1, 3.0)],
    ids=lambda prior: type(prior).__name__,
)
def test_bounded_priors_pass_a_trace(prior):
    """A law, or a noise, that comes back as an argument of a compiled program has traced bounds."""

    def model(noise):
        with numpyro.handlers.block(), numpyro.handlers.seed(rng_seed=0):
            return bl.Noise(noise).sample_cov(2)

    Sigma = jax.jit(model)(bl.Noise(prior))
    assert Sigma.shape == (2, 2)
    assert Sigma[0, 0] > 0
