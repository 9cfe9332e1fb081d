"""The plan of the package, compared with its imports."""

import ast
from pathlib import Path

import pytest

import bayeslin

PACKAGE = Path(bayeslin.__file__).parent

# What each module may import of ours, beside `checks` and `_version`; not transitive.
PLAN = {
    "_version": "",
    "checks": "",
    "hyperparameters": "",
    "factor": "",
    "tables": "",
    "columns": "tables",
    "data": "tables columns factor",
    "chunks": "factor",
    "spectrum": "chunks factor",
    "guide": "spectrum",
    "small": "",
    "chain": "guide small",
    "covariance": "positive small",
    "positive": "",
    "network": "chain guide",
    "limit": "chain guide hyperparameters",
    "lifting": "network spectrum",
    "scale": "network limit guide hyperparameters",
    "noise": "covariance guide hyperparameters positive small",
    "likelihood": "small spectrum",
    "grid": "",
    "density": "scale hyperparameters",
    "distances": "scale density",
    "nodes": "spectrum likelihood correlation",
    "exact": "spectrum scale noise likelihood grid density distances nodes",
    "distributions": "spectrum likelihood",
    "models": "small spectrum network guide scale noise distributions hyperparameters",
    "memory": "",
    "program": "hyperparameters diagnostics memory",
    "sampler": "program",
    "files": "",
    "storage": "files data columns factor spectrum scale noise hyperparameters sampler diagnostics",
    "diagnostics": "",
    "coordinates": "",
    "correlation": "spectrum likelihood diagnostics",
    "units": "data tables",
    "prediction": "spectrum likelihood units",
    "loo": "spectrum likelihood",
    "simulation": "models correlation hyperparameters likelihood noise sampler scale spectrum",
    "posterior": "spectrum network scale noise hyperparameters likelihood sampler "
    "lifting loo correlation prediction diagnostics data storage coordinates units simulation",
    "material": "data hyperparameters noise scale spectrum",
    "inference": "guide material spectrum scale noise hyperparameters models sampler diagnostics posterior",
    "many": "data inference material spectrum scale noise sampler diagnostics posterior",
    "validation": "data many diagnostics scale spectrum",
    "figures": "",
    "plots": "figures",
    "calibration": "spectrum scale noise hyperparameters likelihood many models correlation plots sampler",
    "comparison": "data tables hyperparameters spectrum scale inference posterior correlation plots",
    "reports": "comparison posterior hyperparameters",
    "scan": "data chunks tables columns factor",
    "commands": "data scan tables scale inference material noise posterior files comparison diagnostics plots reports",
    "estimator": "data columns units scale inference prediction sampler",
    "kept": "",
    "kernels": "",
    "cli": "commands data kept kernels scan",
}
NUMPYRO = {"hyperparameters", "scale", "network", "limit", "noise", "distributions", "models", "program", "calibration"}
NUMPYRO |= {"simulation", "chain", "covariance", "positive"}
LAZY = {"arviz", "pandas", "matplotlib", "sklearn", "dask", "pyarrow", "xarray", "h5netcdf", "h5py", "scipy.stats"}
LAZY |= {"scipy.interpolate"}
EAGER = {"estimator": {"sklearn"}}  # it inherits from scikit-learn's classes, and `import bayeslin` leaves it out


def imports(path, *, top_level_only):
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    late = {inner for function in functions for inner in ast.walk(function)} if top_level_only else set()
    for node in (node for node in ast.walk(tree) if node not in late):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "bayeslin":
                yield from (f"bayeslin.{alias.name}" for alias in node.names)
            else:
                yield node.module


MODULES = sorted(path for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "__main__"))


def test_every_module_is_in_the_plan():
    assert {path.stem for path in MODULES} == set(PLAN)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_follow_the_plan(path):
    ours = {name.split(".")[1] for name in imports(path, top_level_only=False) if name.startswith("bayeslin.")}
    assert ours - {"checks", "_version"} <= set(PLAN[path.stem].split())
    eager = {name.split(".")[1] for name in imports(path, top_level_only=True) if name.startswith("bayeslin.")}
    assert eager == ours, "our own modules are imported at the top"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_numpyro_stays_where_it_belongs(path):
    third = {name.split(".")[0] for name in imports(path, top_level_only=False)}
    assert ("numpyro" in third) == (path.stem in NUMPYRO)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_slow_third_parties_are_imported_where_they_are_needed(path):
    assert not {name.split(".")[0] for name in imports(path, top_level_only=True)} & (
        LAZY - EAGER.get(path.stem, set())
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_is_one_idea_of_readable_size(path):
    assert len(path.read_text().splitlines()) <= 250


def test_importing_changes_no_global_setting():
    import subprocess
    import sys

    code = (
        "import jax; before = dict(jax.config.values); import bayeslin, bayeslin.cli; "
        "assert dict(jax.config.values) == before; import sys; "
        f"assert not {LAZY!r} & set(sys.modules), {LAZY!r} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
