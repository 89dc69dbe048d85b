"""What the JSON of a torch.export program may say, so that torch can read it without running anything of the file's.

torch 2.13 turns the text of a program into code in more places than its operators (torch/_export/serde/serialize.py,
torch/utils/_pytree.py, torch/fx/graph.py):
  * the pytree specs of a call, `in_spec` and `out_spec`, import a module for `__enum__` and for a defaultdict;
  * names of nodes, of arguments and of parameters are written into Python source, which exec makes a function, and so
    are, bare, the keys of the arguments by keyword in `in_spec` (torch/export/_unlift.py, unflatten.py);
  * guards on inputs are source too, with a text among the inputs and the keys of the sample inputs between quotes;
  * so are modules that a node comes from, `nn_module_stack`, where a program is taken apart again;
  * operators are looked up by walking attributes from `torch`, `_operator` and `math`: attrgetter and call are there;
  * symbolic shapes go through sympy.sympify, which evaluates, and guards through exec.
Every string and every key must therefore be of the form that its place has in a file of torch's own; whatever is not
needed to run the program (guards, stack traces, other metadata, named tuples) is dropped.
"""

import ast
import json
import keyword
import re
from collections.abc import Iterator
from typing import Any

from edgepass.runtimes.eager._parts import Foreign

# By the key of a JSON object, or of the list that a string is in. A key that is not here holds a WORD.
NAMES = frozenset({"name", "as_name", "forward_arg_names"})
PATHS = frozenset({"parameter_name", "buffer_name", "tensor_constant_name", "fqn"})
TEXTS = frozenset({"as_string", "as_strings"})
WORD = re.compile(r"[\w.+<=-]*")
PATH = re.compile(r"[\w .,:;@/+*<>=()\[\]-]*")
TEXT = re.compile(r"[^'\"\\\x00-\x1f\x7f\u2028\u2029]*")
"""What stays a text between quotes of either kind."""
PLACE = re.compile(r"[\w .,:;@/+*<>=()\[\]'-]*")
"""Where a node comes from, which has the keys of module dictionaries in single quotes."""
OPERATORS_OWN = "from"
"""The keyword of Python that names an argument, of aten.uniform and aten.random."""
OBJECTS = frozenset({"as_custom_obj", "custom_obj"})
KEPT = frozenset({"nn_module_stack", "torch_fn"})
"""Metadata of a node that exporters read: where in the model it comes from."""
CONTAINERS = frozenset({"builtins.tuple", "builtins.list"})
MAPPINGS = frozenset({"builtins.dict", "collections.OrderedDict"})

_TARGET = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed|edgepass)\.(?!from_file\b)\w+(\.\w+)?"
    r"|torch\.ops\.higher_order\.(cond|while_loop|map_impl|scan|associative_scan|wrap_with_\w+)"
    r"|torch\._?sym_\w+"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|xor|not_|lshift|rshift)"
    r"|math\.(ceil|floor|trunc|sqrt|pow|log|log2|exp|sin|cos|tan|asin|acos|atan|sinh|cosh|tanh)"
)
_SYMPY = frozenset(
    """
    Symbol Integer Rational Float Add Mul Pow Mod Max Min Abs floor ceiling Eq Ne Lt Le Gt Ge And Or Not true false
    Equality Unequality LessThan GreaterThan StrictLessThan StrictGreaterThan FloorDiv CeilDiv CleanDiv PythonMod
    ModularIndexing Where Identity ToFloat TruncToInt TruncToFloat RoundToInt FloorToInt CeilToInt IntTrueDiv
    FloatTrueDiv PowByNatural FloatPow LShift RShift BitwiseFn_bitwise_and BitwiseFn_bitwise_or
    """.split()  # noqa: SIM905 (fifty quoted names would be longer)
)
SYMBOL = re.compile(r"[^\W\d]\w*|[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?")
_SYNTAX = (ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.UnaryOp, ast.USub)


def parse(text: bytes) -> Any:
    """The program, checked, without what running it does not need. Raises Foreign."""
    program = loads(text)
    if not isinstance(program, dict) or not isinstance(program.get("graph_module"), dict):
        raise Foreign("its program is none")
    program["guards_code"] = []
    program["graph_module"] |= {"metadata": {}, "treespec_namedtuple_fields": {}}
    for item in _objects(program):
        if isinstance(item.get("metadata"), dict):
            item["metadata"] = {k: v for k, v in item["metadata"].items() if k in KEPT and isinstance(v, str)}
    check(program)
    return program


def loads(text: bytes | str) -> Any:
    """JSON; Foreign where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Foreign(f"a part of it is no JSON ({type(error).__name__})") from None


def check(value: Any) -> None:
    """Raise Foreign for the first string or key that is not of the form of its place."""
    for item in _objects(value):
        for key, held in item.items():
            if key in OBJECTS:
                raise Foreign("it holds an object that is no tensor")
            if not PATH.fullmatch(key):
                raise Foreign(f"it has a name {key[:80]!r}, which could be code")
            _check_strings(key, held)
            if key in {"inputs", "value"} and not all(map(TEXT.fullmatch, _texts(held))):
                raise Foreign("it has a text among its inputs that could be code")


def is_key(value: Any) -> bool:
    """Whether a dictionary among the arguments or results of a call may have this key."""
    return type(value) is int or (isinstance(value, str) and PATH.fullmatch(value) is not None)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            yield item
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)


def _texts(held: Any) -> Iterator[str]:
    """Texts among the inputs of a graph, or as the value of one; those among an operator's arguments lie deeper."""
    for item in held if isinstance(held, list) else [held]:
        if isinstance(item, dict) and isinstance(text := item.get("as_string"), str):
            yield text


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.isidentifier() and not keyword.iskeyword(value)


def _check_strings(key: str, held: Any) -> None:
    """What `key` holds itself, or in lists."""
    todo = [held]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo.extend(item)
        elif key in {"in_spec", "out_spec"}:
            _check_spec(item)
            if key == "in_spec":
                _check_arguments(item)
        elif key == "expr_str":
            if not _is_shape(item):
                raise Foreign("a shape in it is no expression of known symbols")
        elif isinstance(item, str):
            _check_string(key, item)


def _check_string(key: str, text: str) -> None:
    if key in {"target", "as_operator"}:
        if not _TARGET.fullmatch(text):
            raise Foreign(f"it calls {text[:80]!r}, which is no operator that torch.export captures")
    elif key in NAMES:
        if not (_is_name(text) or (key == "name" and text in {"", OPERATORS_OWN})):
            raise Foreign(f"it has a name {text[:80]!r}, which no variable can have")
    elif key not in TEXTS and not (PATH if key in PATHS else PLACE if key in KEPT else WORD).fullmatch(text):
        raise Foreign(f"it has a name {text[:80]!r}, which could be code")


def _check_spec(text: Any) -> None:
    """The pytree of a call's arguments or results: tuples, lists and dictionaries of leaves, at any depth."""
    match loads(text) if isinstance(text, str) else None:
        case [1, root]:
            todo = [root]
        case _:
            raise Foreign("its arguments are of a kind that it does not say")
    while todo:
        match todo.pop():
            case {"type": None, "context": None, "children_spec": [], **rest} if not rest:
                continue
            case {"type": str(kind), "context": str(context), "children_spec": [*children], **rest} if (
                not rest and _holds(kind, loads(context), len(children))
            ):
                todo.extend(children)
            case _:
                raise Foreign("its arguments or results are more than tuples, lists and dictionaries of tensors")


def _check_arguments(text: str) -> None:
    """Those by keyword, which are the second of two, have the names of variables: torch writes them into source."""
    root = loads(text)[1]
    match root["children_spec"]:
        case [_, {"type": str(kind), "context": str(context)}] if kind in MAPPINGS:
            for key in loads(context):
                if not _is_name(key):
                    raise Foreign(f"it has an argument {str(key)[:80]!r}, which is no name")


def _holds(kind: str, context: Any, children: int) -> bool:
    """Whether a pytree of this kind has this context: nothing, or the keys of a dictionary."""
    if kind in CONTAINERS:
        return context is None
    if kind not in MAPPINGS or not isinstance(context, list) or len(context) != children:
        return False
    return all(map(is_key, context))


def _is_shape(text: Any) -> bool:
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return False
    for node in nodes:
        if not isinstance(node, _SYNTAX):
            return False
        if isinstance(node, ast.Name) and node.id not in _SYMPY:
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not SYMBOL.fullmatch(node.value):
            return False
    return True
