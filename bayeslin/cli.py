"""The command line: what can be asked, and how it ends."""

from __future__ import annotations

import argparse
import csv
import os
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

from bayeslin import checks, commands, data, kept, kernels, scan
from bayeslin._version import __version__
from bayeslin.commands import BAD_INPUT, DONE, INTERRUPTED


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 bad input, 3 finished but not converged, 130 Ctrl-C."""
    options = _parser().parse_args(arguments)
    if arguments is None:  # the process is ours
        kernels.ask()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
            with kept.programs(not options.no_cache):
                return options.run(options)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except checks.InputError as error:
        print(f"bayeslin: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("\nbayeslin: interrupted; no file is half-written", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # a compilation under way may crash an orderly exit


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for every other bad input."""
        self.exit(BAD_INPUT, f"bayeslin: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="bayeslin", description="Bayesian inference with deep linear networks.")
    parser.add_argument("--version", action="version", version=f"bayeslin {__version__}")
    adder = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, purpose: str, example: str) -> argparse.ArgumentParser:
        added = adder.add_parser(name, help=purpose, description=purpose, epilog=f"example: {example}")
        added.set_defaults(run=run)
        added.add_argument("--json", action="store_true", help="the result as JSON on standard output, nothing else")
        added.add_argument(
            "--no-cache",
            action="store_true",
            help="keep no compiled programs in the user's cache folder for the next run, nor use those that are there; "
            f"so does the environment variable {kept.OPT_OUT}=1",
        )
        return added

    compare = command(
        "compare",
        commands.run_compare,
        "output correlations of a table under the NNGP, a finite network and the proportional limit",
        "bayeslin compare penguins --control 20 --out results/penguins",
    )
    _add_table(compare)
    _add_law(compare)
    compare.add_argument(
        "--control", type=int, default=20, metavar="K", help="label permutations (default 20, 0: none)"
    )
    compare.add_argument("--out", type=Path, metavar="DIR", help="write table, posteriors and figure there")
    _add_sampler(compare)

    fit = command(
        "fit",
        commands.run_fit,
        "fit one law to the targets of a table and keep the posterior in a file",
        "bayeslin fit linnerud --alpha 0.5 --noise full --out linnerud.nc",
    )
    _add_table(fit)
    fit.description = (
        f"{fit.description}; parquet of more than {scan.LARGE:.0e} cells is read in batches, rows not kept"
    )
    fit.add_argument("--law", choices=("proportional", "finite", "nngp"), default="proportional", help="default: limit")
    _add_law(fit)
    fit.add_argument("--out", type=Path, metavar="MODEL.nc", required=True, help="the file to write")
    _add_sampler(fit)

    predict = command(
        "predict",
        commands.run_predict,
        "predict new rows: mean, sd and interval of each output's label, in its own unit",
        "bayeslin predict linnerud.nc linnerud --out predictions.csv",
    )
    _add_model(predict)
    predict.add_argument("table", help="a csv or parquet file with the features of the fit, or a shipped set")
    predict.add_argument("--out", type=Path, metavar="FILE", help="a csv or parquet file (default: csv, printed)")
    predict.add_argument("--coverage", type=float, default=0.9, help="of the intervals (default 0.9)")
    predict.add_argument("--function", action="store_true", help="the function without the noise of labels")

    summary = command(
        "summary",
        commands.run_summary,
        "diagnostics, hyperparameters and output correlations of a posterior in a file",
        "bayeslin summary linnerud.nc",
    )
    _add_model(summary)

    resume = command(
        "resume",
        commands.run_resume,
        "add draws to a posterior in a file, without another warm-up",
        "bayeslin resume linnerud.nc --draws 1000",
    )
    _add_model(resume)
    resume.add_argument("--draws", type=int, default=1000, help="more draws of each chain (default 1000)")
    resume.add_argument("--out", type=Path, metavar="MODEL.nc", help="the file to write (default: the same one)")
    resume.add_argument("--quiet", action="store_true", help="no progress bar")

    command("datasets", commands.run_datasets, "the data sets that come with the package", "bayeslin datasets")
    return parser


def _add_table(command: argparse.ArgumentParser) -> None:
    command.add_argument("table", help=f"a csv or parquet file, or a shipped set: {', '.join(data.datasets())}")
    command.add_argument("--targets", type=_names, metavar="A,B", help="columns to predict (known for shipped sets)")
    command.add_argument("--features", type=_names, metavar="C,D", help="columns to predict from (default: the others)")


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", type=Path, help="a file that `bayeslin fit` wrote")


def _add_law(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--alpha", type=_number_or_word, help="depth-to-width ratio of the limit, or learn (default 0.5)"
    )
    command.add_argument("--width", type=int, help="width of the finite network (default 20)")
    command.add_argument("--depth", type=int, help="its depth (default: alpha times width)")
    command.add_argument(
        "--signal-variance", type=_number_or_word, default=1.0, help="of standardised labels, or learn (default 1)"
    )
    command.add_argument(
        "--noise",
        type=_number_or_word,
        default="isotropic",
        help="isotropic, diagonal, full, or a known sd of standardised labels (default isotropic)",
    )


def _add_sampler(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--draws", type=int, default=1000, help="kept draws of each chain (default 1000)")
    command.add_argument("--warmup", type=int, default=1000, help="warm-up draws of each chain (default 1000)")
    command.add_argument("--chains", type=int, default=4)
    command.add_argument("--quiet", action="store_true", help="no progress bars")


def _names(text: str) -> list[str]:
    """Names between commas; one that holds a comma itself stands in double quotes."""
    try:
        return [name.strip() for name in next(csv.reader([text], skipinitialspace=True, strict=True))]
    except (csv.Error, StopIteration):
        raise argparse.ArgumentTypeError(f"needs names between commas, got {text!r}") from None


def _number_or_word(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text
