"""Throughput of `fit_many` beside a loop of warm fits, as a row of a markdown table: python benchmarks/many.py."""

import argparse
import time
import warnings

import numpy as np

import bayeslin as bl

HEAD = (
    "| sets | chains | loop, fits/s | fit_many, fits/s | ratio | ratio of ESS/s | largest difference of rho, in MCSE |"
)


def main():
    """Teachers of 20 rows, 3 features, 3 outputs; both warm, the loop timed on the first `--loop` of the sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--loop", type=int, default=40, help="fits of the loop (default 40)")
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--draws", type=int, default=200, help="and as many of warm-up (default 200)")
    parser.add_argument("--max-tree-depth", type=int, default=3, help="of fit_many (default 3); the loop has fit's own")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    law = bl.Proportional(0.5)
    settings = {"draws": options.draws, "warmup": options.draws, "chains": options.chains, "progress": False}
    sets = [bl.data.teacher(20, 3, 3, seed=k, correlation=0.5).dataset.standardize() for k in range(options.sets)]

    bl.fit(law, sets[0], **settings)
    depth = options.max_tree_depth
    bl.fit_many(law, sets, **settings | {"draws": 1}, max_tree_depth=depth)  # compiled for the same warm-up
    few = sets[: options.loop]
    began = time.perf_counter()
    loop = [bl.fit(law, data, seed=k, **settings) for k, data in enumerate(few)]
    alone = len(few) / (time.perf_counter() - began)
    began = time.perf_counter()
    many = bl.fit_many(law, sets, **settings, max_tree_depth=depth)
    together = len(sets) / (time.perf_counter() - began)

    pairs = [(one.output_correlation(), other.output_correlation()) for one, other in zip(loop, many, strict=False)]
    a, b = np.triu_indices(3, 1)
    far = max(
        (abs(one.scale - other.scale) / np.hypot(one.scale_mcse, other.scale_mcse))[a, b].max() for one, other in pairs
    )
    ess = [np.median([post.diagnosis.ess_min for post in posts]) for posts in (many[: len(few)], loop)]
    more = together / alone
    print(f"{HEAD}\n|{' --- |' * 7}")
    print(
        f"| {len(sets)} | {options.chains} | {alone:.2f} | {together:.2f} | {more:.1f} "
        f"| {more * ess[0] / ess[1]:.1f} | {far:.1f} |"
    )


if __name__ == "__main__":
    main()
