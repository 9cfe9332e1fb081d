import gc
import os
import warnings
from pathlib import Path

# Most of the suite's time is compilation, so that processes, modules and runs share their programs; the library itself
# keeps none. A program that another process has only half written is compiled again.
PROGRAMS = Path(__file__).parents[1] / ".jax_cache"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(PROGRAMS)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import numpy as np
import numpyro  # noqa: F401 before ArviZ 1.x, whose import of it breaks off where warnings are errors
import pytest

with warnings.catch_warnings():  # ArviZ 0.x warns at its first import of a day
    warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing a major refactor", FutureWarning)
    import arviz  # noqa: F401

os.environ["BAYESLIN_NO_CACHE"] = "1"  # tests leave the user's cache folder alone


def pytest_sessionfinish():
    from bayeslin import kept

    if PROGRAMS.exists():
        kept.prune(PROGRAMS)


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_programs():
    """JAX on CPU runs out of memory maps once a process holds some hundreds of NUTS programs."""
    yield
    from bayeslin import program

    program._made.cache_clear()
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def rng():
    return np.random.default_rng(20241115)


@pytest.fixture
def float64():
    """Run the body of a test in double precision, as the public calls do by themselves."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def linnerud():
    """Linnerud, standardised (ddof 0): X (20, 3), Y (20, 3)."""
    import bayeslin as bl

    data = bl.load_dataset("linnerud").standardize()
    return data.X, data.Y
