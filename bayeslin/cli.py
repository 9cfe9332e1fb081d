"""The command line: `bayeslin compare TABLE`."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

from bayeslin import checks, data, plots
from bayeslin._version import __version__
from bayeslin.comparison import Comparison, compare, default_laws
from bayeslin.diagnostics import ConvergenceWarning

DONE, BAD_INPUT, NOT_CONVERGED, INTERRUPTED = 0, 2, 3, 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 bad input, 3 finished but not converged, 130 Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
            return options.run(options)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except checks.InputError as error:
        print(f"bayeslin: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("\nbayeslin: interrupted; nothing was written", file=sys.stderr)
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
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "compare",
        help="output correlations of a table under the NNGP, a finite network and the proportional limit",
        description="Fit three laws to the targets of a table and compare the output correlations that they find. "
        "Columns are centred and scaled first.",
        epilog="example: bayeslin compare penguins --control 20 --out results/penguins",
    )
    command.add_argument("table", help=f"a csv or parquet file, or a shipped set: {', '.join(data.datasets())}")
    command.add_argument("--targets", type=_names, metavar="A,B", help="columns to predict (known for shipped sets)")
    command.add_argument("--features", type=_names, metavar="C,D", help="columns to predict from (default: the others)")
    command.add_argument("--alpha", type=float, default=0.5, help="depth-to-width ratio of the limit (default 0.5)")
    command.add_argument("--width", type=int, default=20, help="width of the finite network (default 20)")
    command.add_argument("--depth", type=int, help="its depth (default: alpha times width)")
    command.add_argument("--noise", type=_noise, default="isotropic", help="isotropic, diagonal, full, or a known sd")
    command.add_argument(
        "--control", type=int, default=20, metavar="K", help="label permutations (default 20, 0: none)"
    )
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--draws", type=int, default=1000, help="kept draws of each chain (default 1000)")
    command.add_argument("--warmup", type=int, default=1000, help="warm-up draws of each chain (default 1000)")
    command.add_argument("--chains", type=int, default=4)
    command.add_argument("--out", type=Path, metavar="DIR", help="write table, posteriors and figure there")
    command.add_argument("--json", action="store_true", help="the table as JSON on standard output, nothing else")
    command.add_argument("--quiet", action="store_true", help="no progress bars")
    command.set_defaults(run=_compare)
    return parser


def _names(text: str) -> list[str]:
    """Names between commas; one that holds a comma itself stands in double quotes."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True))]


def _noise(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _compare(options: argparse.Namespace) -> int:
    def say(*lines: str) -> None:
        if not options.json:
            print(*lines, sep="\n", flush=True)

    if options.out is not None:
        _check_folder(options.out)
    table = _read(options)
    laws = default_laws(options.alpha, options.width, options.depth)
    say(f"{table.name}: {len(table.X)} rows, {table.X.shape[1]} features, outputs {', '.join(table.output_names)}")
    for note in table.notes:
        say(f"  {note}")
    say("  every column centred and divided by its standard deviation")
    for name, law in laws.items():
        say(f"  {name}: {law!r}, alpha {law.alpha:g}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said once, below the table
        found = compare(
            table.X,
            table.Y,
            laws=laws,
            noise=options.noise,
            seed=options.seed,
            draws=options.draws,
            warmup=options.warmup,
            chains=options.chains,
            control=options.control,
            progress=not options.quiet,
            feature_names=table.feature_names,
            output_names=table.output_names,
        )
    written = found.save(options.out) if options.out is not None else []
    if options.json:
        print(json.dumps(json.loads(found.table.to_json(orient="records")), indent=1))
    say("", render(found), "", found.sentence())
    for name, post in found.posteriors.items():
        print(f"{name}: {post.diagnosis.advice()}", file=sys.stdout if not options.json else sys.stderr)
    if found.control_unconverged:
        print(
            f"{found.control_unconverged} fits to permuted labels have R-hat above 1.05; raise --draws", file=sys.stderr
        )
    say(*(f"wrote {path}" for path in written))
    return DONE if found.converged else NOT_CONVERGED


def _check_folder(folder: Path) -> None:
    """Refuse, before the long work, a folder that the results could not be written to."""
    try:
        os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise checks.InputError(f"--out cannot be used ({error.strerror}); give another folder") from None
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not place.is_dir():
        raise checks.InputError(f"--out {folder}: {place} is a file or a broken link; give a folder")
    if not os.access(place, os.W_OK):
        raise checks.InputError(f"--out {folder}: {place} cannot be written to; give another folder")
    plots.pyplot()


def _read(options: argparse.Namespace) -> data.Dataset:
    shipped = options.table in data.datasets() and not Path(options.table).exists()
    path = data.shipped_path(options.table) if shipped else options.table
    return data.read_table(path, targets=options.targets, features=options.features).standardize()


def render(found: Comparison) -> str:
    """The table for people: a block for each pair of outputs, a line for each law."""
    header = f"{'':14}{'scale correlation':>19}  {'90 % interval':^18}{'function within':>16}{'function total':>20}"
    lines = [header + (f"{'labels permuted':>24}" if found.control else "")]
    for (a, b), rows in found.table.groupby(["output_a", "output_b"], sort=False):
        lines += ["", f"{a} and {b}"]
        for row in rows.itertuples():
            exact = row.scale_mcse == 0
            scale = f"{row.scale_correlation:+.3f}" + (" exact   " if exact else f" +- {row.scale_mcse:.3f}")
            interval = "" if exact else f"{row.scale_lower:+.2f} to {row.scale_upper:+.2f}"
            total = f"{row.function_correlation:+.4f}" + (
                f" +- {row.function_mcse:.4f}" if row.function_mcse else "         "
            )
            line = f"  {row.law:12}{scale:>19}  {interval:^18}{row.function_within:>+16.4f}{total:>20}"
            if found.control:
                control = f"{row.control_mean:+.2f} ({row.control_lower:+.2f} to {row.control_upper:+.2f})"
                line += f"{'0 for all' if exact else control:>24}"
            lines.append(line)
    return "\n".join(lines)
