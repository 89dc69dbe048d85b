"""Mistakes of the XNNPACK serialiser of executorch 1.5.1, put right for the length of a call.

- Convolutions give channels last, and what follows takes that as it is where the order of dimensions does not matter.
  Softmax counts among these (_passes/channels_last_tagged_reshape_pass.py), so that behind a convolution it is over the
  channels: 0.1 dB where more than 110 are right (runtime_tests/exporters/test_xnnpack.py).
- The weights of float convolutions are written as float32 (op_conv2d.py, force_fp32), twice the size in a float16
  file; XNNPACK takes float16 too, but for transposed ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.fx import Node

CONVOLUTION = "aten.convolution.default"


@contextmanager
def mended() -> Iterator[None]:
    """Have XNNPACK's passes and visitors do right."""
    import executorch.backends.xnnpack.operators  # noqa: F401  # registers the visitors
    from executorch.backends.xnnpack._passes.channels_last_tagged_reshape_pass import ChannelsLastTaggedReshapePass
    from executorch.backends.xnnpack.operators.node_visitor import _node_visitor_dict as visitors
    from executorch.exir.dialects._ops import ops

    edge: Any = ops.edge
    softmax = edge.aten._softmax.default
    convolution, in_order = visitors[CONVOLUTION], ChannelsLastTaggedReshapePass.memory_sensitive_ops_nchw
    visitors[CONVOLUTION] = _keeping_halves(convolution)
    ChannelsLastTaggedReshapePass.memory_sensitive_ops_nchw = in_order | {softmax}
    try:
        yield
    finally:
        visitors[CONVOLUTION] = convolution
        ChannelsLastTaggedReshapePass.memory_sensitive_ops_nchw = in_order


def _keeping_halves(visitor: Any) -> Any:
    """A visitor that writes the weights of convolutions in the format that they have."""

    class Halves(visitor):  # type: ignore[misc]  # executorch has no types
        def define_node(self, node: Node, *args: Any) -> None:
            self.transposed = bool(node.args[6])
            super().define_node(node, *args)

        def define_tensor(self, *args: Any, force_fp32: bool = False, **settings: Any) -> None:
            super().define_tensor(*args, force_fp32=force_fp32 and self.transposed, **settings)

    return Halves
