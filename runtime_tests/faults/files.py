"""In a file of one format."""

import shutil
from pathlib import Path

from runtime_tests.faults.fault import Fault, lister

FAULTS: list[Fault] = []
fault = lister(FAULTS)


@fault("file", targets=("tflite",))
def inputs_swapped_on_disk(path: Path, other: Path) -> None:
    """The list of inputs is reversed, names and all."""
    from ai_edge_litert import schema_py_generated as schema

    from edgepass.exporters import _flatbuffer

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    model.subgraphs[0].inputs = list(model.subgraphs[0].inputs)[::-1]
    path.write_bytes(_flatbuffer.packed(model))


@fault("file", targets=("coreml",))
def package_with_the_weights_of_another(path: Path, other: Path) -> None:
    """weight.bin is that of the model with another seed."""
    place = Path("Data") / "com.apple.CoreML" / "weights" / "weight.bin"
    shutil.copy(other / place, path / place)


@fault("file")
def file_of_another_model(path: Path, other: Path) -> None:
    """The file of the model with another seed, under this name."""
    if path.is_dir():
        shutil.rmtree(path)
        shutil.copytree(other, path)
    else:
        shutil.copy(other, path)


@fault("file")
def file_cut_short(path: Path, other: Path) -> None:
    """The last 200 bytes are missing."""
    file = path if path.is_file() else path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    file.write_bytes(file.read_bytes()[:-200])
