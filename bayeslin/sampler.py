"""NUTS driven on any NumPyro model: chains beside each other, draws, statistics, resuming.

A Python loop between blocks of draws keeps the progress bar and Ctrl-C outside the compiled program (design section 7).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm.auto import tqdm

from bayeslin import program

SECONDS = 0.2  # wanted length of a call: how soon Ctrl-C and the progress bar are served


class Draws(NamedTuple):
    """Draws after warm-up: `sites` name -> (chains, draws, ...), `stats` name -> (chains, draws).

    state : where the chains stand and how they are adapted, plain arrays; None where they cannot go on.
    """

    sites: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    state: tuple[np.ndarray, ...] | None

    def followed_by(self, later: Draws) -> Draws:
        """These draws and then the later ones of the same chains."""

        def join(before: dict, after: dict) -> dict:
            return {name: np.concatenate([values, after[name]], axis=1) for name, values in before.items()}

        return Draws(join(self.sites, later.sites), join(self.stats, later.stats), later.state)


def key_of(seed: int) -> jax.Array:
    """The key of a seed below 2^63, all of whose bits count; outside of `enable_x64` JAX drops those above 32."""
    with jax.enable_x64(True):
        return jax.random.key(seed)


def sample(
    model: Callable,
    args: tuple,
    *,
    key: jax.Array,
    draws: int,
    warmup: int,
    chains: int,
    progress: bool = True,
    label: str = "",
    per_chain: Any = (),
    guided: bool = False,
    max_tree_depth: int = 10,
    state: tuple[np.ndarray, ...] | None = None,
    ended: threading.Event | None = None,
) -> Draws:
    """Run NUTS on `model(*args)` in float64, each chain from a start of its own.

    On CPU each chain has a thread, as many at once as there are cores; chains with data of their own, and all chains on
    a GPU, share one vectorised program.

    model : a module-level function. args : pytrees of numbers and arrays; their structure and shapes choose the
    compiled program, their values are its arguments. per_chain : arguments before these of which every chain has its
    own, leaves (chains, ...). key : one, or one for each chain, (chains,). Sites named with a leading underscore are
    not collected. guided : chains start near zero in every coordinate, for models whose coordinates the labels centre;
    otherwise at draws of the prior. max_tree_depth : of NUTS, 2^depth - 1 leapfrogs at most.
    state : of earlier draws, which these then follow exactly as if they had not been interrupted; no warm-up, no key.
    ended : once it is set, chains end after their block, by `KeyboardInterrupt`.
    """
    ended = threading.Event() if ended is None else ended
    with jax.enable_x64(True):
        leaves, structure = program.taken_apart((*per_chain, *args))
        arrays = [np.asarray(leaf, np.float64) for leaf in leaves]
        own = len(jax.tree.leaves(per_chain))
        keys = key if key.ndim else jax.random.split(key, chains)
        size = 1 if not own and jax.default_backend() == "cpu" else chains  # a GPU takes them all at once
        groups = [slice(at, at + size) for at in range(0, chains, size)]
        phases = [("warm-up", 0 if state is not None else warmup), ("sampling", draws)]
        total, title = sum(count for _, count in phases), f"{label} (compiling)".strip()
        with tqdm(total=total * len(groups), desc=title, unit="draw", disable=not progress) as bar:
            shapes = (((size,), keys.dtype), *((array.shape, array.dtype) for array in arrays))
            nuts = program.compiled(model, structure, shapes, own, warmup, guided, max_tree_depth)
            telling, reached = threading.Lock(), set()

            def tell(phase: str, count: int) -> None:
                with telling:
                    reached.add(phase)  # some chains are ahead of others
                    furthest = next(name for name, _ in reversed(phases) if name in reached)
                    bar.set_description(f"{label} {furthest}".strip(), refresh=False)
                    bar.update(count)

            def run(group: slice) -> Draws:
                stored = None if state is None else tuple(leaf[group] for leaf in state)
                return _run(nuts, arrays, keys[group], stored, phases, tell, ended)

            return _joined(_in_threads(run, groups, ended))


def _run(
    nuts: program.Program,
    arrays: list,
    keys: jax.Array,
    stored: tuple[np.ndarray, ...] | None,
    phases: list[tuple[str, int]],
    tell: Callable[[str, int], None],
    ended: threading.Event,
) -> Draws:
    """Some chains from their start, or from where they stood, to the end of the phases or of all."""
    with jax.enable_x64(True):  # a thread has its own
        at = nuts.start(keys, arrays) if stored is None else program.assemble(nuts.state, stored)
        blocks = []
        for phase, count in phases:
            for after, block in _blocks(nuts.advance, at, arrays, count):
                at = after
                if phase == "sampling":
                    blocks.append(block)
                tell(phase, block["diverging"].shape[1])
                if ended.is_set():
                    raise KeyboardInterrupt
    sites = {name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]}
    stats = {name: sites.pop(name) for name in program.STATISTICS}
    return Draws(sites, stats, program.dismantle(at))


def _in_threads(run: Callable[[slice], Draws], groups: list[slice], ended: threading.Event) -> list[Draws]:
    """Every group's draws, in order; where one fails, or Ctrl-C comes, the others end after their block."""
    if len(groups) == 1:
        return [run(groups[0])]
    with ThreadPoolExecutor(min(cores(), len(groups))) as pool:
        tasks = [pool.submit(run, group) for group in groups]
        try:
            return [task.result() for task in tasks]
        except BaseException:
            ended.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _joined(parts: list[Draws]) -> Draws:
    """Chains of several groups as one."""

    def stack(each: list[dict]) -> dict:
        return {name: np.concatenate([part[name] for part in each]) for name in each[0]}

    states = [part.state for part in parts if part.state is not None]
    state = tuple(np.concatenate(leaves) for leaves in zip(*states, strict=True))
    return Draws(stack([part.sites for part in parts]), stack([part.stats for part in parts]), state)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _blocks(advance: Callable, state: Any, arrays: list, count: int):
    """Yield (state, block of draws) until `count` draws are made; the lengths of blocks do not change the draws."""
    length, done = 1, 0
    while done < count:
        length = min(length, count - done, program.BLOCK)
        began = time.perf_counter()
        state, block = advance(state, arrays, np.int64(length))
        block = {name: np.asarray(values)[:, :length] for name, values in block.items()}
        done += length
        length = max(1, min(2 * length, int(length * SECONDS / (time.perf_counter() - began))))
        yield state, block
