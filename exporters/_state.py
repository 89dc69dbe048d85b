"""State: each buffer that forward changes, as one more input and one more output. No format has to hold any.

    before   x ─┬─ cat ─┬─ y                after    x ─┬─ cat ─┬─ y
        past ───┘       └─ copy_(past)     state_past ──┘       └─ the new past

Who runs the file feeds the last outputs of one call to the last inputs of the next, and begins with what the buffers
held when the model was captured. The graph is functional then: nothing in it writes to what it reads. A single number
is a row of one, for Core ML takes nothing without dimensions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node
from torch.nn.modules.module import register_module_buffer_registration_hook
from torch.utils import _pytree as pytree

from edgepass.errors import CaptureError, listed

ATEN = torch.ops.aten
INPUT, OUTPUT = "state_", "next_"
"""How the names of such an input and output begin; what follows is the buffer's."""
UNFIT = {torch.bfloat16, torch.float64, torch.complex32, torch.complex64, torch.complex128}
"""Types that no target takes as an input."""


@contextmanager
def assigned(model: nn.Module) -> Iterator[None]:
    """Let what `model` assigns to buffers, `self.past = new`, be written to them when it has been called.

    torch.export (2.13) sees such an assignment on the outermost module alone, and there gives for a buffer that was
    read before, and is returned, what it is afterwards. Here outputs are copied before any buffer is written to.
    """
    before: dict[tuple[str, str], Tensor] = {}  # empty while nothing is called

    def remember(module: nn.Module, args: Any) -> None:
        owners = module.named_modules()
        before.update({(at, name): b for at, own in owners for name, b in own._buffers.items() if b is not None})

    def write(module: nn.Module, args: Any, outputs: Any) -> Any:
        new = [(at, name) for at, name in before if module.get_submodule(at)._buffers[name] is not before[at, name]]
        given = pytree.tree_map_only(Tensor, torch.clone, outputs) if new else outputs
        for at, name in new:
            owner, old = module.get_submodule(at), before[at, name]
            value = owner._buffers[name]
            if value is not None:
                _refuse_shape(f"{at}.{name}".removeprefix("."), old, value)
                old.copy_(value)
            owner._buffers[name] = old
        before.clear()
        return given

    def copied(module: nn.Module, name: str, buffer: Any) -> Any:
        """An argument that is assigned as it is fails torch.export's own check of what it adds to the graph."""
        return buffer.clone() if before and isinstance(buffer, Tensor) else buffer

    hooks = (
        model.register_forward_pre_hook(remember),
        model.register_forward_hook(write),
        register_module_buffer_registration_hook(copied),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def explicit(exported: ExportedProgram) -> tuple[GraphModule, dict[str, Tensor]]:
    """The program with its state as inputs and outputs, to be captured anew, and what each begins with, by buffer.

    Raises CaptureError for state that no file can be fed with.
    """
    _refuse_plain(exported)
    _refuse_growing(exported)
    functional = exported.run_decompositions({})
    names = list(dict.fromkeys(functional.graph_signature.buffers_to_mutate.values()))
    module = functional.module()
    assert isinstance(module, GraphModule)
    initial = {name: _fed(module.get_buffer(name)) for name in names}
    if unfit := [name for name, value in initial.items() if value.dtype in UNFIT]:
        kinds = listed(sorted({str(initial[name].dtype).removeprefix("torch.") for name in unfit}))
        raise CaptureError(
            f"the model keeps {kinds} in its buffer {listed(unfit)} from call to call, which no target takes as an "
            "input; let it keep float32 and cast inside"
        )
    _expose(module, initial)
    return module, initial


def kept(exported: ExportedProgram, initial: dict[str, Tensor]) -> GraphModule:
    """The other way: a program with state as its last inputs and outputs, with buffers in their place, as a module.

    For a format that keeps state itself. The buffers are called as the inputs were.
    """
    module = exported.module()
    assert isinstance(module, GraphModule)
    graph = module.graph
    output = graph.output_node()
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    own = len(inputs) - len(initial)
    results: tuple[Node, ...] = output.args[0]  # type: ignore[assignment]  # torch.export's are a tuple
    rest, made = results[: len(results) - len(initial)], results[len(results) - len(initial) :]
    output.args = (rest,)
    for (name, value), given, new in zip(initial.items(), inputs[own:], made, strict=True):
        buffer = INPUT + name.replace(".", "_")
        module.register_buffer(buffer, value.clone())
        with graph.inserting_after(inputs[-1]):
            got = graph.get_attr(buffer)
        got.meta = dict(given.meta)
        given.replace_all_uses_with(got)
        with graph.inserting_before(output):
            graph.call_function(ATEN.copy_.default, (got, new))
        graph.erase_node(given)
    _renew(module, inputs[:own], rest)
    return module


def _fed(buffer: Tensor) -> Tensor:
    """A copy of a buffer as it is handed over: of one dimension at least."""
    own = buffer.detach().clone(memory_format=torch.contiguous_format)
    return own if own.dim() else own.reshape(1)


def _expose(module: GraphModule, initial: dict[str, Tensor]) -> None:
    """Give the graph of `module` an input and an output more for each buffer named, in the place of the buffer."""
    graph = module.graph
    output = graph.output_node()
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    made: list[Node] = []
    for name in initial:
        (write,) = (user for node in _held(graph, name) for user in node.users if _writes(user, node))
        value = write.args[1]
        assert isinstance(value, Node)
        write.replace_all_uses_with(value)  # a model that returns a buffer returns what was written to it
        graph.erase_node(write)
        if not module.get_buffer(name).dim():
            with graph.inserting_before(output):
                value = graph.call_function(ATEN.view.default, (value, [1]))
        made.append(value)
    results: tuple[Node, ...] = (*output.args[0], *made)  # type: ignore[misc]  # torch.export's are a tuple
    output.args = (results,)
    for name in initial:
        with graph.inserting_after(inputs[-1]):
            given = graph.placeholder(INPUT + name.replace(".", "_"))
        inputs.append(given)
        if not module.get_buffer(name).dim():
            with graph.inserting_after(given):
                given = graph.call_function(ATEN.view.default, (given, []))
        for node in _held(graph, name):
            node.replace_all_uses_with(given)
            graph.erase_node(node)
        owner, _, leaf = name.rpartition(".")
        delattr(module.get_submodule(owner), leaf)
    _renew(module, inputs, results)


def _renew(module: GraphModule, inputs: Sequence[Node], results: Sequence[Node]) -> None:
    """Have the code of `module` made anew, for other inputs and results."""
    codegen: Any = module.graph._codegen
    codegen.pytree_info = codegen.pytree_info._replace(
        orig_args=[node.name for node in inputs],
        in_spec=pytree.tree_structure((tuple(0 for _ in inputs), {})),
        out_spec=pytree.tree_structure(tuple(0 for _ in results)),
    )
    module.graph.lint()
    module.recompile()


def _held(graph: Graph, name: str) -> list[Node]:
    """The nodes that get a buffer."""
    return [node for node in graph.nodes if node.op == "get_attr" and node.target == name]


def _writes(user: Node, buffer: Node) -> bool:
    return user.target is ATEN.copy_.default and user.args[0] is buffer


def _refuse_growing(exported: ExportedProgram) -> None:
    """Raise CaptureError for a buffer that is given another shape than it has."""
    buffers = exported.graph_signature.inputs_to_buffers
    for node in exported.graph.nodes:
        if node.target is not ATEN.copy_.default or (name := buffers.get(node.args[0].name)) is None:
            continue
        _refuse_shape(name, *(argument.meta["val"] for argument in node.args[:2]))


def _refuse_shape(name: str, old: Tensor, new: Tensor) -> None:
    before, after = list(old.shape), list(new.shape)
    if len(after) > len(before) or any(n not in (1, m) for m, n in zip(before[::-1], after[::-1], strict=False)):
        raise CaptureError(
            f"the model makes its buffer {name}, which is {before}, {after} in forward, and a file has one shape for "
            "each tensor; let it drop as much as it adds (torch.cat([old, new], 1)[:, -n:]), or give it room for all "
            "and write at a position"
        )


def _refuse_plain(exported: ExportedProgram) -> None:
    """Raise CaptureError for a tensor that is written to and is no buffer."""
    constants = exported.graph_signature.inputs_to_lifted_tensor_constants
    if plain := sorted(constants[node.name] for node in _written(exported) if node.name in constants):
        raise CaptureError(
            f"the model changes {listed(plain)} in forward, a plain tensor, which torch.export takes for a constant; "
            'make it a buffer: self.register_buffer("name", tensor)'
        )


def changed(exported: ExportedProgram) -> bool:
    """Whether some operation writes to what the model keeps, by a view too; the signature does not tell yet."""
    signature = exported.graph_signature
    kept = signature.inputs_to_buffers.keys() | signature.inputs_to_lifted_tensor_constants.keys()
    return bool(signature.buffers_to_mutate) or any(node.name in kept for node in _written(exported))


def _written(exported: ExportedProgram) -> Iterator[Node]:
    """What operations write to, where that is a view what it is of."""
    for node in exported.graph.nodes:
        if isinstance(node.target, OpOverload) and node.target._schema.is_mutable:
            yield from map(_viewed, node.all_input_nodes[:1])


def _viewed(node: Node) -> Node:
    """What a node is a view of, or itself; a cast to another type and a copy that has to be made are none."""
    while isinstance(node.target, OpOverload) and node.all_input_nodes:
        source, schema = node.all_input_nodes[0], node.target._schema
        aliases = schema.is_mutable or any(a.alias_info is not None for a in schema.arguments[:1])
        types = [n.meta["val"].dtype for n in (source, node) if isinstance(n.meta.get("val"), Tensor)]
        if not aliases or len(set(types)) != 1:
            break
        node = source
    return node
