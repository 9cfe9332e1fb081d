"""Posteriors in files: the same predictions after a round trip, and nothing run, lost or half-written."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys

import arviz as az
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray

import bayeslin as bl
from bayeslin import diagnostics, files, hyperparameters, storage

FEW = {"draws": 40, "warmup": 60, "chains": 2, "progress": False}
pytestmark = pytest.mark.filterwarnings("ignore::bayeslin.diagnostics.ConvergenceWarning")


@pytest.fixture(scope="module")
def data():
    return bl.data.teacher(30, 3, 2, seed=0, correlation=0.5).dataset.standardize()


@pytest.fixture(scope="module")
def post(data):
    return bl.fit(bl.Proportional(0.5), data, **FEW)


@pytest.fixture(scope="module")
def saved(post, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.nc"
    post.save(path)
    return path


@pytest.fixture
def exact_file(data, tmp_path):
    bl.fit(bl.NNGP(), data, noise=0.5).save(tmp_path / "exact.nc")
    return tmp_path / "exact.nc"


CASES = {
    "limit": (bl.Proportional(0.5), {}),
    "learned": (bl.Proportional(dist.HalfNormal(1.0), dist.LogNormal(0.0, 0.5)), {"noise": "full"}),
    "finite": (bl.FiniteNetwork((5, 1, 4)), {"noise": dist.Gamma(2.0, 3.0)}),
    "weights": (bl.FiniteNetwork((3,)), {"space": "weights", "noise": "diagonal"}),
    "exact": (bl.NNGP(1.5), {"noise": 0.5}),
}


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case == "learned")) for case in CASES])
def test_a_round_trip_changes_nothing(case, data, tmp_path, rng):
    law, settings = CASES[case]
    post = bl.fit(law, data, **FEW | settings)
    post.save(tmp_path / "model.nc")
    again = bl.Posterior.load(tmp_path / "model.nc")
    assert repr(again) == repr(post)
    assert again.settings == post.settings
    assert (again.output_names, again.feature_names) == (post.output_names, post.feature_names)
    assert set(again.sites) == set(post.sites)
    assert set(again.stats) == set(post.stats)
    X_new = rng.standard_normal((4, 3))
    for noise in (False, True):
        before, after = post.predict(X_new, noise=noise), again.predict(X_new, noise=noise)
        for what in ("mean", "cov"):
            np.testing.assert_array_equal(getattr(after, what), getattr(before, what))
    for name in ("scale", "noise_cov", "alpha", "signal_variance"):
        np.testing.assert_array_equal(getattr(again, name), getattr(post, name))
    np.testing.assert_array_equal(again.log_likelihood_loo(), post.log_likelihood_loo())
    if isinstance(law, bl.FiniteNetwork):
        import jax

        for one, two in zip(*(p.sample_weights(jax.random.key(0), (3,)) for p in (post, again)), strict=True):
            np.testing.assert_array_equal(one, two)


def test_statistics_without_rows_are_kept_too(data, tmp_path, rng):
    post = bl.fit(bl.NNGP(), bl.Spectrum.from_rows(data.X, data.Y), noise=0.5)
    post.save(tmp_path / "model.nc")
    X_new = rng.standard_normal((4, 3))
    again = bl.Posterior.load(tmp_path / "model.nc")
    assert again.rows is None
    np.testing.assert_array_equal(again.predict(X_new).cov, post.predict(X_new).cov)


def test_arviz_opens_the_file(saved, post):
    found = az.from_netcdf(str(saved))
    np.testing.assert_array_equal(found["posterior"]["scale"].values, post.scale)
    assert found["posterior"].attrs["version"] == bl.__version__
    assert found["posterior"].attrs["seed"] == 0


def test_loo_densities_are_in_the_file_when_asked(post, tmp_path):
    post.save(tmp_path / "model.nc", log_likelihood=True)
    found = az.from_netcdf(str(tmp_path / "model.nc"))
    np.testing.assert_array_equal(found["log_likelihood"]["Y"].values, post.log_likelihood_loo())


def test_the_sets_of_a_table_come_back(tmp_path):
    penguins = bl.load_dataset("penguins").standardize()
    post = bl.fit(bl.NNGP(), penguins, noise=0.5)
    post.save(tmp_path / "model.nc")
    again = bl.Posterior.load(tmp_path / "model.nc").dataset
    assert again.columns == penguins.columns
    assert again.notes == penguins.notes
    np.testing.assert_array_equal(again.original().Y, penguins.original().Y)


# Resuming


def test_resumed_draws_are_those_of_one_longer_run(data, post):
    longer = bl.fit(bl.Proportional(0.5), data, **FEW | {"draws": 70})
    more = bl.resume(post, 30, progress=False)
    for name, values in longer.sites.items():
        np.testing.assert_array_equal(more.sites[name], values)
    for name, values in longer.stats.items():
        np.testing.assert_array_equal(more.stats[name], values)
    assert more.settings == longer.settings
    assert more.scale.shape == (2, 70, 2, 2)


def test_another_process_resumes_the_file_with_the_same_draws(saved, post, tmp_path):
    code = (
        "import sys, warnings, bayeslin as bl; warnings.simplefilter('ignore'); "
        "bl.resume(bl.Posterior.load(sys.argv[1]), 30, progress=False).save(sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, str(saved), str(tmp_path / "more.nc")], check=True)
    more = bl.Posterior.load(tmp_path / "more.nc")
    np.testing.assert_array_equal(more.scale, bl.resume(post, 30, progress=False).scale)


def test_weights_can_be_resumed(data):
    settings = FEW | {"space": "weights"}
    law = bl.FiniteNetwork((3,))
    longer = bl.fit(law, data, **settings | {"draws": 60})
    more = bl.resume(bl.fit(law, data, **settings), 20, progress=False)
    np.testing.assert_array_equal(more.sites["W_1"], longer.sites["W_1"])


def test_a_prior_kept_as_text_predicts_and_is_asked_for_when_resuming(data, tmp_path):
    law = bl.Proportional(dist.TruncatedNormal(0.5, 0.5, low=0.0))
    post = bl.fit(law, data, **FEW)
    post.save(tmp_path / "model.nc")
    again = bl.Posterior.load(tmp_path / "model.nc")
    np.testing.assert_array_equal(again.predict(data.X).mean, post.predict(data.X).mean)
    with pytest.raises(bl.InputError, match="as text only; give the law"):
        bl.resume(again, 10, progress=False)
    for other in (bl.Proportional(0.5), bl.Proportional(dist.TruncatedNormal(3.0, 0.5, low=0.0), steps=8)):
        for known in (post, again):
            with pytest.raises(bl.InputError, match=r"has law .* got Proportional"):
                bl.resume(known, 10, law=other, progress=False)
    more = bl.resume(again, 10, law=law, progress=False)
    np.testing.assert_array_equal(more.scale, bl.resume(post, 10, progress=False).scale)


def test_thinned_and_exact_posteriors_cannot_be_resumed(data, post):
    with pytest.raises(bl.InputError, match="thinned; resume the whole one"):
        bl.resume(post.thin(2), 10)
    with pytest.raises(bl.InputError, match="exact"):
        bl.resume(bl.fit(bl.NNGP(), data, noise=0.5), 10)


def test_a_state_of_another_shape_is_refused(post):
    state = tuple(np.zeros((*array.shape, 1), array.dtype) for array in post.sampled.state)
    from dataclasses import replace

    strange = replace(post, sampled=post.sampled._replace(state=state))
    with pytest.raises(bl.InputError, match="does not fit this model and version"):
        bl.resume(strange, 10, progress=False)


# Files that cannot be used


@pytest.mark.parametrize("kept", [0, 8, 100, 0.3, 0.9, 0.99])
def test_truncated_files_are_refused(kept, saved, tmp_path):
    content = saved.read_bytes()
    size = kept if isinstance(kept, int) else int(kept * content.rindex(files.SEAL))  # without the seal it is whole
    (tmp_path / "short.nc").write_bytes(content[:size])
    with pytest.raises(bl.InputError, match=r"short\.nc.*(no netCDF file|damaged)"):
        bl.Posterior.load(tmp_path / "short.nc")


def test_foreign_files_are_refused(tmp_path):
    (tmp_path / "text.nc").write_text("a,b\n1,2\n")
    with pytest.raises(bl.InputError, match=r"text\.nc is no netCDF file"):
        bl.Posterior.load(tmp_path / "text.nc")
    xarray.Dataset({"a": ("b", [1.0])}).to_netcdf(tmp_path / "foreign.nc", engine="h5netcdf")
    with pytest.raises(bl.InputError, match=r"foreign\.nc holds no bayeslin posterior"):
        bl.Posterior.load(tmp_path / "foreign.nc")
    with pytest.raises(bl.InputError, match=r"there is no file .*nowhere\.nc"):
        bl.Posterior.load(tmp_path / "nowhere.nc")


def unsealed(path):
    """The file without its seal, as if it had been made by other means."""
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(files.SEAL)])


def edited(path, change):
    """Change the description inside a file."""
    import h5py

    unsealed(path)
    with h5py.File(path, "r+") as file:
        attributes = file["posterior"].attrs
        meta = json.loads(attributes[storage.ATTRIBUTE])
        change(meta)
        attributes[storage.ATTRIBUTE] = json.dumps(meta)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda meta: meta.update(format=storage.FORMAT + 1), "newer bayeslin; upgrade"),
        (lambda meta: meta.pop("settings"), "damaged"),
        (lambda meta: meta.update(noise=3), "damaged"),
        (lambda meta: meta["law"].update(law="Evil"), "law that is not of this package, 'Evil'"),
        (
            lambda meta: meta["law"].update(signal_variance={"distribution": "os.system", "parameters": {"a": 1}}),
            "distribution that files may not, 'os.system'",
        ),
        (
            lambda meta: meta["law"].update(signal_variance={"distribution": "Normal", "parameters": {"loc": 1}}),
            "distribution that files may not, 'Normal'",
        ),
        (lambda meta: meta["law"].update(signal_variance=-1.0), "signal_variance"),
        (lambda meta: meta.update(settings={}), "damaged"),
        (lambda meta: meta["settings"].pop("seed"), "do not belong together"),
        (lambda meta: meta.update(outputs=["a"]), "do not belong together"),
        (lambda meta: meta.update(features=["a", "b"]), "do not belong together"),
    ],
)
def test_edited_files_run_nothing_and_are_refused(change, message, exact_file):
    edited(exact_file, change)
    with pytest.raises(bl.InputError, match=message):
        bl.Posterior.load(exact_file)


def test_settings_that_contradict_the_draws_are_refused(saved, tmp_path):
    for number, change in enumerate(({"chains": 7}, {"draws": 9})):
        path = tmp_path / f"{number}.nc"
        shutil.copy(saved, path)
        edited(path, lambda meta, change=change: meta["settings"].update(change))
        with pytest.raises(bl.InputError, match="do not belong together"):
            bl.Posterior.load(path)


def test_one_changed_byte_anywhere_is_noticed(saved, tmp_path, rng):
    content = saved.read_bytes()
    path = tmp_path / "flipped.nc"
    for position in rng.integers(len(content), size=100):
        flipped = bytearray(content)
        flipped[position] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        with pytest.raises(bl.InputError, match=r"flipped\.nc .*damaged"):
            bl.Posterior.load(path)


def test_damaged_files_without_a_seal_are_refused_too(exact_file, rng):
    """Bytes overwritten in the heads of groups, where the libraries below raise what they like."""
    unsealed(exact_file)
    content = exact_file.read_bytes()
    for position in range(0, 2000, 100):
        exact_file.write_bytes(content[:position] + bytes(8) + content[position + 8 :])
        with contextlib.suppress(bl.InputError):  # any other error fails the test
            bl.Posterior.load(exact_file)


def test_pickles_inside_a_file_are_not_read(saved, tmp_path):
    import io

    import h5py

    buffer = io.BytesIO()
    np.savez(buffer, np.array([print], dtype=object))
    path = tmp_path / "pickled.nc"
    shutil.copy(saved, path)
    unsealed(path)
    with h5py.File(path, "r+") as file:
        stored = file["constant_data/sampler_state"]
        size = stored.shape[0]
        packed = np.zeros(size, np.uint8)
        packed[: len(buffer.getvalue())] = np.frombuffer(buffer.getvalue(), np.uint8)
        stored[...] = packed
    with pytest.raises(bl.InputError, match="damaged"):
        bl.Posterior.load(path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
def test_a_failed_save_leaves_the_old_file_alone(error, data, exact_file, monkeypatch):
    before = exact_file.read_bytes()

    def fail(_, path):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(diagnostics, "write_netcdf", fail)
    with pytest.raises(bl.InputError if isinstance(error, OSError) else error):
        bl.fit(bl.NNGP(), data, noise=0.5).save(exact_file)
    assert exact_file.read_bytes() == before
    assert list(exact_file.parent.iterdir()) == [exact_file]


def test_a_process_killed_while_saving_leaves_the_old_file(exact_file):
    code = """
import os, signal, sys
import bayeslin as bl
from bayeslin import diagnostics
def die(_, path):
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
post = bl.Posterior.load(sys.argv[1])
diagnostics.write_netcdf = die
post.save(sys.argv[1])
"""
    before = exact_file.read_bytes()
    process = subprocess.run([sys.executable, "-c", code, str(exact_file)], check=False)
    assert process.returncode == -signal.SIGKILL
    assert exact_file.read_bytes() == before


def test_saving_goes_where_a_file_can_be(exact_file):
    post = bl.Posterior.load(exact_file)
    with pytest.raises(bl.InputError, match="is a folder; give the name of a file"):
        post.save(exact_file.parent)
    with pytest.raises(bl.InputError, match="there is no folder"):
        post.save(exact_file.parent / "deep" / "model.nc")
    with pytest.raises(bl.InputError, match=r"(?i)name (is )?too long"):
        post.save(exact_file.parent / f"{'x' * 300}.nc")
    assert list(exact_file.parent.iterdir()) == [exact_file]


def test_a_link_is_followed_and_home_is_found(exact_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    post = bl.Posterior.load("~/exact.nc")
    (tmp_path / "link.nc").symlink_to(exact_file)
    exact_file.write_bytes(b"old")
    post.save("~/link.nc")
    assert (tmp_path / "link.nc").is_symlink()
    assert repr(bl.Posterior.load(exact_file)) == repr(post)


def test_a_law_of_the_users_own_is_refused_in_words(data, tmp_path):
    class Mine(bl.NNGP):
        """Not of the package."""

    with pytest.raises(bl.InputError, match="laws of this package only, not Mine"):
        bl.fit(Mine(), data, noise=0.5).save(tmp_path / "model.nc")
    assert not list(tmp_path.iterdir())


PRIORS = [
    dist.Chi2(3.0), dist.Exponential(2.0), dist.Gamma(2.0, 3.0), dist.HalfCauchy(0.5),
    dist.HalfNormal(2.0), dist.InverseGamma(3.0, 1.0), dist.LogNormal(-1.0, 0.5), dist.LogUniform(0.1, 2.0),
    dist.Pareto(0.1, 3.0), dist.Uniform(0.1, 2.0), dist.Weibull(1.0, 2.0),
]  # fmt: skip


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: type(prior).__name__)
def test_common_priors_are_kept_by_name_and_numbers(prior):
    stored = json.loads(json.dumps(hyperparameters.encode(prior)))
    again = hyperparameters.decode(stored)
    assert "distribution" in stored
    assert type(again) is type(prior)
    np.testing.assert_allclose(again.log_prob(0.7), prior.log_prob(0.7), rtol=1e-6)


def test_every_prior_that_files_may_name_is_tested():
    assert {type(prior).__name__ for prior in PRIORS} == set(hyperparameters.STORED)
