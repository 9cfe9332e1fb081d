"""The compiled NUTS of a NumPyro model: how it starts, how it moves on, and its state as plain arrays.

NumPyro's kernel is driven directly, because its `MCMC` object compiles its main program again at every run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import NUTS, init_to_sample, init_to_uniform

from bayeslin import checks, diagnostics, memory
from bayeslin.hyperparameters import leaves_by_name

BLOCK = 50  # most draws per call of the compiled program
# Target. Most coordinates are about white noise, half a turn of which takes seven leapfrogs of the steps found here. At
# 0.8 some chains' steps come out too short for that and trees double; at 0.7 fits of three rows diverge more often.
ACCEPTANCE = 0.75
# Target without a guide and in one dimension. At 0.8 up to 18 of 8000 draws of a small network's weights diverge, and
# up to 3 of an isotropic noise's from three or four rows under the NNGP; here at most one was seen.
WARY = 0.95
STATISTICS = ("diverging", "energy", "n_steps", "tree_depth", "acceptance_rate", "step_size", "lp")  # ArviZ's names

# XLA's options for what runs once a chain: of its two halves of compilation, LLVM's optimisation is not worth its time.
ONCE = {"xla_backend_optimization_level": 0}

_TRACING = threading.Lock()  # one thread at a time, because NumPyro's stack of handlers is shared by all


class Structure(NamedTuple):
    """How arrays make a model's arguments; the same in every process, so that programs are found again on disk."""

    tree: Any
    places: tuple[int, ...]  # of the tree's leaves among the arrays

    def arguments(self, arrays: Sequence) -> Any:
        """The pytree of these arrays, or of what stands for them."""
        return jax.tree.unflatten(self.tree, [arrays[place] for place in self.places])


def taken_apart(args: Any) -> tuple[list, Structure]:
    """The arrays of a pytree, and how they make it."""
    leaves, tree = jax.tree.flatten(args)
    order = leaves_by_name(jax.tree.unflatten(tree, range(len(leaves))))
    return [leaves[index] for index in order], Structure(tree, tuple(map(int, np.argsort(order))))


class Program(NamedTuple):
    """Compiled functions, and the shapes and types of the state that the first makes and the second moves on."""

    start: Callable
    advance: Callable
    state: Any


def compiled(
    model: Callable, structure: Structure, shapes: tuple, own: int, warmup: int, guided: bool, max_tree_depth: int
) -> Program:
    """The compiled sampler of a model, made once.

    structure : of its arguments; shapes : shape and type of the chains' keys and of each array, of which each chain has
    its own of the first `own`; guided : whether chains start near zero in every coordinate or at draws of the prior.
    """
    with _TRACING:
        return _made(model, structure, shapes, own, warmup, guided, max_tree_depth)


@lru_cache(maxsize=16)
def _made(
    model: Callable, structure: Structure, shapes: tuple, own: int, warmup: int, guided: bool, max_tree_depth: int
) -> Program:
    start_at = init_to_uniform if guided else init_to_sample
    like_keys, *like_arrays = (jax.ShapeDtypeStruct(*each) for each in shapes)
    axes = [0] * own + [None] * (len(like_arrays) - own)
    for acceptance in (ACCEPTANCE, WARY) if guided else (WARY,):
        nuts = NUTS(model, init_strategy=start_at, target_accept_prob=acceptance, max_tree_depth=max_tree_depth)
        start, advance = _functions(nuts, structure, axes, own, warmup, single=like_keys.shape == (1,))
        started = start.lower(like_keys, like_arrays)
        if sum(site.size for site in started.out_info.z.values()) > like_keys.size:
            break  # more than one coordinate a chain
    state = jax.tree.map(lambda like: jax.ShapeDtypeStruct(like.shape, like.dtype), started.out_info)
    advanced = advance.lower(state, like_arrays, np.int64(1))
    once = ONCE if jax.default_backend() == "cpu" else None
    with ThreadPoolExecutor(2) as pool:  # what takes longest of a first fit, side by side
        later, first = pool.submit(advanced.compile), pool.submit(started.compile, once)
        pool.submit(diagnostics.arviz)  # the judgement of the draws needs it, and it takes seconds to import
        made = Program(first.result(), later.result(), state)
    memory.give_back()
    return made


def _functions(kernel: NUTS, structure: Structure, axes: list, own: int, warmup: int, single: bool) -> tuple[Any, Any]:
    """Start and advance of all chains, jitted. One kernel for each, since a second trace of `init` would break it."""

    def lift(chain: Callable) -> Callable:
        """For all chains; one alone is not batched, since batches compute both sides of every branch."""
        if not single:
            return jax.vmap(chain, (0, axes))

        def alone(state, arrays):
            state, mine = jax.tree.map(lambda x: x[0], (state, arrays[:own]))
            return jax.tree.map(lambda x: x[None], chain(state, [*mine, *arrays[own:]]))

        return alone

    @jax.jit
    def start(keys, arrays):
        def chain(key, arrays):
            return kernel.init(key, warmup, model_args=structure.arguments(arrays))

        return lift(chain)(keys, arrays)

    @jax.jit
    def advance(state, arrays, length):
        def chain(state, arrays):
            args = structure.arguments(arrays)
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

        return lift(chain)(state, arrays)

    return start, advance


def dismantle(state: Any) -> tuple[np.ndarray, ...]:
    """A state of the kernel as plain arrays, keys by their data."""
    return tuple(np.asarray(jax.random.key_data(x) if _is_key(x) else x) for x in jax.tree.leaves(state))


def assemble(template: Any, stored: tuple[np.ndarray, ...]) -> Any:
    """The state that `dismantle` took apart; raises `InputError` where it does not fit the kernel."""
    template, structure = jax.tree.flatten(template)
    shapes = [jax.eval_shape(jax.random.key_data, x).shape if _is_key(x) else x.shape for x in template]
    if [np.shape(x) for x in stored] != shapes:
        raise checks.InputError("the stored state does not fit this model and version of NumPyro; fit anew instead")
    leaves = [
        jax.random.wrap_key_data(jnp.asarray(x)) if _is_key(like) else jnp.asarray(x, like.dtype)
        for like, x in zip(template, stored, strict=True)
    ]
    return jax.tree.unflatten(structure, leaves)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
