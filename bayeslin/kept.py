"""Compiled programs kept between runs of the command line, in the user's cache folder; the library keeps none."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

OPT_OUT = "BAYESLIN_NO_CACHE"
LARGEST = 500_000_000  # bytes in the folder above which the oldest programs go; a few hundred programs
TROUBLE = "persistent compilation cache"  # in JAX's warnings about an entry that it cannot read or write
ENABLED = "jax_enable_compilation_cache"
SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


def folder() -> Path:
    """Where the programs are kept: a folder of the user's cache, by the habit of the system."""
    if sys.platform == "win32":
        place = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        place = Path.home() / "Library" / "Caches"
    else:
        place = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(place) / "bayeslin" / "programs"


@contextlib.contextmanager
def programs(wanted: bool = True) -> Iterator[None]:
    """Keep what JAX compiles meanwhile, and use what was kept; settings are put back at the end.

    Does nothing where it is not wanted, `BAYESLIN_NO_CACHE` is set, or JAX's own settings name a folder or forbid one.
    JAX's keys hold its version, the machine and the program, so that nothing stale is used. What cannot be read,
    because a run was killed while it wrote, is compiled again and the folder emptied.
    """
    own = getattr(jax.config, SETTINGS[0]) is None and getattr(jax.config, ENABLED)
    place = _prepared() if wanted and own and not os.environ.get(OPT_OUT) else None
    if place is None:
        yield
        return
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    show, broken = warnings.showwarning, []

    def listen(message, *details, **more):
        if TROUBLE in str(message):
            broken.append(message)
        else:
            show(message, *details, **more)

    try:
        for name, value in zip(SETTINGS, (str(place), 0.0), strict=True):
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # JAX decides once whether it has a folder
        warnings.showwarning = listen
        yield
    finally:
        warnings.showwarning = show
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if broken:
            shutil.rmtree(place, ignore_errors=True)
        prune(place)


def _prepared() -> Path | None:
    """The folder, made; None, and one warning, where it cannot be."""
    try:
        place = folder()
        place.mkdir(parents=True, exist_ok=True)
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except (OSError, RuntimeError) as error:  # RuntimeError: no home
        reason = getattr(error, "strerror", None) or error
        warnings.warn(f"compiled programs are not kept ({reason}); --no-cache says that it is meant so", stacklevel=3)
        return None
    return place


def prune(place: Path) -> None:
    """Remove the oldest programs above the limit; another process that misses one compiles it again."""
    with contextlib.suppress(OSError):
        files = sorted(((path.stat().st_mtime, path.stat().st_size, path) for path in place.iterdir()), reverse=True)
        held = 0
        for _, size, path in files:
            held += size
            if held > LARGEST:
                path.unlink(missing_ok=True)
