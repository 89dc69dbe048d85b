"""Core ML packages on the reference executor: whole models, compressed weights, states, refusals, contents and hash."""

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgepass.errors import ArtifactError, InputError
from edgepass.judging import parity
from edgepass.runtimes import coreml
from edgepass.runtimes.coreml._file import open_package, quiet
from edgepass.runtimes.coreml._hash import content_sha256
from edgepass.runtimes.coreml._node import HANDLERS
from edgepass.runtimes.coreml._program import FAMILIES, Executor, read_function
from edgepass.runtimes.coreml._quant import decompress
from runtime_tests.conftest import ROOT

with quiet():
    import coremltools as ct
    import coremltools.optimize.coreml as cto
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, Program, types
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

gc.freeze()  # every conversion collects garbage, half a second with all that coremltools and torch hold
pytestmark = pytest.mark.filterwarnings(
    # coremltools leaves the temporary folder of a model that it wrote to its finaliser.
    "ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning",
    # coremltools casts constants that fp16 cannot hold, and k-means sees fewer distinct weights than centres.
    "ignore:overflow encountered in cast:RuntimeWarning",
    "ignore:Number of distinct clusters:Warning",
    # torch warns its own export of recurrent layers and coremltools of torch's pytree; neither is about the file.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
)


class Transformer(nn.Module):
    """B = batch, T = 12 steps, D = 16 features."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.out = nn.Linear(5, 16), nn.LayerNorm(16), nn.Linear(16, 3)
        self.qkv, self.up, self.down = nn.Linear(16, 48), nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x_BT: torch.Tensor) -> torch.Tensor:
        x_BTD = self.embed(x_BT)
        b, t, _ = x_BTD.shape
        q, k, v = self.qkv(self.norm(x_BTD)).reshape(b, t, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        x_BTD = x_BTD + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, 16)
        return self.out(x_BTD + self.down(F.gelu(self.up(x_BTD))))


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(5, 16, 3, padding=1),
            nn.BatchNorm1d(16),
            nn.Hardswish(),
            nn.Conv1d(16, 16, 5, padding=2, groups=16),
            nn.MaxPool1d(2),
            nn.ConvTranspose1d(16, 8, 4, 2, 1),
            nn.SiLU(),
            nn.AvgPool1d(4),
        )

    def forward(self, x_BT: torch.Tensor) -> torch.Tensor:
        return self.body(x_BT.transpose(1, 2)).flatten(1)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "transformer": Transformer,
    "convolutions": Convolutions,
}


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]().eval()


def convert(model: nn.Module, precision: Any = ct.precision.FLOAT32, dynamic: bool = False, target: Any = None) -> Any:
    dims = {0: torch.export.Dim("batch", min=1, max=16)} if dynamic else {}
    example = torch.randn(2 if dynamic else 1, 12, 5)
    with quiet():
        program = torch.export.export(model, (example,), dynamic_shapes=(dims,)).run_decompositions({})
        return ct.convert(
            program,
            minimum_deployment_target=target or ct.target.iOS18,
            compute_precision=precision,
            skip_model_load=True,
        )


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Converts each model once for each way of converting it."""
    folder = tmp_path_factory.mktemp("packages")

    def package(name: str, precision: str = "FLOAT32", dynamic: bool = False) -> Path:
        path = folder / f"{name}-{precision}-{dynamic}.mlpackage"
        if not path.exists():
            convert(make(name), getattr(ct.precision, precision), dynamic).save(str(path))
        return path

    return package


@pytest.fixture
def whole(packages: Callable[..., Path], tmp_path: Path) -> Path:
    """A package of its own, to be damaged."""
    return Path(shutil.copytree(packages("transformer"), tmp_path / "m.mlpackage"))


@pytest.mark.parametrize("name", MODELS)
def test_an_fp32_file_is_its_model(name: str, packages: Callable[..., Path]) -> None:
    x = torch.randn(1, 12, 5)
    with torch.no_grad():
        expected = make(name)(x).numpy()
    (actual,) = coreml.load(packages(name), 1)([x.numpy()])
    assert actual.dtype == np.float32
    assert parity.compare(expected, actual).max_abs < 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_an_fp16_file_is_its_model_but_for_rounding(name: str, packages: Callable[..., Path]) -> None:
    x = torch.randn(1, 12, 5)
    with torch.no_grad():
        expected = make(name)(x).numpy()
    (actual,) = coreml.load(packages(name, "FLOAT16"), 1)([x.numpy()])
    assert actual.dtype == np.float32
    assert 50 < parity.compare(expected, actual).sqnr_db < 90  # 90 dB and above would be no fp16 weights


@pytest.mark.parametrize("batch", [1, 2, 7, 16])
@pytest.mark.parametrize("name", ["transformer", "convolutions"])
def test_a_dynamic_batch_runs_at_any_size(name: str, batch: int, packages: Callable[..., Path]) -> None:
    x = torch.randn(batch, 12, 5)
    with torch.no_grad():
        expected = make(name)(x).numpy()
    (actual,) = coreml.load(packages(name, dynamic=True), 1)([x.numpy()])
    assert parity.compare(expected, actual).max_abs < 1e-5


def compressed(kind: str) -> Any:
    kind, old, _ = kind.partition(" on iOS 17")  # which stores the same forms by other operations
    model = convert(make("transformer"), target=ct.target.iOS17 if old else ct.target.iOS18)
    with quiet():
        if kind == "palette of int8":
            model = cto.palettize_weights(model, palette(nbits=4))
            options = linear("linear_symmetric", granularity="per_tensor")
            return cto.linear_quantize_weights(model, options, joint_compression=True)
        if kind == "palette, scaled":
            return cto.palettize_weights(model, palette(nbits=4, enable_per_channel_scale=True))
        if kind == "sparse int8":
            model = cto.prune_weights(model, pruned())
            return cto.linear_quantize_weights(model, linear("linear_symmetric"), joint_compression=True)
        if kind == "sparse palette":
            return cto.palettize_weights(cto.prune_weights(model, pruned()), palette(nbits=4), joint_compression=True)
        if kind == "sparse":
            return cto.prune_weights(model, pruned())
        if kind.startswith("palette"):
            return cto.palettize_weights(model, palette(nbits=int(kind[-1])))
        if kind == "int4 blocks":
            return cto.linear_quantize_weights(
                model, linear("linear_symmetric", dtype="int4", granularity="per_block", block_size=8)
            )
        return cto.linear_quantize_weights(model, linear(kind))


def linear(mode: str, **options: Any) -> Any:
    return cto.OptimizationConfig(cto.OpLinearQuantizerConfig(mode=mode, weight_threshold=64, **options))


def palette(**options: Any) -> Any:
    return cto.OptimizationConfig(cto.OpPalettizerConfig(mode="uniform", weight_threshold=64, **options))


def pruned() -> Any:
    return cto.OptimizationConfig(cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=64))


COMPRESSED = {  # how -> the storage and granularity of up.weight
    "linear_symmetric": ("int8", "per-channel"),
    "linear": ("int8", "per-channel"),
    "int4 blocks": ("int4", "per-block"),
    "palette 4": ("uint4", "per-tensor"),
    "palette 6": ("uint6", "per-tensor"),
    "palette 1": ("uint1", "per-tensor"),
    "sparse": ("float32", None),
    "sparse int8": ("int8", "per-channel"),
    "sparse palette": ("uint4", "per-tensor"),
    "linear_symmetric on iOS 17": ("int8", "per-channel"),
    "palette 4 on iOS 17": ("uint4", "per-tensor"),
    "sparse on iOS 17": ("float32", None),
    "palette of int8": ("uint4", "per-tensor"),
    "palette, scaled": ("uint4", "per-channel"),
}


NESTED = {"palette of int8", "palette, scaled"}
"""One compressed constant inside another; coremltools' own decompression does not follow these."""


@pytest.mark.parametrize("kind", COMPRESSED)
def test_compressed_weights_are_what_coremltools_decompresses_them_to(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m.mlpackage"
    model = compressed(kind)
    model.save(str(path))
    x = np.random.default_rng(0).normal(size=(1, 12, 5)).astype(np.float32)
    (actual,) = coreml.load(path, 1)([x])
    if kind not in NESTED:
        with quiet():
            cto.decompress_weights(model).save(str(tmp_path / "dense.mlpackage"))
        (dense,) = coreml.load(tmp_path / "dense.mlpackage", 1)([x])
        np.testing.assert_array_equal(actual, dense)
    weight = next(w for w in coreml.inspect(path).weights if w.shape == (32, 16))
    assert (weight.dtype, weight.granularity) == COMPRESSED[kind]
    assert (weight.zeros == pytest.approx(0.5, abs=0.02)) == kind.startswith("sparse")
    exact = make("transformer")
    with torch.no_grad():
        assert parity.compare(exact(torch.tensor(x)).numpy(), actual).sqnr_db > (-5 if kind == "palette 1" else 5)


def test_nested_compression_is_followed_to_the_end(tmp_path: Path) -> None:
    dense = {}
    for kind in ("palette 4", *NESTED):
        compressed(kind).save(str(tmp_path / f"{kind}.mlpackage"))
        function = read_function(open_package(tmp_path / f"{kind}.mlpackage"))
        linears = [o for o in function.operations if o.op_type == "linear" and o.weight.shape == (32, 16)]
        dense[kind] = decompress(linears[0].weight)
    step = np.abs(dense["palette 4"]).max() / 127
    np.testing.assert_allclose(dense["palette of int8"], dense["palette 4"], atol=step)
    exact = make("transformer").up.weight.detach().numpy()
    # Sixteen even steps over each channel's own range, where the palette alone has sixteen over the tensor's.
    error = np.abs(dense["palette, scaled"] - exact).mean()
    assert 0 < error < np.abs(dense["palette 4"] - exact).mean() * 1.25


def program(inputs: dict[str, Any], build: Callable[..., Any]) -> Any:
    with Function(inputs, opset_version=ct.target.iOS18) as function:
        function.set_outputs([mb.identity(x=build(*function.inputs.values()), name="y")])
    whole = Program()
    whole.add_function("main", function)
    return ct.convert(
        whole,
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT16,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    )


def test_a_state_lasts_from_call_to_call(tmp_path: Path) -> None:
    inputs = {
        "x": mb.placeholder((3,), dtype=types.fp16),
        "total": mb.state_tensor_placeholder((3,), dtype=types.fp16),
    }

    def build(x: Any, total: Any) -> Any:
        return mb.coreml_update_state(state=total, value=mb.add(x=mb.read_state(input=total), y=x))

    program(inputs, build).save(str(tmp_path / "m.mlpackage"))
    session = coreml.load(tmp_path / "m.mlpackage", 1)
    assert isinstance(session, Executor)
    x = np.array([1, 2, 3], np.float32)
    assert [session([x])[0].tolist() for _ in range(3)] == [[1, 2, 3], [2, 4, 6], [3, 6, 9]]
    session.reset()
    assert session([x])[0].tolist() == [1, 2, 3]


def test_outputs_do_not_change_under_the_callers_hands(packages: Callable[..., Path]) -> None:
    session = coreml.load(packages("transformer"), 1)
    x = np.ones((1, 12, 5), np.float32)
    (first,) = session([x])
    kept = first.copy()
    session([x * 2])
    np.testing.assert_array_equal(first, kept)


def test_inputs_may_be_read_only_reversed_or_wider(packages: Callable[..., Path]) -> None:
    session = coreml.load(packages("transformer"), 1)
    x = np.random.default_rng(0).normal(size=(1, 12, 5)).astype(np.float32)
    frozen = x[:, ::-1].copy()
    frozen.flags.writeable = False
    expected = session([frozen])
    np.testing.assert_array_equal(session([x[:, ::-1]]), expected)
    np.testing.assert_array_equal(session([frozen.astype(np.float64)]), expected)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([], "takes 1 inputs"),
        ([np.zeros((1, 12, 4), np.float32)], r"has shape \[1, 12, 4\]; the file takes \[1, 12, 5\]"),
        ([np.zeros((12, 5), np.float32)], r"has shape \[12, 5\]"),
    ],
)
def test_other_inputs_are_refused(arrays: list[Any], message: str, packages: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=message):
        coreml.load(packages("transformer"), 1)(arrays)


def test_sizes_outside_a_flexible_range_are_refused_as_the_device_would(packages: Callable[..., Path]) -> None:
    session = coreml.load(packages("transformer", dynamic=True), 1)
    with pytest.raises(InputError, match=r"has shape \[17, 12, 5\]; the file takes \[1 to 16, 12, 5\]"):
        session([np.zeros((17, 12, 5), np.float32)])


def test_an_operation_that_is_lacking_is_named_and_counted(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        a, b = (mb.random_uniform(shape=[3], low=np.float16(0), high=np.float16(1), seed=i) for i in (1, 2))
        return mb.add(x=x, y=mb.add(x=a, y=b))

    path = tmp_path / "m.mlpackage"
    program({"x": mb.placeholder((3,), dtype=types.fp16)}, build).save(str(path))
    with pytest.raises(
        ArtifactError, match=r"lacks Core ML op 'random_uniform', which .* uses 2 times; judge .* macOS"
    ):
        coreml.load(path, 1)
    contents = coreml.inspect(path)
    assert contents.ops["random_uniform"] == 2
    assert contents.planned_bytes is None
    assert "random_uniform" in contents.notes[0]


def test_what_the_executor_lacks_is_known() -> None:
    lacking = SSAOpRegistry.core_ops.keys() - HANDLERS.keys()
    assert {k for k in lacking if not k.startswith("constexpr_")} == {
        "_const_symbolic",  # exists only while converting
        "classify",
        "cond",  # these three belong to the walker
        "const",
        "conv_quantized",
        "crop_resize",
        "non_maximum_suppression",
        "random_bernoulli",
        "random_categorical",
        "random_normal",
        "random_uniform",
        "while_loop",
    }
    assert FAMILIES


def test_absent_damaged_and_other_files_are_refused(whole: Path, tmp_path: Path) -> None:
    weights = whole / "Data/com.apple.CoreML/weights/weight.bin"
    content, model = weights.read_bytes(), whole / "Data/com.apple.CoreML/model.mlmodel"

    def refused(match: str, path: Path = whole) -> None:
        for use in (lambda p: coreml.load(p, 1), coreml.inspect, content_sha256):
            with pytest.raises(ArtifactError, match=match):
                use(path)

    refused("does not exist", tmp_path / "none.mlpackage")
    (tmp_path / "empty.mlpackage").mkdir()
    refused(r"not a complete .mlpackage \(no Manifest.json\)", tmp_path / "empty.mlpackage")
    (tmp_path / "file.mlpackage").write_bytes(b"\x00" * 64)
    refused("not a complete .mlpackage", tmp_path / "file.mlpackage")
    for size in (0, 64, 100, len(content) // 2, len(content) - 64):
        weights.write_bytes(content[:size])
        refused("cut short or damaged")
    weights.write_bytes(bytes(64) + b"\xff" * (len(content) - 64))
    refused("cut short or damaged")
    weights.unlink()
    refused("lacks its weights weight.bin")
    weights.write_bytes(content)
    coreml.load(whole, 1)
    kept = model.read_bytes()
    model.write_bytes(b"\xff" * 100)
    refused("not a Core ML protobuf")
    model.write_bytes(kept[: len(kept) // 2])
    refused("not a Core ML protobuf")
    model.write_bytes(b"")
    refused("holds no model")
    model.unlink()
    refused("no model.mlmodel")
    (whole / "Manifest.json").write_text("{")
    refused("Manifest.json is damaged")


def test_a_neural_network_is_refused_by_name(whole: Path) -> None:
    spec = ct.proto.Model_pb2.Model()
    spec.specificationVersion = 4
    spec.neuralNetwork.layers.add(name="nothing")
    (whole / "Data/com.apple.CoreML/model.mlmodel").write_bytes(spec.SerializeToString())
    with pytest.raises(ArtifactError, match="holds a Core ML neuralNetwork, not an ML program; convert it with"):
        coreml.load(whole, 1)


def test_contents_are_read_from_the_file(packages: Callable[..., Path]) -> None:
    contents = coreml.inspect(packages("transformer"))
    model = make("transformer")
    assert [(s.name, s.shape, s.dtype) for s in contents.inputs] == [("x_bt", (1, 12, 5), "float32")]
    assert [(s.shape, s.dtype) for s in contents.outputs] == [((1, 12, 3), "float32")]
    assert sum(np.prod(w.shape) for w in contents.weights) == sum(p.numel() for p in model.parameters())
    assert {w.dtype for w in contents.weights} == {"float32"}
    assert contents.ops["linear"] == 5
    assert "const" not in contents.ops
    assert contents.flops["linear"] == 2 * 12 * (5 * 16 + 16 * 48 + 16 * 32 + 32 * 16 + 16 * 3)
    assert contents.flops["scaled_dot_product_attention"] == 2 * 2 * 2 * 12 * 12 * 8
    # While qkv is made its input, its output and the residual are alive: 12 steps of 16 + 48 + 16 floats.
    assert contents.planned_bytes >= 12 * (16 + 48 + 16) * 4
    assert contents.planned_bytes <= 12 * (16 + 48 + 48 + 16) * 4
    assert (contents.delegated_flops, contents.fallbacks) == (None, [])


def test_dynamic_dimensions_are_null_in_the_contents(packages: Callable[..., Path]) -> None:
    contents = coreml.inspect(packages("transformer", dynamic=True))
    assert contents.inputs[0].shape == (None, 12, 5)


ELSEWHERE = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("error")
import numpy as np
from edgepass.runtimes import coreml
there, here = Path(sys.argv[1]), Path(sys.argv[2])
coreml.prepare(Path())
coreml.inspect(here)
coreml.load(here, 1)([np.zeros((1, 12, 5), np.float32)])
for stream in (sys.stdout, sys.stderr):
    print("judged", file=stream, flush=True)
warnings.simplefilter("ignore")
from runtime_tests.runtimes.coreml import test_mil
test_mil.convert(test_mil.make("transformer"), test_mil.ct.precision.FLOAT16).save(str(there))
"""


@pytest.fixture(scope="module")
def elsewhere(packages: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Another process that judges a package, then converts the same model; the new package and what it printed."""
    there = tmp_path_factory.mktemp("elsewhere") / "there.mlpackage"
    arguments = [str(there), str(packages("transformer", "FLOAT16"))]
    command = [sys.executable, "-c", ELSEWHERE, *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )
    return there, done.stdout, done.stderr


def test_judging_prints_nothing_and_warns_of_nothing(elsewhere: tuple[Path, str, str]) -> None:
    _, out, err = elsewhere
    assert out.startswith("judged")
    assert err.startswith("judged")


def test_the_hash_is_equal_across_processes_and_tells_models_apart(
    packages: Callable[..., Path], elsewhere: tuple[Path, str, str]
) -> None:
    here, there = packages("transformer", "FLOAT16"), elsewhere[0]
    manifests = [json.loads((p / "Manifest.json").read_bytes())["rootModelIdentifier"] for p in (here, there)]
    assert manifests[0] != manifests[1]
    assert content_sha256(here) == content_sha256(there)
    assert len({content_sha256(p) for p in (here, packages("transformer"), packages("convolutions", "FLOAT16"))}) == 3


def test_the_hash_sees_one_changed_weight_and_one_changed_operation(whole: Path) -> None:
    before = content_sha256(whole)
    weights = whole / "Data/com.apple.CoreML/weights/weight.bin"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = content_sha256(whole)
    content[-1] ^= 1
    weights.write_bytes(content)
    assert content_sha256(whole) == before != changed
    model = whole / "Data/com.apple.CoreML/model.mlmodel"
    spec = open_package(whole).spec
    spec.description.metadata.author = "someone"
    model.write_bytes(spec.SerializeToString())
    assert content_sha256(whole) == before
    (function,) = spec.mlProgram.functions.values()
    operations = function.block_specializations[function.opset].operations
    next(o for o in operations if o.type == "gelu").type = "silu"
    model.write_bytes(spec.SerializeToString())
    assert content_sha256(whole) != before
