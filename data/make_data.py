"""Make the csv files of this folder from the packages that carry the data: palmerpenguins 0.1.6 and scikit-learn.

Run `pip install palmerpenguins==0.1.6 scikit-learn pandas setuptools` and `python data/make_data.py`.
"""

from pathlib import Path

import pandas as pd
from sklearn.datasets import load_diabetes, load_linnerud

HERE = Path(__file__).parent


def write(table: pd.DataFrame, name: str) -> None:
    """Write a table as csv with bytes that do not depend on the machine."""
    (HERE / name).write_bytes(table.to_csv(index=False, lineterminator="\n").encode())


def penguins() -> pd.DataFrame:
    """Read the csv that the package palmerpenguins carries, without importing the package."""
    import importlib.metadata

    files = importlib.metadata.files("palmerpenguins") or []
    path = next(file for file in files if file.name == "penguins.csv")
    return pd.read_csv(path.locate(), dtype=str, keep_default_na=False)


def linnerud() -> pd.DataFrame:
    """Three exercises, then three measurements of the same twenty men."""
    bunch = load_linnerud(as_frame=True)
    return pd.concat([bunch.data, bunch.target], axis=1).astype(int)


def diabetes() -> pd.DataFrame:
    """Ten unscaled baseline variables and the disease progression a year later."""
    bunch = load_diabetes(as_frame=True, scaled=False)
    return bunch.frame.rename(columns={"target": "progression"})


if __name__ == "__main__":
    write(penguins(), "penguins.csv")
    write(linnerud(), "linnerud.csv")
    write(diabetes(), "diabetes.csv")
