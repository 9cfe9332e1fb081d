"""NUTS driven on any NumPyro model: one compiled program for all data of a shape, draws, statistics, resuming.

NumPyro's kernel is driven directly, because its `MCMC` object compiles its main program again at every run. The Python
loop between blocks of draws keeps the progress bar and Ctrl-C outside the compiled program (design section 7).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import NUTS, init_to_sample
from tqdm.auto import tqdm

BLOCK = 50  # most draws per call of the compiled program
ACCEPTANCE = 0.95  # target: a finite network on penguins left no divergence in 30 of 30 seeds, at 0.9 in 29 of 30
SECONDS = 0.2  # wanted length of a call: how soon Ctrl-C and the progress bar are served


class Draws(NamedTuple):
    """Draws after warm-up: `sites` name -> (chains, draws, ...), `stats` name -> (chains, draws), final `state`."""

    sites: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    state: Any

    def __reduce__(self):
        """Pickle the state as NumPy arrays: JAX's own come back in single precision outside of its x64 context."""
        return Draws, (self.sites, self.stats, jax.tree.map(_held, self.state))


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
) -> Draws:
    """Run NUTS on `model(*args)` in float64, chains together, each started from its own prior draw.

    model : a module-level function. args : pytrees of numbers and arrays; their structure and shapes choose the
    compiled program, their values are its arguments. per_chain : arguments before these of which every chain has its
    own, leaves (chains, ...). Sites named with a leading underscore are not collected.
    """
    with jax.enable_x64(True):
        leaves, structure = jax.tree.flatten((*per_chain, *args))
        arrays = [np.asarray(leaf, np.float64) for leaf in leaves]
        own = len(jax.tree.leaves(per_chain))
        program = _program(model, structure, tuple(array.shape for array in arrays), own, warmup)
        blocks = []
        with tqdm(total=warmup + draws, desc=f"{label} (compiling)".strip(), unit="draw", disable=not progress) as bar:
            state = program.start(jax.random.split(key, chains), arrays)
            for phase, count in (("warm-up", warmup), ("sampling", draws)):
                for after, block in _blocks(program.advance, state, arrays, count):
                    state = after
                    if phase == "sampling":
                        blocks.append(block)
                    bar.set_description(f"{label} {phase}".strip(), refresh=False)
                    bar.update(block["diverging"].shape[1])
    collected = {name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]}
    stats = {name: collected.pop(name) for name in STATISTICS}
    return Draws(collected, stats, state)


STATISTICS = ("diverging", "energy", "n_steps", "tree_depth", "acceptance_rate", "step_size", "lp")  # ArviZ's names


def _held(leaf: Any) -> Any:
    """A NumPy array; a key as it is, since only JAX has keys."""
    return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.asarray(leaf)


class _Program(NamedTuple):
    start: Callable
    advance: Callable


def _blocks(advance: Callable, state: Any, arrays: list, count: int):
    """Yield (state, block of draws) until `count` draws are made; the lengths of blocks do not change the draws."""
    length, done = 1, 0
    while done < count:
        length = min(length, count - done, BLOCK)
        began = time.perf_counter()
        state, block = advance(state, arrays, np.int64(length))
        block = {name: np.asarray(values)[:, :length] for name, values in block.items()}
        done += length
        length = max(1, min(2 * length, int(length * SECONDS / (time.perf_counter() - began))))
        yield state, block


@lru_cache(maxsize=16)
def _program(model: Callable, structure: Any, shapes: tuple, own: int, warmup: int) -> _Program:
    """The compiled sampler of a model; one kernel object for each, since a second trace of `init` would break it.

    Each chain has its own of the first `own` arrays.
    """
    kernel = NUTS(model, init_strategy=init_to_sample, target_accept_prob=ACCEPTANCE)
    axes = [0] * own + [None] * (len(shapes) - own)

    @jax.jit
    def start(keys, arrays):
        def chain(key, arrays):
            return kernel.init(key, warmup, model_args=jax.tree.unflatten(structure, arrays))

        return jax.vmap(chain, (0, axes))(keys, arrays)

    @jax.jit
    def advance(state, arrays, length):
        def chain(state, arrays):
            args = jax.tree.unflatten(structure, arrays)
            constrain = kernel.postprocess_fn(args, {})

            def collect(state):
                sites = {name: value for name, value in constrain(state.z).items() if not name.startswith("_")}
                return sites | {
                    "diverging": state.diverging,
                    "energy": state.energy,
                    "n_steps": state.num_steps,
                    "tree_depth": jnp.ceil(jnp.log2(state.num_steps + 1)).astype(int),
                    "acceptance_rate": state.accept_prob,
                    "step_size": state.adapt_state.step_size,
                    "lp": -state.potential_energy,
                }

            def step(index, carry):
                state, buffer = carry
                state = kernel.sample(state, args, {})
                return state, jax.tree.map(lambda rows, row: rows.at[index].set(row), buffer, collect(state))

            shapes = jax.eval_shape(collect, state)
            buffer = jax.tree.map(lambda leaf: jnp.zeros((BLOCK, *leaf.shape), leaf.dtype), shapes)
            return jax.lax.fori_loop(0, length, step, (state, buffer))

        return jax.vmap(chain, (0, axes))(state, arrays)

    return _Program(start, advance)
