"""Faults, each a small function that spoils what was healthy: a graph, a weight, what is made, a file, a folder.

What is spoiled is what a converter, a runtime or a hand may get wrong. The model that judges is never touched.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn import functional

from edgepass import exporters, pipeline
from edgepass.errors import EdgepassError, RefusedError
from edgepass.exporters import Job, Lowered
from edgepass.exporters._capture import Program, capture, quiet
from edgepass.judging import manifest, verdict
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord
from edgepass.judging.verdict import Candidate, Standard, Yardstick
from edgepass.pipeline import Plan
from edgepass.quantize import recipe as recipes
from edgepass.runtimes import Array, _child, _worker
from edgepass.task import Samples, Task
from edgepass.validation import validate

RECIPES = ("fp32", "fp16", "static_wi8_ai8")
INT8 = ("static_wi8_ai8",)
ENDS = ("fp32", "static_wi8_ai8")
STEPS, FEATURES, CALIBRATION, EVALUATION = 16, 8, 32, 64


# Models


class Small(nn.Module):
    """Two inputs [B, 16, 8] and two outputs [B, 16, 6], a square weight, a pad, a factor and a subtraction."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.skip = nn.Conv1d(FEATURES, 16, 3), nn.Linear(FEATURES, 16)
        self.norm, self.square = nn.LayerNorm(16), nn.Linear(16, 16)
        self.gate, self.left, self.right = nn.Linear(16, 16), nn.Linear(16, 6), nn.Linear(16, 6)

    def forward(self, x_BTC: Tensor, y_BTC: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.relu(self.conv(functional.pad(x_BTC.transpose(1, 2), (2, 0)))).transpose(1, 2)
        h = self.norm(h - self.skip(y_BTC) * 0.7)
        h = torch.relu(self.square(h)) * torch.softmax(self.gate(h), -1) * 16
        return self.left(h), self.right(h)


class Indices(nn.Module):
    """The number of a class, for each of 16 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Linear(FEATURES, 100)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.classes(x_BTC).argmax(-1)


class Offset(nn.Module):
    """300 and a spread of 0.3, by one layer, as a trained regressor gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, 16), nn.Linear(16, 1)
        nn.init.constant_(self.last.bias, 300.0)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x_BTC)))


class Channels(nn.Module):
    """Four values of 0 to 640 and one of 0 to 1, by one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.box = nn.Linear(FEATURES, 5)
        with torch.no_grad():
            self.box.weight[:4].mul_(320)
            self.box.bias[:4].fill_(320)
            self.box.weight[4].mul_(0.1)
            self.box.bias[4].fill_(0.5)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.box(x_BTC)


def small(seed: int = 0) -> nn.Module:
    """Seeded."""
    return _seeded(Small, seed)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "small": small,
    "indices": lambda: _seeded(Indices),
    "offset": lambda: _seeded(Offset),
    "channels": lambda: _seeded(Channels),
}


def _seeded(kind: type[Any], seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind().eval()


def _samples(count: int, seed: int, inputs: int) -> Samples:
    generator = np.random.default_rng(seed)
    return Samples(
        inputs=[generator.normal(size=(count, 1, STEPS, FEATURES)).astype(np.float32) for _ in range(inputs)]
    )


# What a fault is


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Where it is planted and by what; its name is the function's, and its text the docstring."""

    where: str
    plant: Callable[..., Any]
    model: str = "small"
    targets: tuple[str, ...] = ("executorch", "coreml", "tflite", "onnx")
    recipes: tuple[str, ...] = RECIPES

    @property
    def name(self) -> str:
        """In words."""
        return self.plant.__name__.replace("_", " ")

    @property
    def text(self) -> str:
        """What is done."""
        return " ".join((self.plant.__doc__ or "").split())


FAULTS: list[Fault] = []


def fault(where: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Puts a function among the faults. `where`: graph, weight, making, file or folder."""

    def put(plant: Callable[..., Any]) -> Callable[..., Any]:
        FAULTS.append(Fault(where=where, plant=plant, **options))
        return plant

    return put


# In the graph that is converted: the float32 file of the target is as wrong as the others


def calls(graph: GraphModule, name: str) -> list[Node]:
    """Nodes whose operation is called so."""
    found = [n for n in graph.graph.nodes if n.op == "call_function" and name in str(n.target).split(".")]
    assert found, f"no {name} in {[str(n.target) for n in graph.graph.nodes]}"
    return found


def outputs(graph: GraphModule) -> tuple[Node, list[Node]]:
    """The output node, and what it gives."""
    (end,) = (n for n in graph.graph.nodes if n.op == "output")
    return end, list(end.args[0])


def give(graph: GraphModule, change: Callable[..., Any], number: int = 0) -> None:
    """Put a function of tensors behind an output."""
    end, given = outputs(graph)
    with graph.graph.inserting_before(end):
        given[number] = change(graph.graph, given[number])
    end.args = (tuple(given),)


@fault("graph", recipes=ENDS)
def outputs_swapped(graph: GraphModule) -> None:
    """The two outputs, which are of one shape, change places."""
    end, given = outputs(graph)
    end.args = (tuple(reversed(given)),)


@fault("graph", recipes=ENDS)
def inputs_swapped(graph: GraphModule) -> None:
    """The two inputs, which are of one shape, change places."""
    x, y = (n for n in graph.graph.nodes if n.op == "placeholder")
    users = list(x.users), list(y.users)
    for node in users[0]:
        node.replace_input_with(x, y)
    for node in users[1]:
        node.replace_input_with(y, x)


@fault("graph", recipes=ENDS)
def factor_dropped(graph: GraphModule) -> None:
    """The factor 0.7 of what is subtracted is left out, as coremltools leaves out alpha."""
    (node,) = (n for n in calls(graph, "mul") if n.args[1] == 0.7)
    node.replace_all_uses_with(node.args[0])


@fault("graph", recipes=ENDS)
def operands_swapped(graph: GraphModule) -> None:
    """a - b is b - a."""
    (node,) = calls(graph, "sub")
    node.args = tuple(reversed(node.args))


@fault("graph", recipes=ENDS)
def pad_on_both_sides(graph: GraphModule) -> None:
    """A pad of (2, 0) is one of (1, 1)."""
    (node,) = (
        calls(graph, "pad")
        if any("aten.pad." in str(n.target) for n in graph.graph.nodes)
        else calls(graph, "constant_pad_nd")
    )
    node.args = (node.args[0], [1, 1], *node.args[2:])


@fault("graph", recipes=ENDS)
def relu_dropped(graph: GraphModule) -> None:
    """The last ReLU is not applied."""
    node = calls(graph, "relu")[-1]
    node.replace_all_uses_with(node.args[0])


@fault("graph", recipes=ENDS)
def bias_dropped(graph: GraphModule) -> None:
    """The convolution has no bias."""
    (node,) = calls(graph, "conv1d")
    node.args = (*node.args[:2], None, *node.args[3:])


@fault("graph", recipes=ENDS)
def wrong_epsilon(graph: GraphModule) -> None:
    """The norm's epsilon is 1e-2 where it is 1e-5."""
    (node,) = calls(graph, "layer_norm")
    node.args = (*node.args[:4], 1e-2)


@fault("graph", recipes=ENDS)
def softmax_over_another_axis(graph: GraphModule) -> None:
    """Over steps, which are as many as the features."""
    (node,) = calls(graph, "softmax")
    node.args = (node.args[0], 1, *node.args[2:])


@fault("graph", recipes=ENDS)
def steps_late_by_one(graph: GraphModule) -> None:
    """Every step of an output is that of the step before."""
    aten = torch.ops.aten

    def late(g: Any, y: Node) -> Node:
        parts = [g.call_function(aten.slice.Tensor, (y, 1, *span)) for span in ((STEPS - 1, STEPS), (0, STEPS - 1))]
        return g.call_function(aten.cat.default, (parts, 1))

    give(graph, late)


@fault("graph", recipes=ENDS)
def output_transposed(graph: GraphModule) -> None:
    """An output [B, 16, 6] comes as [B, 6, 16], of equal size."""
    give(graph, lambda g, y: g.call_function(torch.ops.aten.permute.default, (y, [0, 2, 1])))


@fault("graph", recipes=ENDS)
def output_in_another_order(graph: GraphModule) -> None:
    """The values of [B, 6, 16] laid out as [B, 16, 6]."""

    def laid(g: Any, y: Node) -> Node:
        turned = g.call_function(torch.ops.aten.permute.default, (y, [0, 2, 1]))
        dense = g.call_function(torch.ops.aten.clone.default, (turned,), {"memory_format": torch.contiguous_format})
        return g.call_function(torch.ops.aten.view.default, (dense, [1, STEPS, 6]))

    give(graph, laid)


@fault("graph", recipes=ENDS)
def output_of_another_type(graph: GraphModule) -> None:
    """An output of float32 comes as int32."""
    give(graph, lambda g, y: g.call_function(torch.ops.aten.to.dtype, (y, torch.int32)))


@fault("graph", recipes=ENDS)
def output_constant(graph: GraphModule) -> None:
    """An output is 0.1 whatever comes in."""

    def constant(g: Any, y: Node) -> Node:
        zero = g.call_function(torch.ops.aten.mul.Tensor, (y, 0.0))
        return g.call_function(torch.ops.aten.add.Tensor, (zero, 0.1))

    give(graph, constant)


@fault("graph", recipes=ENDS)
def one_column_constant(graph: GraphModule) -> None:
    """One of the six columns of an output is zero."""
    aten = torch.ops.aten

    def dead(g: Any, y: Node) -> Node:
        kept = g.call_function(aten.slice.Tensor, (y, 2, 0, 5))
        last = g.call_function(aten.mul.Tensor, (g.call_function(aten.slice.Tensor, (y, 2, 5, 6)), 0.0))
        return g.call_function(aten.cat.default, ([kept, last], 2))

    give(graph, dead)


@fault("graph", model="indices", recipes=("fp32",))
def index_off_by_one(graph: GraphModule) -> None:
    """Every class is the one after it."""
    give(graph, lambda g, y: g.call_function(torch.ops.aten.add.Tensor, (y, 1)))


@fault("graph", recipes=INT8)
def wrong_zero_point(graph: GraphModule) -> None:
    """One activation is read with a zero point that is 8 off."""
    node = calls(graph, "dequantize_per_tensor")[-1]
    node.args = (*node.args[:2], node.args[2] + 8, *node.args[3:])


@fault("graph", recipes=INT8)
def range_halved(graph: GraphModule) -> None:
    """One activation has half its range, and saturates."""
    node = calls(graph, "quantize_per_tensor")[-1]
    for each in (node, *node.users):
        each.args = (each.args[0], each.args[1] / 2, *each.args[2:])


# In the file: one square weight, found by its bytes


@dataclass(frozen=True, kw_only=True)
class Held:
    """A weight as a file has it: the numbers of its own format, and for int8 a scale for each row."""

    model: Array
    stored: Array
    scale: Array | None

    @property
    def exact(self) -> Array:
        """What the model's weight is on the grid, unrounded."""
        return self.model if self.scale is None else self.model / self.scale[:, None]


Change = tuple[Array, Array]


@fault("weight")
def scale_up_by_a_tenth(held: Held) -> Change:
    """One weight is 1.1 times what it is, by its scale where it has one."""
    before = held.stored if held.scale is None else held.scale
    return before, before * before.dtype.type(1.1)


@fault("weight")
def scale_up_by_a_fiftieth(held: Held) -> Change:
    """One weight is 1.02 times what it is."""
    before = held.stored if held.scale is None else held.scale
    return before, before * before.dtype.type(1.02)


@fault("weight")
def square_weight_transposed(held: Held) -> Change:
    """A weight of 16 by 16 lies transposed."""
    return held.stored, held.stored.T


@fault("weight")
def channel_dead(held: Held) -> Change:
    """One row of a weight is zero."""
    after = held.stored.copy()
    after[3] = 0
    return held.stored, after


@fault("weight")
def rows_swapped(held: Held) -> Change:
    """Two rows of a weight change places."""
    after = held.stored.copy()
    after[[2, 5]] = after[[5, 2]]
    return held.stored, after


@fault("weight")
def sign_of_one_value(held: Held) -> Change:
    """The largest value of a weight has the other sign."""
    after = held.stored.copy()
    place = np.unravel_index(np.abs(after.astype(np.float32)).argmax(), after.shape)
    after[place] = -after[place]
    return held.stored, after


@fault("weight", recipes=INT8)
def grid_halved(held: Held) -> Change:
    """The last bit of every int8 value is zero."""
    return held.stored, held.stored & ~np.int8(1)


@fault("weight", recipes=INT8)
def rounded_towards_zero(held: Held) -> Change:
    """Values are cut to the grid, not rounded to the nearest."""
    return held.stored, np.trunc(held.exact).astype(np.int8)


@fault("weight", recipes=INT8)
def one_scale_for_all_rows(held: Held) -> Change:
    """Every row is read with the scale of the first."""
    assert held.scale is not None
    return held.scale, np.full_like(held.scale, held.scale[0])


@fault("weight", recipes=("fp32",))
def float16_in_float32(held: Held) -> Change:
    """The values of a float32 weight are those of float16."""
    return held.stored, held.stored.astype(np.float16).astype(np.float32)


def replace_bytes(path: Path, before: Array, after: Array) -> None:
    """Wherever the array lies in a file, or in a package, in any order of its axes. Raises LookupError if nowhere."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        content = file.read_bytes()
        for axes in permutations(range(before.ndim)):
            old, new = (np.ascontiguousarray(a.transpose(axes)).tobytes() for a in (before, after))
            if old in content:
                file.write_bytes(content.replace(old, new))
                return
    raise LookupError(f"{path.name} holds no such array")


# In what is made: a file of another recipe or of another model


@fault("making", recipes=INT8)
def one_weight_left_in_float(job: Job) -> Job:
    """One layer of an int8 file stays in float32, and nobody says so."""
    return Job(job.program, job.recipe.keeping(("square",)), job._calibration)


@fault("making", recipes=("fp16", "static_wi8_ai8"))
def all_weights_left_in_float(job: Job) -> Job:
    """A float32 file in the place of the recipe's."""
    return Job(job.program, recipes.read("fp32"), job._calibration)


@fault("making")
def weights_of_another_seed(job: Job) -> Job:
    """The same model with other weights."""
    return Job(capture(small(seed=1), job.program.args), job.recipe, job._calibration)


@fault("making", recipes=INT8)
def calibrated_on_a_tenth(job: Job) -> Job:
    """Ranges come of inputs ten times smaller than those that come."""
    assert job._calibration
    calibrate = job._calibration
    return Job(job.program, job.recipe, lambda: [tuple(0.1 * x for x in args) for args in calibrate()])


# In a file of one format


@fault("file", targets=("tflite",))
def inputs_swapped_on_disk(path: Path, other: Path) -> None:
    """The list of inputs is reversed, names and all."""
    from ai_edge_litert import schema_py_generated as schema

    from edgepass.exporters import _flatbuffer

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    model.subgraphs[0].inputs = list(model.subgraphs[0].inputs)[::-1]
    path.write_bytes(_flatbuffer._packed(model))


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


# A model that int8 cannot hold: the file is what it was asked to be, and is no good


@fault("none", model="offset", recipes=INT8)
def offset_hides_all(_: Any) -> None:
    """An output of 300 with a spread of 0.3: few int8 values, and a ratio of 50 dB."""


@fault("none", model="channels", recipes=INT8)
def large_channel_hides_a_small_one(_: Any) -> None:
    """Four columns of 0 to 640 beside one of 0 to 1, which is constant in int8."""


# In a folder that was written


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The manifest, as a hand would."""
    path = folder / manifest.FILE
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))


def first(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """Of the first artifact."""
    return lambda content: change(content["artifacts"][0])


@fault("folder")
def golden_sample_stale(folder: Path) -> None:
    """A golden output is that of another run."""
    tensors = load_file(folder / manifest.GOLDEN)
    name = next(name for name in sorted(tensors) if name[0] not in "ir")
    save_file({**tensors, name: tensors[name] + np.float32(0.5)}, folder / manifest.GOLDEN)


@fault("folder")
def ratio_edited(folder: Path) -> None:
    """The manifest says 20 dB more."""
    edited(folder, first(lambda a: a["parity"].update(sqnr_db=a["parity"]["sqnr_db"] + 20)))


@fault("folder")
def size_edited(folder: Path) -> None:
    """The manifest says half the bytes."""
    edited(folder, first(lambda a: a.update(bytes=a["bytes"] // 2)))


@fault("folder")
def hash_edited(folder: Path) -> None:
    """The manifest has another content hash."""
    edited(folder, first(lambda a: a.update(content_sha256="0" * 64)))


@fault("folder")
def data_hash_edited(folder: Path) -> None:
    """The manifest has another hash of the evaluation data."""
    edited(folder, lambda content: content["data"][-1].update(sha256="0" * 64))


@fault("folder")
def recipe_edited(folder: Path) -> None:
    """The manifest says int8 of a float32 file."""
    edited(folder, first(lambda a: a.update(recipe="static_wi8_ai8")))


@fault("folder")
def target_edited(folder: Path) -> None:
    """The manifest names a target that there is not."""
    edited(folder, first(lambda a: a.update(target="nonsense")))


@fault("folder")
def schema_edited(folder: Path) -> None:
    """The manifest says that it is of schema 2."""
    edited(folder, lambda content: content.update(schema=2))


@fault("folder")
def name_leaves_the_folder(folder: Path) -> None:
    """The manifest lists a file beside the folder."""
    name = json.loads((folder / manifest.FILE).read_bytes())["artifacts"][0]["file"]
    shutil.copy(folder / name, folder.parent / name)
    edited(folder, first(lambda a: a.update(file=f"../{name}")))


@fault("folder")
def file_unlisted(folder: Path) -> None:
    """A file lies there that the manifest does not list."""
    (folder / "other.onnx").write_bytes(next(folder.glob("*.onnx")).read_bytes())


@fault("folder")
def file_removed(folder: Path) -> None:
    """A file that the manifest lists is gone."""
    next(folder.glob("*.onnx")).unlink()


@fault("folder")
def byte_edited(folder: Path) -> None:
    """One bit of the file's last weight is another."""
    file = next(folder.glob("*.onnx"))
    content = bytearray(file.read_bytes())
    weight = small().get_parameter("square.weight").detach().numpy()
    place = max(content.find(w.tobytes()) for w in (weight, np.ascontiguousarray(weight.T)))
    assert place > 0
    content[place] ^= 1
    file.write_bytes(bytes(content))


@fault("folder")
def files_exchanged(folder: Path) -> None:
    """Two files of one format have each other's name."""
    one, two = sorted(folder.glob("*.onnx"))
    kept = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(kept)


# Planting


class Spoiled(Job):
    """A job whose graph is spoiled after it was calibrated: what a converter that is wrong would be given."""

    def __init__(self, job: Job, fault: Fault) -> None:
        vars(self).update(vars(job))
        self.healthy, self.fault = job, fault
        if fault.recipes != INT8:
            self.program = replace(job.program, exported=job.program.retrace(self.spoil(job.graph())))

    def spoil(self, graph: GraphModule) -> GraphModule:
        """In place."""
        self.fault.plant(graph)
        graph.graph.eliminate_dead_code()
        graph.graph.lint()
        graph.recompile()
        return graph

    def quantised(self, *, fold: bool) -> GraphModule:
        """The healthy one, spoiled."""
        return self.spoil(self.healthy.quantised(fold=fold))


@dataclass(frozen=True, kw_only=True)
class Found:
    """What judging said of one file or folder.

    `verdict` is "not written" where a converter refuses the spoiled graph, "not there" where a file has no such bytes.
    """

    verdict: str
    reasons: tuple[str, ...] = ()


@contextmanager
def in_this_process() -> Iterator[None]:
    """Files are run here, once, not each in a child that first imports its runtime for seconds."""

    def reply(folder: Path, request: _worker.Request) -> int:
        with quiet():
            (folder / _worker.REPLY).write_bytes(msgspec.json.encode(_worker._reply(request, folder)))
        return 0

    with patch.object(_child, "_spawn", reply), patch.object(_worker, "LATENCY_SECONDS", 0.0):
        yield


Written = tuple[dict[str, Candidate], Yardstick | str | None]


@dataclass
class Subject:
    """One model for one target, healthy: captured, calibrated and written once."""

    model: str
    target: str
    folder: Path
    others: dict[str, Path] = field(default_factory=dict)

    @cached_property
    def task(self) -> Task:
        """With data."""
        module = MODELS[self.model]()
        inputs = 2 if self.model == "small" else 1
        calibration, evaluation = _samples(CALIBRATION, 1, inputs), _samples(EVALUATION, 2, inputs)
        return Task(
            name=self.model,
            source="planted",
            model=module,
            args=calibration.arguments()[0],
            calibration=calibration,
            evaluation=evaluation,
        )

    @cached_property
    def program(self) -> Program:
        """Captured."""
        return capture(self.task.model, self.task.args)

    @cached_property
    def standard(self) -> Standard:
        """What the float model gives."""
        assert self.task.evaluation
        return Standard(samples=self.task.evaluation, reference=self.task.reference(self.task.evaluation), score=None)

    @cached_property
    def job(self) -> Job:
        """Of the int8 recipe."""
        assert self.task.calibration
        return Job(self.program, recipes.read(*INT8), self.task.calibration.arguments)

    @cached_property
    def recipes(self) -> tuple[str, ...]:
        """That this model has files of."""
        return {"small": RECIPES, "indices": ("fp32",)}.get(self.model, INT8)

    @cached_property
    def healthy(self) -> Written:
        """Files by recipe, and the float file's figures."""
        return self.write(self.recipes)

    def write(self, names: tuple[str, ...]) -> Written:
        """As an export does, in a folder of its own. Raises RefusedError."""
        assert self.task.calibration
        plan = Plan.of((self.target,), names)
        place = self.folder / f"{len(list(self.folder.iterdir()))}"
        place.mkdir()
        written = pipeline.write(self.program, plan, self.model, place, self.task.calibration.arguments)
        for record in written:
            if isinstance(record, ArtifactRecord):
                raise RefusedError("; ".join(record.reasons))
        sticks = pipeline._yardsticks(self.program, written, self.standard, place, lambda line: None)
        files = [c for c in written if isinstance(c, Candidate)]
        return {c.recipe.name: c for c in files if c.recipe}, sticks[self.target]

    def judge(self, candidate: Candidate, stick: Yardstick | str | None) -> Found:
        """As an export does."""
        record, _ = verdict.judge(candidate, self.standard, Gates(), None if isinstance(stick, str) else stick)
        if isinstance(stick, str) and record.recipe != "fp32":
            record = verdict.failed(record, stick)
        return Found(verdict=record.verdict, reasons=tuple(record.reasons))

    def sound(self) -> Iterator[tuple[str, Found]]:
        """The healthy files, judged."""
        files, stick = self.healthy
        for name, candidate in files.items():
            yield name, self.judge(candidate, stick)

    def found(self, fault: Fault, names: tuple[str, ...] = RECIPES) -> Iterator[tuple[str, Found]]:
        """What becomes of a fault under each recipe that it can be planted in."""
        names = tuple(name for name in names if name in fault.recipes and name in self.recipes)
        if fault.where == "graph":
            yield from self._converted(fault, names, lambda job: Spoiled(job, fault))
            return
        if fault.where == "none":
            files, stick = self.healthy
            yield from ((name, self.judge(files[name], stick)) for name in names)
            return
        files, stick = self.healthy
        for name in names:
            if fault.where == "making":
                candidate = self.copy(files[name])
                exporters.export(self.target, fault.plant(self._job(name)), candidate.path)
            else:
                candidate = self.copy(files[name])
                if not self._spoil(fault, name, candidate.path):
                    yield name, Found(verdict="not there")
                    continue
            yield name, self.judge(candidate, stick)

    def _spoil(self, fault: Fault, name: str, path: Path) -> bool:
        if fault.where == "file":
            fault.plant(path, self.other(name))
            return True
        before, after = fault.plant(self.held(name))
        try:
            replace_bytes(path, before, after)
        except LookupError:
            try:  # Core ML keeps the scales of a float16 program in float16
                replace_bytes(path, before.astype(np.float16), after.astype(np.float16))
            except LookupError:
                return False
        return True

    def _converted(
        self, fault: Fault, names: tuple[str, ...], change: Callable[[Job], Job]
    ) -> Iterator[tuple[str, Found]]:
        """Written by a converter that is wrong, the float file for comparison too."""
        genuine = exporters.export

        def wrong(target: str, job: Job, path: Path) -> Lowered:
            return genuine(target, change(job), path)

        try:
            with patch.object(exporters, "export", wrong):
                files, stick = self.write(names)
        except EdgepassError as error:
            yield from ((name, Found(verdict="not written", reasons=(str(error),))) for name in names)
            return
        for name in names:
            yield name, self.judge(files[name], stick)

    def _job(self, name: str) -> Job:
        return self.job if name in INT8 else Job(self.program, recipes.read(name), self.job._calibration)

    def copy(self, candidate: Candidate) -> Candidate:
        """To be spoiled."""
        place = self.folder / f"{len(list(self.folder.iterdir()))}" / candidate.path.name
        place.parent.mkdir()
        if candidate.path.is_dir():
            shutil.copytree(candidate.path, place)
        else:
            shutil.copy(candidate.path, place)
        return replace(candidate, path=place)

    def other(self, name: str) -> Path:
        """The file of the same model with another seed."""
        if name not in self.others:
            job = Job(capture(small(seed=1), self.task.args), recipes.read(name), self.job._calibration)
            place = self.folder / f"other.{name}{exporters.target(self.target).suffix}"
            exporters.export(self.target, job, place)
            self.others[name] = place
        return self.others[name]

    def held(self, name: str) -> Held:
        """The square weight, as a file under this recipe has it."""
        model = self.task.module.get_parameter("square.weight").detach().numpy()
        if name not in INT8:
            return Held(model=model, stored=model.astype(np.float16 if name == "fp16" else np.float32), scale=None)
        graph = self.job.quantised(fold=True)
        for node in calls(graph, "dequantize_per_channel"):
            stored, scale = (_value(graph, n) for n in node.args[:2])
            # Rounded so that outputs err least, a value may be more than a step off, but not most of them.
            if stored.shape == model.shape and np.abs(stored * scale[:, None] - model).mean() < scale.max():
                return Held(model=model, stored=stored, scale=scale.astype(np.float32))
        raise LookupError("the square weight is not in the graph")


def _value(graph: GraphModule, node: Any) -> Array:
    value = graph
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value.detach().numpy()  # type: ignore[no-any-return]


@dataclass
class Folder:
    """An output folder of two float files of one format, to be spoiled and validated."""

    place: Path

    @cached_property
    def subject(self) -> Subject:
        """The small model."""
        (self.place / "files").mkdir()
        return Subject("small", "onnx", self.place / "files")

    @cached_property
    def written(self) -> Path:
        """By an export."""
        out = self.place / "out"
        pipeline.export(self.subject.task, Plan.of(("onnx",), ("fp32", "fp16")), out, Gates())
        return out

    def found(self, fault: Fault | None) -> Found:
        """What validating says of it."""
        copy = self.place / f"{len(list(self.place.iterdir()))}" / "out"
        shutil.copytree(self.written, copy)
        if fault is not None:
            fault.plant(copy)
        try:
            done = validate(copy, load=lambda _: self.subject.task, reference=None, recipe=None, bounds=Gates())
        except EdgepassError as error:
            return Found(verdict="fail", reasons=(str(error).replace(f"{copy.parent}/", ""),))
        return Found(verdict=done.verdict, reasons=tuple(r for a in done.artifacts for r in a.reasons))
