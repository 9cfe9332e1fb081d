"""Freed memory that the allocator keeps, and that goes back to the system."""

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil

from bayeslin import memory

MB = 1 << 20
GLIBC = platform.libc_ver()[0] == "glibc"


def resident() -> float:
    return psutil.Process().memory_info().rss / MB


def test_memory_between_blocks_in_use_is_given_back():
    blocks = [bytes(2000) for _ in range(50_000)]  # 95 MB in pieces too small for pages of their own
    pins = blocks[::1000]  # no piece of the heap is free from here to its end
    del blocks
    before = resident()
    memory.give_back()
    assert before - resident() > (80 if GLIBC else -1)
    assert all(pin == bytes(2000) for pin in pins)


def test_a_first_fit_leaves_little_freed_memory():
    """Compilation leaves more than 150 MB without."""
    code = """
import bayeslin as bl
from bayeslin import memory
from test_memory import resident

data = bl.load_dataset("linnerud").standardize()
bl.fit(bl.Proportional(0.5), data, draws=50, warmup=50, progress=False)
before = resident()
memory.give_back()
print(before - resident())
"""
    folder = Path(__file__).parent
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert float(run.stdout) < (100 if GLIBC else np.inf)
