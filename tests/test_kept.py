"""Compiled programs kept by the command line: where, when not, and that settings and other programs are left alone."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from bayeslin import cli, commands, kept


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A cache folder of this test alone, as on Linux."""
    monkeypatch.delenv(kept.OPT_OUT, raising=False)
    monkeypatch.setattr(kept.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    suite = getattr(jax.config, kept.SETTINGS[0])
    jax.config.update(kept.SETTINGS[0], None)
    compilation_cache.reset_cache()
    yield tmp_path / "bayeslin" / "programs"
    jax.config.update(kept.SETTINGS[0], suite)
    compilation_cache.reset_cache()


def compile_something(number=3.0):
    """A program that JAX has not compiled in this process."""
    return float(jax.jit(lambda x: jnp.sin(x) * number)(2.0))


def entries(place):
    return {path.name for path in place.glob("*-cache")} if place.exists() else set()


def settings():
    return [getattr(jax.config, name) for name in kept.SETTINGS]


def test_programs_are_kept_and_settings_put_back(place):
    before = settings()
    with kept.programs():
        compile_something()
    first = entries(place)
    assert first
    assert settings() == before
    compile_something(4.0)
    assert entries(place) == first, "the library keeps none"
    with kept.programs():
        compile_something()
    assert entries(place) == first, "and finds what was kept"
    with kept.programs():
        compile_something(5.0)
    assert entries(place) > first


@pytest.mark.parametrize("how", ["option", "environment", "forbidden", "own folder"])
def test_nothing_is_kept_where_that_is_said(how, place, monkeypatch, tmp_path):
    if how == "environment":
        monkeypatch.setenv(kept.OPT_OUT, "1")
    own = {"forbidden": (kept.ENABLED, False), "own folder": (kept.SETTINGS[0], str(tmp_path / "own"))}.get(how)
    before = getattr(jax.config, own[0]) if own else None
    if own:
        jax.config.update(*own)
    try:
        with kept.programs(how != "option"):
            compile_something(6.0)
            assert own is None or getattr(jax.config, own[0]) == own[1]
    finally:
        if own:
            jax.config.update(own[0], before)
    assert not place.exists()


def test_the_command_line_keeps_programs_and_its_option_does_not(place, capsys):
    arguments = ["fit", "linnerud", "--draws", "5", "--warmup", "5", "--quiet", "--out", str(place.parent / "m.nc")]
    place.parent.mkdir()
    assert cli.main([*arguments, "--no-cache"]) == commands.NOT_CONVERGED
    assert not place.exists()
    jax.clear_caches()
    assert cli.main(arguments) == commands.NOT_CONVERGED
    assert entries(place)
    assert "cache" not in capsys.readouterr().err


def test_broken_entries_are_compiled_again_and_removed(place, capsys):
    with kept.programs():
        compile_something(7.0)
    for name in entries(place):
        (place / name).write_bytes(b"half")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with kept.programs():
            assert compile_something(7.0) == pytest.approx(6.365081987779772, rel=1e-6)
    assert not entries(place)
    assert capsys.readouterr().err == ""


def test_other_warnings_pass(place):
    with pytest.warns(UserWarning, match="of mine"), kept.programs():
        warnings.warn("of mine", stacklevel=1)


def test_a_folder_that_cannot_be_made_is_said_once(place):
    place.parent.write_text("a file in its place")
    with pytest.warns(UserWarning, match=r"compiled programs are not kept \(.+\); --no-cache"), kept.programs():
        assert compile_something(8.0) > 0


def test_the_oldest_programs_go(place, monkeypatch):
    place.mkdir(parents=True)
    for age, name in enumerate(("new-cache", "old-cache", "older-cache")):
        (place / name).write_bytes(b"x" * 100)
        os.utime(place / name, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(kept, "LARGEST", 250)
    with kept.programs():
        pass
    assert entries(place) == {"new-cache", "old-cache"}


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/bayeslin/programs"),
        ("linux", {"HOME": "/h"}, "/h/.cache/bayeslin/programs"),
        ("darwin", {"HOME": "/h"}, "/h/Library/Caches/bayeslin/programs"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/bayeslin/programs"),
    ],
)
def test_the_folder_follows_the_system(platform, variables, expected, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(kept.sys, "platform", platform)
    assert kept.folder() == Path(expected)


APART = """
import numpyro.distributions as dist
from bayeslin import hyperparameters, program
priors = (dist.HalfNormal(2.0), dist.Gamma(3.0, 5.0), dist.TruncatedNormal(6.0, 7.0, low=0.0, high=8.0))
leaves, structure = program.taken_apart((1.0, priors))
assert structure.arguments(leaves)[1][1].rate == 5.0
print(*leaves, [hyperparameters.encode(prior) for prior in priors])
"""


def test_the_order_of_numbers_is_that_of_every_process():
    """NumPyro's own follows Python's random hashes; programs would be compiled anew every other time."""
    told = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", APART],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(3)
    }
    assert len(told) == 1
    assert "1.0 " in told.pop()
