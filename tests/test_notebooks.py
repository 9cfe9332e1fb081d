"""The notebooks: what is stored is whole and clean, and each runs, with few draws, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
IDS = [path.stem for path in NOTEBOOKS]
# Folders of a machine, or an address in memory: nothing of the place where a notebook ran.
PLACE = re.compile(r"(?<![\w.:/])/[\w.-]+/[\w.-]+|[A-Z]:\\\\|0x[0-9a-f]{8,}")


def texts(output):
    """All text of an output, pictures left out."""
    data = output.get("data", {})
    return "\n".join(
        [output.get("text", ""), *(str(value) for mime, value in data.items() if not mime.startswith("image/"))]
    )


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def assert_clean(notebook):
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"], "warnings or bars"
    for output in outputs:
        assert not PLACE.search(texts(output)), texts(output)
        plain = output.get("text", "") + output.get("data", {}).get("text/plain", "")
        assert len(plain.splitlines()) <= 60, "a wall of text"
    assert "execution" not in "".join(str(cell.metadata) for cell in notebook.cells)
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_there_are_three():
    assert IDS == ["01_priors", "02_fit_and_diagnose", "03_labels_shape_correlations"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_the_stored_notebook_is_whole_and_clean(path):
    assert path.stat().st_size < 1_500_000
    notebook = nbformat.read(path, as_version=4)
    assert_clean(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "assert " in code(notebook)[-1].source, "it ends in what it shows"


# The second is about ArviZ, so it runs on either line of it with the default suite; the others take as long again.
RUNS = [NOTEBOOKS[1], *(pytest.param(path, marks=pytest.mark.slow) for path in (NOTEBOOKS[0], NOTEBOOKS[2]))]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_the_notebook_runs_with_few_draws(path, tmp_path):
    command = [sys.executable, str(FOLDER / "execute.py"), str(path), "--into", str(tmp_path)]
    found = subprocess.run(
        command, env=os.environ | {"BAYESLIN_DRAWS": "100"}, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert_clean(nbformat.read(tmp_path / path.name, as_version=4))


@pytest.mark.parametrize(
    "text", ["/home/me/x", "/tmp/ipykernel_1/2.py:3: UserWarning", "<object at 0x7f0012345678>", "see /srv/data/x"]
)
def test_places_would_be_seen(text):
    assert PLACE.search(text)


@pytest.mark.parametrize("text", ["L/N", "1/N_l", "mm/g", "https://arxiv.org/abs/2411.15267", "/posterior"])
def test_other_slashes_are_no_places(text):
    assert not PLACE.search(text)
