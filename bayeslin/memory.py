"""Freed memory given back to the system after large work, which the C library's allocator would keep for later."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


def give_back() -> None:
    """Give freed memory back, where the C library is glibc; elsewhere nothing. It takes some tens of milliseconds.

    A compilation by XLA leaves 140 to 600 MB of it, most in the arenas of the threads that compiled.
    """
    trim = _trim()
    if trim is not None:
        trim(ctypes.c_size_t(0))


@cache
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # not glibc; on Windows None names no library
        return None
