"""Execute notebooks, each in a fresh process, and keep what they print: `python notebooks/execute.py [--into FOLDER]`.

Without names, every notebook of this folder. Written back in place, or into FOLDER. Execution times, versions and the
interpreter's name are not kept, so that only what a notebook says can change.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def execute(path: Path, timeout: int = 1800) -> nbformat.NotebookNode:
    """The notebook with its outputs; raises `nbclient.exceptions.CellExecutionError` where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(HERE)}},
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    nbformat.validate(notebook)
    return notebook


def main() -> None:
    """Execute the notebooks named on the command line, or all."""
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")  # tqdm's, where there are no widgets
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--into", type=Path, help="folder to write to, instead of in place")
    arguments = parser.parse_args()
    for path in arguments.notebooks or sorted(HERE.glob("*.ipynb")):
        notebook = execute(path)
        target = path if arguments.into is None else arguments.into / path.name
        nbformat.write(notebook, target)
        print(f"{target}: {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
