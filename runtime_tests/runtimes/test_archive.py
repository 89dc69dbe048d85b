"""A .pt2 of a stranger: read as torch reads it, refused where torch.export.save would not have written it so."""

import io
import json
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgepass.errors import ArtifactError
from edgepass.runtimes.eager import _archive, _grammar, _parts

PROGRAM, WEIGHTS, EXAMPLE = "models/model.json", "data/weights/model_weights_config.json", "data/sample_inputs/model.pt"
TOLD: tuple[Any, dict[str, Any]] = (
    (torch.ones(3, 5), "sum"),
    {"more": {"a key: it (x)": {"b-c": torch.ones(3, 5)}}, "z": torch.ones(3, 5)},
)
IMPORT = f"__import__({'+'.join(f'chr({ord(letter)})' for letter in 'unasked')})"
"""Code without quotes, which asks for a module that there is none of."""
UNASKED = {
    "import",
    "ctypes.dlopen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.mkdir",
    "subprocess.Popen",
}
_seen: list[str] | None = None


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if _seen is not None and event in UNASKED:
        _seen.append(f"{event} {args!r}")


sys.addaudithook(_hear)  # cannot be taken back, so it listens only inside `nothing_runs`


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Fails when anything in the block imports a module, loads a library or starts a process."""
    global _seen
    _seen = []
    try:
        yield
        assert _seen == []
    finally:
        _seen = None


class Net(nn.Module):
    """Weights that share memory, a buffer outside of the state, dictionaries as results, odd names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 3)
        self.second = nn.ModuleDict({"my layer": nn.Linear(3, 5), "a-b": nn.Linear(3, 5)})
        self.tied = self.first.weight
        self.empty = nn.Parameter(torch.zeros(0, 3))
        self.register_buffer("scale", torch.arange(3.0), persistent=False)

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = self.first(x) * self.scale
        both = [self.second[name](y) @ self.tied.T for name in ("my layer", "a-b")]
        return {"y": y, "both": (both[0], [both[1]]), "more": OrderedDict(z=torch.full((2,), float("inf")))}


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        halves = torch.cond(x.sum() > 0, lambda x: x * 2, lambda x: x - 1, (x,))
        return halves * x.shape[0]


class Told(nn.Module):
    """Arguments by keyword, dictionaries in them, a text, and a module that keeps its signature."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"my layer": Doubled()})

    def forward(self, x: Tensor, mode: str, *, more: dict[str, dict[str, Tensor]], **rest: Tensor) -> Tensor:
        y = self.inner["my layer"](x, by=rest["z"]) + more["a key: it (x)"]["b-c"]
        return y if mode == "sum" else -y


class Doubled(nn.Module):
    def forward(self, x: Tensor, by: Tensor) -> Tensor:
        return x * 2 + by


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Parts of an archive of `Told`, which says nowhere but in its pytrees what its arguments are called."""
    found = parts(torch.export.export(Told(), *TOLD))
    first = _archive.load_program(archive(found, tmp_path_factory.mktemp("told") / "m.pt2"))
    for made in (first.module(), apart(first)):  # what torch imports on first use is in
        made(*TOLD[0], **TOLD[1])
    program = json.loads(found[PROGRAM])
    program["graph_module"]["module_call_graph"][0]["signature"]["forward_arg_names"] = None
    return found | {PROGRAM: json.dumps(program).encode()}


@pytest.fixture(scope="module")
def saved() -> dict[str, bytes]:
    """Parts of an archive, by name."""
    torch.manual_seed(0)
    batch = {0: torch.export.Dim("batch", max=8)}
    return parts(torch.export.export(Net().eval(), (torch.randn(3, 5),), dynamic_shapes=(batch,)))


def apart(program: torch.export.ExportedProgram) -> nn.Module:
    """The program as modules that call one another."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, of its tree specifications
        return torch.export.unflatten(program)


def parts(program: torch.export.ExportedProgram) -> dict[str, bytes]:
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={"notes.txt": "the user's own"})
    return _parts.read(file.getvalue())


def archive(parts: dict[str, bytes], path: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, content in parts.items():
            new.writestr(f"archive/{name}", content)
    return path


def refusal(parts: dict[str, bytes], folder: Path) -> str:
    """The sentence that an archive of these parts is met with, while nothing of it runs."""
    path = archive(parts, folder / "m.pt2")
    with nothing_runs(), pytest.raises(ArtifactError) as error:
        _archive.load_program(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("model", [Net(), Branch(), nn.LSTM(5, 4, batch_first=True)])
@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")  # of nn.LSTM, whose weights torch lists anew
def test_programs_compute_as_torch_loads_them(model: nn.Module, tmp_path: Path) -> None:
    x = torch.randn(3, 1, 5) if isinstance(model, nn.LSTM) else torch.randn(3, 5)
    torch.export.save(torch.export.export(model.eval(), (x,)), tmp_path / "m.pt2")
    ours, theirs = _archive.load_program(tmp_path / "m.pt2"), torch.export.load(tmp_path / "m.pt2")
    assert ours.state_dict.keys() == theirs.state_dict.keys()
    torch.testing.assert_close(ours.module()(x), theirs.module()(x), rtol=0, atol=0)
    torch.testing.assert_close(ours.example_inputs, theirs.example_inputs, rtol=0, atol=0)


@pytest.mark.parametrize("strict", [False, True])
def test_arguments_by_keyword_and_texts_are_taken(tmp_path: Path, *, strict: bool) -> None:
    torch.export.save(torch.export.export(Told(), *TOLD, strict=strict), tmp_path / "m.pt2")
    ours = _archive.load_program(tmp_path / "m.pt2")
    torch.testing.assert_close(ours.module()(*TOLD[0], **TOLD[1]), Told()(*TOLD[0], **TOLD[1]), rtol=0, atol=0)
    if not strict:
        torch.testing.assert_close(apart(ours)(*TOLD[0], **TOLD[1]), torch.full((3, 5), 4.0), rtol=0, atol=0)


def test_what_shares_memory_shares_it_again(saved: dict[str, bytes], tmp_path: Path) -> None:
    state = _archive.load_program(archive(saved, tmp_path / "m.pt2")).state_dict
    assert state["tied"].data_ptr() == state["first.weight"].data_ptr()


ENUM = {"__enum__": True, "fqn": "antigravity:Mode", "name": "x"}
LEAF = {"type": None, "context": None, "children_spec": []}


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize(
    "node",
    [
        {"type": "builtins.tuple", "context": json.dumps(ENUM), "children_spec": [LEAF]},
        {"type": "builtins.dict", "context": json.dumps([ENUM]), "children_spec": [LEAF]},
        {
            "type": "builtins.dict",
            "context": json.dumps(['a": __import__("antigravity"), "b']),
            "children_spec": [LEAF],
        },
        {"type": "builtins.dict", "context": json.dumps([[1]]), "children_spec": [LEAF]},
        {"type": "builtins.dict", "context": json.dumps(["a", "b"]), "children_spec": [LEAF]},
        {"type": "collections.deque", "context": "null", "children_spec": [LEAF]},
        {
            "type": "collections.defaultdict",
            "context": {"default_factory_module": "antigravity", "default_factory_name": "x", "dict_context": []},
            "children_spec": [],
        },
        {"type": "builtins.tuple", "context": "null", "children_spec": [LEAF], "more": 1},
        {**LEAF, "context": "null"},
        [],
    ],
)
@pytest.mark.parametrize("spec", ["in_spec", "out_spec"])
def test_a_pytree_imports_nothing(saved: dict[str, bytes], tmp_path: Path, spec: str, node: Any, depth: int) -> None:
    for _ in range(depth):
        node = {"type": "builtins.list", "context": "null", "children_spec": [LEAF, node]}
    program = json.loads(saved[PROGRAM])
    program["graph_module"]["module_call_graph"][-1]["signature"] = {
        **program["graph_module"]["module_call_graph"][0]["signature"], spec: json.dumps([1, node])
    }  # fmt: skip
    said = refusal(saved | {PROGRAM: json.dumps(program).encode()}, tmp_path)
    assert "its arguments or results are more than tuples, lists and dictionaries of tensors" in said


@given(st.recursive(st.just({**LEAF}), lambda nodes: st.one_of(
    st.lists(nodes, max_size=3).map(lambda n: {"type": "builtins.tuple", "context": "null", "children_spec": n}),
    st.lists(nodes, max_size=3).map(lambda n: {"type": "builtins.list", "context": "null", "children_spec": n}),
    st.dictionaries(st.from_regex(r"\w+", fullmatch=True), nodes, max_size=3).map(
        lambda d: {"type": "builtins.dict", "context": json.dumps([*d]), "children_spec": [*d.values()]}),
)))  # fmt: skip
def test_plain_pytrees_are_taken(node: Any) -> None:
    text = json.dumps([1, node])
    row = {"type": "builtins.tuple", "context": "null"}
    none = {"type": "builtins.dict", "context": "[]", "children_spec": []}
    call = {**row, "children_spec": [{**row, "children_spec": [node]}, none]}
    _grammar.check({"out_spec": text, "in_spec": json.dumps([1, call])})
    assert torch.utils._pytree.treespec_dumps(torch.utils._pytree.treespec_loads(text)) == text


def strings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a string or a key is in JSON; a key's path ends with None."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(key, str):
                yield (*path, key, None)
            yield from strings(item, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], text: str) -> Any:
    """The JSON with the string or key at `path` replaced."""
    if not path:
        return text
    first, *rest = path
    if rest == [None]:
        return {text if key == first else key: item for key, item in value.items()}
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[first] = replaced(value[first], tuple(rest), text)
    return copy


@pytest.mark.parametrize("part", [PROGRAM, WEIGHTS])
@pytest.mark.parametrize(
    "text",
    [
        'x"); import antigravity; ("',
        "x\n    import antigravity\n    #",
        "torch.ops.aten.relu",
        "_operator.attrgetter",
    ],
)
def test_no_string_of_a_program_becomes_code(saved: dict[str, bytes], tmp_path: Path, part: str, text: str) -> None:
    program = json.loads(saved[part])
    taken = 0
    for where in strings(program):
        path = archive(saved | {part: json.dumps(replaced(program, where, text)).encode()}, tmp_path / "m.pt2")
        with nothing_runs():
            try:
                _archive.load_program(path).module()(torch.ones(3, 5))
                taken += 1
            except Exception:
                continue
        assert hasattr(torch.ops.aten.relu, "default"), where
        assert not any(w in {"name", "target", "in_spec", "out_spec", "expr_str"} for w in where[-1:]), where
    assert taken or part == WEIGHTS  # stack traces and other text that is dropped


def refused(parts: dict[str, bytes], folder: Path) -> str:
    """The sentence that an archive like `told` is met with; run or taken apart, it would run nothing either."""
    with nothing_runs(), suppress(ArtifactError):
        program = _archive.load_program(archive(parts, folder / "m.pt2"))
        for made in (program.module, lambda: apart(program)):
            with suppress(Exception):
                made()(*TOLD[0], **TOLD[1])
    return refusal(parts, folder)


@pytest.mark.parametrize("text", [f"z, c:{IMPORT}", f"' or {IMPORT} or '", f'a("), {IMPORT}, ("'])
def test_no_string_of_a_call_becomes_code(told: dict[str, bytes], tmp_path: Path, text: str) -> None:
    program = json.loads(told[PROGRAM])
    for where in strings(program):
        path = archive(told | {PROGRAM: json.dumps(replaced(program, where, text)).encode()}, tmp_path / "m.pt2")
        with nothing_runs(), suppress(Exception):
            read = _archive.load_program(path)
            for made in (read.module, lambda read=read: apart(read)):  # type: ignore[misc]
                with suppress(Exception):
                    made()(*TOLD[0], **TOLD[1])


@pytest.mark.parametrize("entry", [0, 1])
@pytest.mark.parametrize("kind", ["builtins.dict", "collections.OrderedDict"])
@pytest.mark.parametrize("key", [f"z, c:{IMPORT}", f"z={IMPORT}", "a-b", "class", "", "1", 1])
def test_an_argument_by_keyword_has_the_name_of_one(
    told: dict[str, bytes], tmp_path: Path, key: Any, kind: str, entry: int
) -> None:
    program = json.loads(told[PROGRAM])
    calls = program["graph_module"]["module_call_graph"]
    signature = json.loads(json.dumps(calls[0]["signature"]))
    call, (_, spec) = next(c for c in calls if bool(c["fqn"]) == bool(entry)), json.loads(signature["in_spec"])
    spec["children_spec"][1] |= {"type": kind, "context": json.dumps(["more", key])}
    call["signature"] = signature | {"in_spec": json.dumps([1, spec])}
    said = refused(told | {PROGRAM: json.dumps(program).encode()}, tmp_path)
    assert f"it has an argument {str(key)[:80]!r}, which is no name" in said


def test_keys_within_an_argument_are_data() -> None:
    inner = {"type": "builtins.dict", "context": json.dumps(["a-b c", 1]), "children_spec": [LEAF, LEAF]}
    named = {"type": "builtins.dict", "context": json.dumps(["x"]), "children_spec": [inner]}
    nothing = {"type": "builtins.tuple", "context": "null", "children_spec": []}
    _grammar.check({"in_spec": json.dumps([1, {**nothing, "children_spec": [{**nothing}, named]}])})
    _grammar.check({"out_spec": json.dumps([1, {**nothing, "children_spec": [{**nothing}, inner]}])})


@pytest.mark.parametrize("text", ["it's", f"' or {IMPORT} or '", "a\\", "a\nb", 'a"b'])
@pytest.mark.parametrize("place", ["inputs", "input_specs"])
def test_a_text_among_the_inputs_stays_one(told: dict[str, bytes], tmp_path: Path, place: str, text: str) -> None:
    program = json.loads(told[PROGRAM])
    module = program["graph_module"]
    if place == "inputs":
        next(item for item in module["graph"]["inputs"] if "as_string" in item)["as_string"] = text
    else:
        given = next(item for item in module["signature"]["input_specs"] if "constant_input" in item)
        given["constant_input"]["value"]["as_string"] = text
    said = refused(told | {PROGRAM: json.dumps(program).encode()}, tmp_path)
    assert "it has a text among its inputs that could be code" in said


@pytest.mark.parametrize("key", [f" + str({IMPORT})) #'", "it's", ("a'",)])
def test_keys_of_sample_inputs_stay_keys(told: dict[str, bytes], tmp_path: Path, key: Any) -> None:
    file = io.BytesIO()
    torch.save((TOLD[0], TOLD[1] | {"more": {"a key: it (x)": {key: torch.ones(3, 5)}}}), file)
    said = refused(told | {EXAMPLE: file.getvalue()}, tmp_path)
    assert "its sample inputs have keys that could be code" in said


def test_where_a_node_comes_from_is_no_code(told: dict[str, bytes], tmp_path: Path) -> None:
    code = 'a(")\rimport unasked\rdef f():\r    pass #'
    program = json.loads(told[PROGRAM])
    for node in program["graph_module"]["graph"]["nodes"]:
        node["metadata"]["nn_module_stack"] = f"L__self__,,M;L__self___a,{code},M"
    said = refused(told | {PROGRAM: json.dumps(program).encode()}, tmp_path)
    assert "it has a name 'L__self__,,M;L__self___a,a" in said


@pytest.mark.parametrize("text", ["s0", "u12", "zf3", "1.0000000000000001e-5", "-0.5"])
def test_symbols_and_numbers_of_a_shape_are_taken(text: str) -> None:
    _grammar.check({"expr_str": f"Mul(Integer(2), Symbol('{text}', integer=True))"})


@pytest.mark.parametrize("text", ["s0.__class__", "a-b", "s0+s1", "1a", "", "a b"])
def test_nothing_else_names_a_symbol(text: str) -> None:
    with pytest.raises(_parts.Foreign):
        _grammar.check({"expr_str": f"Mul(Integer(2), Symbol('{text}', integer=True))"})


@pytest.mark.parametrize("key", ["name", "as_name", "forward_arg_names"])
@pytest.mark.parametrize("text", ["1a", "class", "a b", "\u00b2", "a\n"])
def test_names_are_those_of_variables(key: str, text: str) -> None:
    with pytest.raises(_parts.Foreign):
        _grammar.check({key: [text] if key == "forward_arg_names" else text})


@given(st.data())
def test_a_damaged_archive_is_refused_or_is_a_program(
    saved: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = archive(saved, tmp_path_factory.getbasetemp() / "damaged.pt2")
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content if data.draw(st.booleans()) else content[:cut])
    with nothing_runs(), suppress(ArtifactError):
        _archive.load_program(path)


def test_nothing_inflates(saved: dict[str, bytes], tmp_path: Path) -> None:
    path = archive(saved | {"extra/bomb": bytes(10_000_000)}, tmp_path / "m.pt2", zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(ArtifactError, match="has a compressed part"):
        _archive.load_program(path)
    inner = archive(_parts.read(saved[EXAMPLE]), tmp_path / "inner.zip", zipfile.ZIP_DEFLATED).read_bytes()
    assert "its part of sample inputs has a compressed part" in refusal(saved | {EXAMPLE: inner}, tmp_path)


def _claims(path: Path, size: int) -> Path:
    """The archive, in whose directory the first member is of `size` bytes."""
    content = bytearray(path.read_bytes())
    start = content.rfind(b"PK\x01\x02", 0, content.find(b"PK\x01\x02") + 4)
    content[start + 20 : start + 28] = size.to_bytes(4, "little") * 2
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("size", [0, 1, 59, 61, 10_000, 2**31])
def test_a_member_is_of_the_size_that_it_says(saved: dict[str, bytes], tmp_path: Path, size: int) -> None:
    path = archive(saved, tmp_path / "m.pt2")
    assert len(saved["data/weights/weight_0"]) == 60
    with pytest.raises(ArtifactError, match=r"overlap|is no whole zip archive"):
        _archive.load_program(_claims(path, size))


def test_two_parts_of_one_name_are_refused(saved: dict[str, bytes], tmp_path: Path) -> None:
    path = archive(saved, tmp_path / "m.pt2")
    with zipfile.ZipFile(path, "a") as again, pytest.warns(UserWarning, match="Duplicate name"):
        again.writestr(f"archive/{PROGRAM}", saved[PROGRAM])
    with pytest.raises(ArtifactError, match="holds two parts of one name"):
        _archive.load_program(path)


@pytest.mark.parametrize("kept", [0, 1, 59])
def test_a_weight_is_never_filled_with_zeros(saved: dict[str, bytes], tmp_path: Path, kept: int) -> None:
    short = saved["data/weights/weight_0"][:kept]
    said = refusal(saved | {"data/weights/weight_0": short}, tmp_path)
    assert f"needs 60 bytes and has {kept}" in said


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sizes", [{"as_int": 1 << 40}, {"as_int": 5}]),
        ("sizes", [{"as_int": -1}, {"as_int": 5}]),
        ("sizes", [{"as_expr": {"expr_str": "Symbol('s0')", "hint": None}}, {"as_int": 5}]),
        ("sizes", [{"as_int": 3}]),
        ("strides", [{"as_int": 5}, {"as_int": 1 << 62}]),
        ("strides", [{"as_int": -5}, {"as_int": 1}]),
        ("storage_offset", {"as_int": 1}),
        ("storage_offset", {"as_int": -1}),
        ("device", {"type": "cuda", "index": 0}),
        ("layout", 2),
        ("dtype", 8),
    ],
)
def test_a_weight_lies_within_its_bytes(saved: dict[str, bytes], tmp_path: Path, key: str, value: Any) -> None:
    config = json.loads(saved[WEIGHTS])
    config["config"]["first.weight"]["tensor_meta"][key] = value
    assert "its tensor 'first.weight'" in refusal(saved | {WEIGHTS: json.dumps(config).encode()}, tmp_path)


@pytest.mark.parametrize(
    "edit", [lambda b: b"", lambda b: b[:-4], lambda b: b + b"abcd"], ids=["empty", "short", "long"]
)
def test_sample_inputs_are_of_the_size_that_they_say(
    saved: dict[str, bytes], tmp_path: Path, edit: Callable[[bytes], bytes]
) -> None:
    inner = _parts.read(saved[EXAMPLE])
    example = archive(inner | {"data/0": edit(inner["data/0"])}, tmp_path / "inner.zip").read_bytes()
    assert "sample inputs are not of the size that they say" in refusal(saved | {EXAMPLE: example}, tmp_path)


def test_a_file_that_another_one_replaces_is_not_loaded(saved: dict[str, bytes], tmp_path: Path) -> None:
    path = archive(saved, tmp_path / "m.pt2")
    seen = _archive.inspect(path)
    _archive.load_program(path, seen.content_sha256)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ArtifactError, match="changed while it was being read"):
        _archive.load_program(path, seen.content_sha256)
