"""What every runtime reads off its file: work, weights, delegation, planned memory."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepass.runtimes import Contents, _arena
from edgepass.runtimes.executorch import _file
from runtime_tests.runtimes.written import FLOAT, MATRIX_FLOPS


class TestReading:
    @pytest.mark.parametrize("name", ["float.pte", "int8.pte", "float.tflite", "int8.tflite", "float.onnx"])
    def test_every_format_tells_the_same_matrix_work(self, contents: Callable[[str], Contents], name: str) -> None:
        assert sum(contents(name).flops.values()) == MATRIX_FLOPS

    @pytest.mark.parametrize("name", FLOAT)
    def test_float_weights_are_float_and_zeros_are_counted(
        self, contents: Callable[[str], Contents], name: str
    ) -> None:
        weights = contents(name).weights
        assert {w.dtype for w in weights} == {"float32"}
        (qkv,) = [w for w in weights if sorted(w.shape) == [16, 48]]
        assert qkv.zeros == 0.5
        assert (
            sum(math.prod(w.shape) for w in weights)
            == 16 * 9 + 16 + 48 + 16 + 32 * (name != "float.tflite") + 48 * 17 + 16 * 17 + 5 * 17
        )

    @pytest.mark.parametrize("name", ["int8.pte", "int8.tflite"])
    def test_int8_weights_are_int8_per_channel_and_biases_int32(
        self, contents: Callable[[str], Contents], name: str
    ) -> None:
        weights = contents(name).weights
        matrices = [w for w in weights if len(w.shape) > 1]
        assert len(matrices) == 5
        assert {(w.dtype, w.granularity) for w in matrices} == {("int8", "per-channel")}
        assert {w.dtype for w in weights if w.shape in {(48,), (5,)}} == {"int32"}
        (qkv,) = [w for w in matrices if w.shape == (48, 16)]
        assert 0.5 <= qkv.zeros < 0.6

    def test_int8_io_is_told_as_it_is_in_the_file(self, contents: Callable[[str], Contents]) -> None:
        assert [x.dtype for x in contents("int8.tflite").inputs] == ["int8"]

    def test_all_matrix_work_of_a_lowered_program_is_delegated(self, contents: Callable[[str], Contents]) -> None:
        found = contents("float.pte")
        assert found.delegated_flops == 1.0
        assert {f.op for f in found.fallbacks} == {"aten::native_layer_norm", "aten::split_with_sizes_copy"}

    def test_work_on_portable_kernels_is_not_delegated(self, contents: Callable[[str], Contents]) -> None:
        found = contents("mixed.pte")
        inside, outside = 2 * 8 * 8 * 8, 2 * 8 * 9 * 8  # padding gives the convolution nine outputs a row
        assert found.flops == {"aten::convolution": outside, "xnnpack.FullyConnected": inside}
        assert found.delegated_flops == pytest.approx(inside / (inside + outside))
        assert "aten::convolution" in {f.op for f in found.fallbacks}

    def test_tflite_names_what_xnnpack_leaves(self, contents: Callable[[str], Contents]) -> None:
        found = contents("float.tflite")
        assert [f.op for f in found.fallbacks] == ["FULLY_CONNECTED"]  # q times k: a weight that is no constant
        assert found.delegated_flops == pytest.approx(1 - 2 * 13 * 13 * 16 / MATRIX_FLOPS)

    def test_hybrid_layers_that_old_runtimes_compute_wrongly_are_noted(
        self, contents: Callable[[str], Contents]
    ) -> None:
        assert "compute wrong results" in " ".join(contents("hybrid.tflite").notes)
        assert not contents("float.tflite").notes

    def test_weights_made_float_on_loading_are_no_activations(self, contents: Callable[[str], Contents]) -> None:
        assert contents("weight_only.tflite").planned_bytes == contents("float.tflite").planned_bytes

    @pytest.mark.parametrize("name", ["float.pte", "float.tflite", "float.onnx"])
    def test_planned_memory_holds_at_least_the_largest_step(
        self, contents: Callable[[str], Contents], name: str
    ) -> None:
        planned = contents(name).planned_bytes
        assert planned is not None
        assert 13 * (16 + 48) * 4 <= planned <= 16 << 10


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[_arena.Node], dict[int | str, int]]:
    count = draw(st.integers(1, 12))
    nodes = [
        _arena.Node(reads=draw(st.lists(st.integers(0, step), max_size=3)), writes=[step + 1]) for step in range(count)
    ]
    sizes = draw(st.lists(st.integers(0, 500), min_size=count + 1, max_size=count + 1))
    return nodes, dict(enumerate(sizes))


@given(graphs())
def test_a_plan_lies_between_what_is_alive_at_once_and_everything(
    graph: tuple[list[_arena.Node], dict[int | str, int]],
) -> None:
    nodes, sizes = graph
    padded = {t: -(-n // 64) * 64 for t, n in sizes.items()}
    alive = max(sum(padded[t] for t in {*node.reads, *node.writes, 0}) for node in nodes)
    assert max(alive, *padded.values()) <= _arena.plan(nodes, [0], [len(nodes)], sizes) <= sum(padded.values())


def test_a_chain_needs_two_buffers() -> None:
    nodes = [_arena.Node(reads=[i], writes=[i + 1]) for i in range(63)]
    assert _arena.plan(nodes, [], [63], dict.fromkeys(range(1, 64), 64)) == 128


def test_an_input_keeps_its_place_to_the_end() -> None:
    nodes = [_arena.Node(reads=[i], writes=[i + 1]) for i in range(63)]
    assert _arena.plan(nodes, [0], [63], dict.fromkeys(range(64), 64)) == 192


@pytest.mark.parametrize(
    ("kernel", "shapes", "macs"),
    [
        ("aten::mm", [(5, 7), (7, 3), (5, 3)], 5 * 7 * 3),
        ("aten::bmm", [(2, 5, 7), (2, 7, 3), (2, 5, 3)], 2 * 5 * 7 * 3),
        ("aten::addmm", [(3,), (5, 7), (7, 3), (5, 3)], 5 * 7 * 3),
        ("aten::linear", [(1, 5, 7), (3, 7), (3,), (1, 5, 3)], 5 * 7 * 3),
        ("aten::convolution", [(1, 4, 9), (6, 2, 3), (6,), (1, 6, 7)], 7 * 6 * 2 * 3),
        ("aten::add", [(5, 7), (5, 7), (5, 7)], 0),
        ("aten::mm", [(5, 7)], 0),
    ],
)
def test_kernel_calls_are_counted_by_shape(kernel: str, shapes: list[tuple[int, ...]], macs: int) -> None:
    assert _file._flops(kernel, [{"val_type": "Tensor", "val": {"sizes": list(n)}} for n in shapes]) == 2 * macs


def test_a_transposed_convolution_is_counted_from_its_input() -> None:
    shapes = [[1, 4, 5], [4, 6, 3], [6], [1, 6, 11]]
    tensors = [{"val_type": "Tensor", "val": {"sizes": n}} for n in shapes]
    call = [*tensors[:3], {"val_type": "Bool", "val": {"bool_val": True}}, tensors[3]]
    assert _file._flops("aten::convolution", call) == 2 * 4 * 5 * 6 * 3
