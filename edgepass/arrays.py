"""Arrays by name, from .npz and .safetensors; nothing in them is ever unpickled."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from edgepass.errors import InputError, first_line
from edgepass.runtimes import Array


def named_arrays(path: Path) -> dict[str, Array]:
    """The arrays in a file by the names that they have there.

    Raises InputError with one sentence.
    """
    match path.suffix:
        case ".npz":
            return _npz(path)
        case ".safetensors":
            return _safetensors(path)
        case other:
            raise InputError(
                f"{path}: data in {other or 'a file without ending'} is not read; "
                "give .npz, .safetensors, .csv or file.py:function"
            )


def _npz(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as file:  # which np.load leaves open when it refuses
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it holds one array without a name, as .npy files do")
            with archive:
                return {key: archive[key] for key in archive.files}
    except (
        ValueError,
        OSError,
        EOFError,
        KeyError,
        MemoryError,
        RuntimeError,  # NotImplementedError too, of a zip of another version
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise InputError(f"{path} is not an .npz of plain arrays: {first_line(error)}") from None


def _safetensors(path: Path) -> dict[str, Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a safetensors file: {first_line(error)}") from None
