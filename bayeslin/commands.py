"""What each command of the command line does; the exit codes are those of `cli`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bayeslin import checks, data, files, plots, scan, tables
from bayeslin.comparison import compare, default_laws
from bayeslin.diagnostics import ConvergenceWarning
from bayeslin.inference import fit, resume
from bayeslin.material import checked_settings
from bayeslin.noise import Noise
from bayeslin.posterior import Posterior
from bayeslin.reports import render_comparison, render_summary, summarize
from bayeslin.scale import NNGP, Law, Proportional

DONE, BAD_INPUT, NOT_CONVERGED, INTERRUPTED = 0, 2, 3, 130


def run_compare(options: argparse.Namespace) -> int:
    """Fit three laws to a table and print the output correlations that they find."""
    if options.out is not None:
        _check_folder(options.out)
    laws = default_laws(**_of_laws(options))
    _check_sampler(options)
    table = _read(options)
    _say(options, *_describe(table), *(f"  {name}: {law!r}" for name, law in laws.items()))
    found = in_background(
        lambda: compare(table, laws=laws, noise=options.noise, control=options.control, **_settings(options))
    )
    written = found.save(options.out) if options.out is not None else []
    if options.json:
        print(json.dumps(tables.records(found.table), indent=1))
    _say(options, "", render_comparison(found), "", found.sentence())
    for name, post in found.posteriors.items():
        print(f"{name}: {post.diagnosis.advice()}", file=sys.stderr if options.json else sys.stdout)
    if found.control_unconverged:
        print(
            f"{found.control_unconverged} fits to permuted labels have R-hat above 1.05; raise --draws", file=sys.stderr
        )
    _say(options, *(f"wrote {path}" for path in written))
    return DONE if found.converged else NOT_CONVERGED


def run_fit(options: argparse.Namespace) -> int:
    """Fit one law to a table, write the posterior to a file, print its summary."""
    _check_file(options.out, (".nc",))
    law = _law(options)
    _check_sampler(options)
    table = _read(options, keep_rows=not scan.is_large(_path(options.table)))
    _say(options, *_describe(table), f"  {law!r}, noise {options.noise}")
    post = in_background(lambda: fit(law, table, noise=options.noise, **_settings(options)))
    return _report(post, options)


def run_resume(options: argparse.Namespace) -> int:
    """Add draws to the posterior in a file."""
    out = options.model if options.out is None else options.out
    _check_file(out, (".nc",))
    post = Posterior.load(options.model)
    longer = in_background(lambda: resume(post, options.draws, progress=not options.quiet))
    options.out = out
    return _report(longer, options)


def run_predict(options: argparse.Namespace) -> int:
    """Predict the rows of a table by the posterior in a file: means, sds and intervals, as csv or parquet."""
    if options.out is not None:
        _check_file(options.out, (".csv", ".parquet"))
        if options.out.exists() and Path(options.table).exists() and options.out.samefile(options.table):
            raise checks.InputError(f"--out {options.out} would overwrite the table to predict; give another file")
    post = Posterior.load(options.model)
    frame = data.read_frame(_path(options.table))
    if post.dataset is None or not post.dataset.columns:
        frame = frame[tables.known(post.feature_names, frame.columns, str(options.table))]
    predictions = post.predict(frame, noise=not options.function).to_frame(options.coverage)
    if options.out is not None:
        files.write_whole(options.out, lambda path: tables.write_frame(predictions, path))
        _say(options, f"wrote {options.out}: {len(predictions)} rows, {', '.join(predictions.columns)}")
    if options.json:
        print(json.dumps(tables.records(predictions), indent=1))
    elif options.out is None:
        print(predictions.to_csv(index=False, float_format="%.10g"), end="")
    if not post.diagnosis.converged:
        print(f"{options.model}: {post.diagnosis.advice()}", file=sys.stderr)
    return DONE if post.diagnosis.converged else NOT_CONVERGED


def run_summary(options: argparse.Namespace) -> int:
    """Print what the posterior in a file says."""
    post = Posterior.load(options.model)
    summary = summarize(post)
    print(json.dumps(summary, indent=1) if options.json else render_summary(summary))
    return DONE if post.diagnosis.converged else NOT_CONVERGED


def run_datasets(options: argparse.Namespace) -> int:
    """List the data sets that come with the package."""
    found = {name: data.load_dataset(name) for name in data.datasets()}
    sizes = [
        {"name": name, "rows": len(table.X), "features": table.X.shape[1], "targets": list(table.output_names)}
        for name, table in found.items()
    ]
    if options.json:
        print(json.dumps(sizes, indent=1))
    else:
        for size in sizes:
            targets = ", ".join(size["targets"])
            print(f"{size['name']:10} {size['rows']:>4} rows, {size['features']:>2} features, targets {targets}")
    return DONE


def in_background(work: Callable[[], Any]) -> Any:
    """Do long work in a thread, so that Ctrl-C is answered at once, also while XLA compiles."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # said with the results
                outcome.append(work())
        except BaseException as error:  # raised again below, in the main thread
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _report(post: Posterior, options: argparse.Namespace) -> int:
    post.save(options.out)
    summary = summarize(post)
    if options.json:
        print(json.dumps(summary, indent=1))
    _say(options, "", render_summary(summary), f"wrote {options.out}")
    if options.json and not post.diagnosis.converged:
        print(post.diagnosis.advice(), file=sys.stderr)
    return DONE if post.diagnosis.converged else NOT_CONVERGED


def _law(options: argparse.Namespace) -> Law:
    """The law that was asked for; raises `InputError` for options that are another law's."""
    given = _of_laws(options)
    known = {"nngp": (), "proportional": ("alpha",), "finite": ("alpha", "width", "depth")}[options.law]
    for name in ("alpha", "width", "depth"):
        if name in given and name not in known:
            raise checks.InputError(f"--law {options.law} has no --{name}; leave it out, or choose another --law")
    if options.law == "nngp":
        return NNGP(**given)
    return Proportional(**{"alpha": 0.5} | given) if options.law == "proportional" else default_laws(**given)["finite"]


def _of_laws(options: argparse.Namespace) -> dict[str, Any]:
    """What was said about the laws."""
    values = {name: getattr(options, name) for name in ("alpha", "width", "depth", "signal_variance")}
    return {name: value for name, value in values.items() if value is not None}


def _check_sampler(options: argparse.Namespace) -> None:
    """Refuse, before a long table is read, what `fit` would refuse afterwards."""
    Noise(options.noise)
    checked_settings(options.seed, options.draws, options.warmup, options.chains, max_tree_depth=1)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    names = ("seed", "draws", "warmup", "chains")
    return {name: getattr(options, name) for name in names} | {"progress": not options.quiet}


def _say(options: argparse.Namespace, *lines: str) -> None:
    if not options.json:
        print(*lines, sep="\n", flush=True)


def _describe(table: data.Dataset) -> list[str]:
    size = f"{table.n} rows, {table.X.shape[1]} features, outputs {', '.join(table.output_names)}"
    steps = list(table.notes)
    if table.factor is not None:
        steps.append(f"more than {scan.LARGE:.0e} cells: read in batches, rows not kept, so no leave-one-out")
    steps = [*steps, "every column centred and divided by its standard deviation"]
    return [f"{table.name}: {size}", *(f"  {step}" for step in steps)]


def _path(table: str) -> Any:
    """A file, or the name of a shipped set."""
    return data.shipped_path(table) if table in data.datasets() and not Path(table).exists() else table


def _read(options: argparse.Namespace, *, keep_rows: bool = True) -> data.Dataset:
    path, chosen = _path(options.table), {"targets": options.targets, "features": options.features}
    if keep_rows:
        return data.read_table(path, **chosen).standardize()
    return scan.scan_table(path, **chosen, progress=not options.quiet).standardize()


def _check_file(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse, before the long work, a file that the results could not be written to."""
    if path.suffix not in suffixes:
        raise checks.InputError(f"--out {path}: the name must end in {' or '.join(suffixes)}")
    files.target(path)


def _check_folder(folder: Path) -> None:
    """Refuse, before the long work, a folder that the results could not be written to."""
    folder = folder.expanduser()
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
