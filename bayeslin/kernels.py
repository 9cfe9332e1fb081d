"""A sampler as one kernel: what XLA can do on a CPU, and does by itself from JAX 0.12 on.

XLA makes a kernel of each operation, or of a few, and with few outputs the hundreds of calls of a leapfrog cost more
than its arithmetic. A loop that reads and writes less than a threshold, and calls no library, becomes a single kernel.
"""

from __future__ import annotations

import os
import warnings

import jax
import jax.numpy as jnp

BY_ITSELF = jax.__version_info__ >= (0, 12)  # before, from 1024 bytes on a loop is split
THRESHOLD = 2_000_000  # bytes; a leapfrog of 5 outputs and 512 directions stays below it
OPTION = "xla_cpu_small_while_loop_byte_threshold"
FLAG = f"--xla_backend_extra_options={OPTION}={THRESHOLD}"


def fuse_loops() -> None:
    """Let XLA make one kernel of a small loop in this process: NUTS of few outputs is then some two times faster.

    That is with up to five outputs and some 500 directions of the inputs; beyond, little changes.

    JAX does so by itself from 0.12 on, where this changes nothing. An older one is asked for it in the environment
    variable `XLA_FLAGS`, unless that sets the threshold already, which must happen before JAX is first used; even
    `jax.devices()` is too late. Warns where it has no effect, and changes nothing on a GPU. It holds for all programs
    of the process, whose draws differ by rounding from those of programs compiled without it. At the top of a program::

        import bayeslin as bl

        bl.fuse_loops()
    """
    before = os.environ.get("XLA_FLAGS")
    ask()
    if jax.default_backend() == "cpu" and not _heard():
        if before is None:
            os.environ.pop("XLA_FLAGS", None)
        else:
            os.environ["XLA_FLAGS"] = before
        warnings.warn(
            "fuse_loops has no effect: JAX was used before, or XLA_FLAGS sets a smaller threshold; call it first, or "
            f"set the environment variable XLA_FLAGS={FLAG} before Python starts",
            stacklevel=2,
        )


def ask() -> None:
    """Add to `XLA_FLAGS`, which XLA reads when JAX is first used, where JAX needs it."""
    given = os.environ.get("XLA_FLAGS", "")
    if OPTION not in given and not BY_ITSELF:
        os.environ["XLA_FLAGS"] = f"{given} {FLAG}".strip()


def _heard() -> bool:
    """Whether a loop that XLA would split by default is one kernel."""
    loop = jax.jit(lambda x: jax.lax.fori_loop(0, 10, lambda _, x: jnp.cumsum(jnp.sin(x)), x))
    return "xla_cpu_small_call" in str(loop.lower(jnp.zeros(1000)).compile().as_text())
