"""Data of the user's file that are read as they come: whatever a loader does, it ends, with the line that did it."""

import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from edgepass import samples, source
from edgepass.errors import BAD_INPUT, InputError
from runtime_tests.cli.test_users_code import EXPORT, command, sentence, user_file
from runtime_tests.conftest import Done

Cli = Callable[..., Done]
ARGS = (torch.zeros(1, 8),)
LOADER = """
class Loader:
    def __len__(self): {length}
    def __iter__(self): {start}
    def __next__(self): {after}

def get_eval_data(): return Loader()
"""
SAMPLE = "return (torch.ones(1, 8),)"


@pytest.mark.parametrize(
    ("loader", "said"),
    [
        ({}, "mine.py:get_eval_data says that it has 10 samples, has given 50,000 samples of 0.00149 GiB and goes on"),
        ({"length": "raise TypeError('unknown')"}, "mine.py:get_eval_data has given 50,000 samples"),
        ({"length": "sys.exit(0)"}, "mine.py:get_eval_data has given 50,000 samples"),
        (
            {"after": "raise OSError('no such picture')"},
            "`def __next__(self): raise OSError('no such picture')` raises",
        ),
        ({"after": "sys.exit(0)"}, "raises SystemExit: 0"),
        ({"start": "sys.exit(0)"}, "raises SystemExit: 0"),
        ({"after": "raise StopIteration"}, "mine.py:get_eval_data gives no sample"),
    ],
)
def test_a_loader_ends_in_a_sentence(edgepass: Cli, tmp_path: Path, loader: dict[str, str], said: str) -> None:
    parts = {"length": "return 10", "start": "return self", "after": SAMPLE} | loader
    path = user_file(tmp_path / "m", module=LOADER.format(**parts))
    done = edgepass("export", f"{path}:get_model", "-o", tmp_path / "out", "--target", "onnx")
    assert done.code == BAD_INPUT, done.err
    assert said in done.sentence
    assert not (tmp_path / "out").exists()


def test_a_loader_that_ends_the_process_is_no_success(tmp_path: Path) -> None:
    parts = {"length": "return 10", "start": "return self", "after": "os._exit(0)"}
    user_file(tmp_path, module=LOADER.format(**parts))
    done = command(*EXPORT, cwd=tmp_path)
    assert done.returncode == BAD_INPUT, done.stderr
    assert "ended by code that it called, with exit code 0 and before it was done" in sentence(done)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:.*os.fork:RuntimeWarning")  # JAX's, where an earlier test converted to TFLite
@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_loader_of_torch_that_raises_is_told(edgepass: Cli, tmp_path: Path, workers: int) -> None:
    module = f"""
class Broken(torch.utils.data.Dataset):
    def __len__(self): return 7
    def __getitem__(self, i):
        if i == 3: raise ValueError("picture 3 is torn")
        return torch.ones(8), torch.ones(4)

def get_eval_data(): return torch.utils.data.DataLoader(Broken(), num_workers={workers})
"""
    path = user_file(tmp_path / "m", module=module)
    done = edgepass("export", f"{path}:get_model", "-o", tmp_path / "out", "--target", "onnx")
    assert done.code == BAD_INPUT
    assert "ValueError" in done.sentence


def test_a_data_loader_gives_its_samples() -> None:
    x_N8, y_N4 = torch.randn(13, 8), torch.randn(13, 4)
    found = samples.collect(DataLoader(TensorDataset(x_N8, y_N4)), ARGS, "loader")
    assert torch.equal(torch.from_numpy(found.inputs[0][:, 0]), x_N8)
    assert found.targets is not None
    assert torch.equal(torch.from_numpy(found.targets[:, 0]), y_N4)


class Loader:
    """So many samples that say they are others."""

    def __init__(self, count: int, stated: int) -> None:
        self.count, self.stated = count, stated

    def __len__(self) -> int:
        return self.stated

    def __iter__(self) -> Iterator[tuple[Tensor]]:
        return ((torch.ones(1, 8),) for _ in range(self.count))


def test_an_honest_length_is_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MOST_SAMPLES", 7)
    assert len(samples.collect(Loader(63, 63), ARGS, "loader")) == 63
    assert len(samples.collect(Loader(7, 1), ARGS, "loader")) == 7, "a length that is somewhat off is no fault"
    with pytest.raises(InputError, match="says that it has 62 samples, has given 62 samples"):
        samples.collect(Loader(63, 62), ARGS, "loader")


def test_what_memory_does_not_hold_is_told_before_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples.memory, "available", lambda: 1 << 10)
    with pytest.raises(InputError, match=r"has given 17 samples of .* and 9\.54e-07 GiB of memory are free here"):
        samples.collect(Loader(10**9, 10**9), ARGS, "loader")
    assert len(samples.collect([(torch.ones(1, 8),)] * 63, ARGS, "list")) == 63, "a list is in memory already"


def test_long_reading_says_how_far_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "EVERY_S", -1.0)
    said: list[str] = []
    samples.collect(Loader(2, 2), ARGS, "mine.py:get_eval_data", said.append)
    assert said == [f"reading mine.py:get_eval_data: {n} samples so far" for n in (1, 2)]


def test_free_memory_is_what_a_limit_leaves() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    assert 1 << 26 < samples.memory.available() < 1 << 50
    resource.setrlimit(resource.RLIMIT_DATA, (samples.memory._status("VmData") + (1 << 26), before[1]))
    try:
        assert samples.memory.available() <= 1 << 26
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


TWO = """
import torch
class Weighted(torch.nn.Module):
    def forward(self, x, *, by): return x * by
def get_model(): return Weighted()
def get_args(): return {args}
"""


@pytest.mark.parametrize(
    ("args", "keys", "first"),
    [
        ("(torch.ones(1, 2), torch.ones(1, 2))", ("x_1", "x_0"), 1),
        ('{"x": torch.ones(1, 2), "by": torch.ones(1, 2)}', ("x", "by"), 0),
        ('{"by": torch.ones(1, 2), "x": torch.ones(1, 2)}', ("x", "by"), 1),
        ('{"x": torch.ones(1, 2), "by": torch.ones(1, 2)}', ("input_1", "input_0"), 1),
    ],
)
def test_arrays_of_a_file_go_by_the_names_of_arguments(
    args: str, keys: tuple[str, str], first: int, tmp_path: Path
) -> None:
    """`first`: which of the two arrays is the model's first input."""
    (tmp_path / "two.py").write_text(TWO.replace("{args}", args).replace("*, by", "by" if args[0] == "(" else "*, by"))
    zeros, ones = np.zeros((3, 1, 2), np.float32), np.ones((3, 1, 2), np.float32)
    np.savez(tmp_path / "data.npz", **{keys[0]: zeros, keys[1]: ones})
    found = source.load(f"{tmp_path / 'two.py'}:get_model", evaluation=str(tmp_path / "data.npz"))
    assert found.evaluation is not None
    assert [int(x.max()) for x in found.evaluation.inputs] == [first, 1 - first]
