"""Samplers of few outputs become one kernel where XLA is asked for it, which it hears once in a process."""

import json
import os
import subprocess
import sys

import numpy as np
import numpyro.distributions as dist
import pytest

import bayeslin as bl
from bayeslin import kernels, program

LAWS = {
    "limit": lambda: bl.Proportional(0.3),
    "finite": lambda: bl.FiniteNetwork((6, 4)),
    "NNGP": lambda: bl.NNGP(dist.LogNormal(0.0, 1.0)),
    "learned": lambda: bl.Proportional(dist.HalfNormal(0.2)),
}
NEVER = kernels.FLAG.replace(str(kernels.THRESHOLD), "5")
DRAWS = 4  # so few that trajectories which part by rounding have not got far


def fits(law, noise, outputs):
    """Kernels that the sampler's loop was split into, and its first draws; runs in a process of its own too."""
    made, original = [], program._made
    program._made = lambda *asked: made.append(original(*asked)) or made[-1]
    try:
        data = bl.data.teacher(30, outputs, outputs, seed=0, correlation=0.3).dataset.standardize()
        post = bl.fit(LAWS[law](), data, noise=noise, draws=DRAWS, warmup=0, chains=1, progress=False)
    finally:
        program._made = original
    entry = made[0].advance.as_text().split("ENTRY", 1)[1]
    return {"loops": entry.count(" while("), "scale": post.scale.tolist(), "noise": post.noise_cov.tolist()}


CASES = [("limit", "isotropic", 3), ("finite", "full", 2), ("NNGP", "diagonal", 4)]
MORE = [("learned", "full", 3), ("limit", "full", 5), ("limit", 0.5, 1), ("finite", "isotropic", 5)]
MORE += [("NNGP", "full", 4), ("NNGP", 0.5, 3), ("learned", "isotropic", 4)]
cases = pytest.mark.parametrize(
    ("law", "noise", "outputs"), CASES + [pytest.param(*case, marks=pytest.mark.slow) for case in MORE]
)


def in_a_process(code, flags):
    """What the process prints; XLA hears its flags once, and JAX 0.12's own are those that older ones are asked for."""
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__), "XLA_FLAGS": flags}
    code = f"import json, warnings, bayeslin as bl, test_kernels; {code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)


@cases
def test_few_outputs_are_one_kernel_that_draws_the_same(law, noise, outputs):
    fit = f"warnings.simplefilter('ignore'); print(json.dumps(test_kernels.fits({law!r}, {noise!r}, {outputs})))"
    fused = json.loads(in_a_process(f"bl.fuse_loops(); {fit}", "").stdout)
    split = json.loads(in_a_process(fit, NEVER).stdout)
    assert fused["loops"] == 0
    assert split["loops"] > 0
    for name in ("scale", "noise"):
        np.testing.assert_allclose(fused[name], split[name], rtol=1e-6, atol=1e-8)


def test_what_was_asked_before_stays(monkeypatch):
    monkeypatch.setattr(kernels, "BY_ITSELF", False)
    for given, expected in (
        ("", kernels.FLAG),
        ("--xla_force_host_platform_device_count=2", f"--xla_force_host_platform_device_count=2 {kernels.FLAG}"),
        (NEVER, NEVER),
    ):
        monkeypatch.setenv("XLA_FLAGS", given)
        kernels.ask()
        assert os.environ["XLA_FLAGS"] == expected


def test_it_says_where_it_has_no_effect(monkeypatch):
    assert "call it first" in in_a_process("bl.fuse_loops()", NEVER).stderr
    assert not in_a_process("bl.fuse_loops()", "").stderr
    monkeypatch.setattr(kernels, "BY_ITSELF", False)
    monkeypatch.setattr(kernels, "_heard", lambda: False)
    for given in (None, "--xla_force_host_platform_device_count=2"):
        monkeypatch.delenv("XLA_FLAGS", raising=False)
        if given:
            monkeypatch.setenv("XLA_FLAGS", given)
        with pytest.warns(UserWarning, match="call it first"):
            bl.fuse_loops()
        assert os.environ.get("XLA_FLAGS") == given
