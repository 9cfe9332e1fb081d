"""Bayesian inference with deep linear networks: finite, infinitely wide, and proportionally wide and deep.

After Bassetti, Ladelli and Rotondo, "Proportional infinite-width infinite-depth limit for deep linear neural
networks" (arXiv:2411.15267). The outputs of such a network are Gaussian given one random matrix Q; each prior is a law
of Q, and one likelihood serves them all.
"""

from bayeslin import calibration, data, exact, models, plots
from bayeslin._version import __version__
from bayeslin.checks import InputError
from bayeslin.comparison import Comparison, compare
from bayeslin.correlation import OutputCorrelation
from bayeslin.data import Dataset, load_dataset, read_table
from bayeslin.diagnostics import ConvergenceWarning
from bayeslin.inference import fit, resume
from bayeslin.kernels import fuse_loops
from bayeslin.many import fit_many
from bayeslin.noise import Noise
from bayeslin.posterior import Posterior
from bayeslin.scale import NNGP, FiniteNetwork, Law, Proportional, ScaleMoments
from bayeslin.scan import scan_chunks, scan_dask, scan_table
from bayeslin.spectrum import Spectrum
from bayeslin.validation import CrossValidation, cross_validate

__all__ = [
    "NNGP",
    "Comparison",
    "ConvergenceWarning",
    "CrossValidation",
    "Dataset",
    "FiniteNetwork",
    "InputError",
    "Law",
    "Noise",
    "OutputCorrelation",
    "Posterior",
    "Proportional",
    "ScaleMoments",
    "Spectrum",
    "__version__",
    "calibration",
    "compare",
    "cross_validate",
    "data",
    "exact",
    "fit",
    "fit_many",
    "fuse_loops",
    "load_dataset",
    "models",
    "plots",
    "read_table",
    "resume",
    "scan_chunks",
    "scan_dask",
    "scan_table",
]
