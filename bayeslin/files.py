"""Files written whole or not at all, and sealed, so that damage is noticed before anything reads them."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bayeslin import checks

SEAL = b"\nbayeslin sha256 "  # and 64 hexadecimal digits: the last bytes of a sealed file, which HDF5 does not read
CHUNK = 1 << 20


def target(path: Any) -> Path:
    """The path to write to, ~ and links followed; raises `InputError`, before the long work, where no file can be."""
    given = Path(path)
    try:
        path = Path(os.path.realpath(given.expanduser()))
        if path.is_dir():
            raise checks.InputError(f"{given} is a folder; give the name of a file, such as {given / 'model.nc'}")
        if not path.parent.is_dir():
            raise checks.InputError(f"cannot write {given}: there is no folder {given.parent}; make it first")
        _open_aside(path).unlink()
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, checks.InputError):
            raise
        raise checks.InputError(f"cannot write {given} ({_reason(error)}); give another file") from None
    return path


def write_whole(path: Any, write: Callable[[Path], None], *, seal: bool = False) -> Path:
    """Let `write` make a file aside, then put it in the place of `path`; returns where it is."""
    path = target(path)
    aside = _open_aside(path)
    try:
        write(aside)
        if seal:
            digest = _digest(aside, aside.stat().st_size)
            with aside.open("ab") as file:
                file.write(SEAL + digest)
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise checks.InputError(f"cannot write {path} ({_reason(error)}); give another file") from None
    finally:
        aside.unlink(missing_ok=True)
    return path


def is_damaged(path: Path) -> bool:
    """Whether a sealed file has changed since; False where there is no seal."""
    size = path.stat().st_size - len(SEAL) - 64
    if size < 0:
        return False
    with path.open("rb") as file:
        file.seek(size)
        seal = file.read()
    return seal.startswith(SEAL) and seal[len(SEAL) :] != _digest(path, size)


def _open_aside(path: Path) -> Path:
    """A new empty file beside `path`, with the rights of any new file."""
    aside = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(4)}{path.suffix}")
    if len(os.fsencode(path.name)) > 255:
        raise OSError("the name is too long")
    os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return aside


def _digest(path: Path, size: int) -> bytes:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while size:
            block = file.read(min(size, CHUNK))
            found.update(block)
            size -= len(block)
    return found.hexdigest().encode()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
