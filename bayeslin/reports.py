"""What the command line prints: results as plain dictionaries for machines, and as text for people."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayeslin.comparison import Comparison
from bayeslin.hyperparameters import is_random
from bayeslin.posterior import Posterior


def summarize(post: Posterior) -> dict[str, Any]:
    """A posterior in numbers, ready for JSON: settings, diagnostics, hyperparameters, noise, output correlations.

    `noise_sd` is in label units; intervals hold 90 %.
    """
    diagnosis, found = post.diagnosis, post.output_correlation()
    priors = {"alpha": post.law.alpha, "signal_variance": post.law.signal_variance}
    scale = 1.0 if post.dataset is None else post.dataset.y_scale
    sd = np.sqrt(np.diagonal(post.noise_cov, axis1=-2, axis2=-1)) * scale
    return {
        "law": repr(post.law),
        "noise": repr(post.noise).strip("'"),
        "rows": int(post.spec.n),
        "features": list(post.feature_names),
        "outputs": list(post.output_names),
        **post.settings,
        "converged": post.diagnosis.converged,
        "exact": post.exact,
        "advice": diagnosis.advice(),
        "rhat_max": _number(diagnosis.rhat_max),
        "ess_min": _number(diagnosis.ess_min),
        "divergences": diagnosis.divergences,
        "hyperparameters": {name: _spread(getattr(post, name)) for name in priors if is_random(priors[name])},
        "noise_sd": {name: _spread(sd[..., d]) for d, name in enumerate(post.output_names)},
        "correlations": [
            {
                "output_a": post.output_names[a],
                "output_b": post.output_names[b],
                "scale": float(found.scale[a, b]),
                "scale_mcse": float(found.scale_mcse[a, b]),
                "scale_interval": found.scale_interval[:, a, b].tolist(),
                "function_within": float(found.function_within[a, b]),
                "function": float(found.function[a, b]),
                "noise": float(found.noise[a, b]),
                "noise_interval": found.noise_interval[:, a, b].tolist(),
            }
            for a, b in zip(*np.triu_indices(post.spec.outputs, 1), strict=True)
        ],
    }


def _spread(draws: np.ndarray) -> dict[str, float]:
    lower, upper = np.quantile(draws, [0.05, 0.95])
    return {"mean": float(draws.mean()), "lower": float(lower), "upper": float(upper)}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def render_summary(summary: dict[str, Any]) -> str:
    """`summarize` for people."""
    outputs = ", ".join(summary["outputs"])
    lines = [
        f"{summary['law']}, noise {summary['noise']}",
        f"{summary['rows']} rows, {len(summary['features'])} features, outputs {outputs}",
        f"{summary['chains']} chains of {summary['draws']} draws after {summary['warmup']}, seed {summary['seed']}",
        summary["advice"],
    ]
    values = summary["hyperparameters"] | {f"noise sd, {name}": sd for name, sd in summary["noise_sd"].items()}
    width = max(map(len, values))
    lines += ["", f"{'':{width}}{'mean':>12}  90 % interval"]
    lines += [f"{name:{width}}{v['mean']:>12.4g}  {v['lower']:.4g} to {v['upper']:.4g}" for name, v in values.items()]
    if summary["correlations"]:
        lines += [
            "",
            f"{'correlations':34}{'scale':>7}  {'90 % interval':18}{'function':>9}{'noise':>9}  90 % interval",
        ]
    for row in summary["correlations"]:
        pair = f"{row['output_a']} and {row['output_b']}"
        lines.append(
            f"{pair:34}{row['scale']:>+7.3f}  {_interval(row['scale_interval']):18}{row['function']:>+9.3f}"
            f"{row['noise']:>+9.3f}  {_interval(row['noise_interval'])}"
        )
    return "\n".join(line.rstrip() for line in lines)


def _interval(ends: list[float]) -> str:
    lower, upper = ends
    return f"{lower:+.2f} to {upper:+.2f}" if lower < upper else "exactly"


def render_comparison(found: Comparison) -> str:
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
    return "\n".join([*lines, *_apart(found)])


def _apart(found: Comparison) -> list[str]:
    """Lines on what some laws infer beside the scale: alpha, and the noise's own correlations."""
    lines = []
    for name, row in found.table.drop_duplicates("law").set_index("law").iterrows():
        if row.alpha_lower < row.alpha_upper:
            lines.append(
                f"{name}: alpha {row.alpha:.2f} (90 % interval {row.alpha_lower:.2f} to {row.alpha_upper:.2f})"
            )
    for row in found.table[found.table.noise_lower < found.table.noise_upper].itertuples():
        interval = f"{row.noise_lower:+.2f} to {row.noise_upper:+.2f}"
        pair = f"{row.output_a} and {row.output_b}"
        lines.append(f"{row.law}: noise correlation of {pair} {row.noise_correlation:+.3f} ({interval})")
    return ["", *lines] if lines else []
