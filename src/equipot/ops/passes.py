"""What a backward pass will use: torch knows it of each pass (`inputs=`), but tells a Function only of the graph."""

from typing import Any

import torch


def wanted(ctx: Any, n: int) -> list[bool]:
    """Which of the gradients of a Function's first n inputs, all tensors, this backward pass will use."""
    return [needed and _executed(node) for needed, (node, _) in zip(ctx.needs_input_grad[:n], ctx.next_functions, strict=False)]


def plain(*tensors: torch.Tensor | None) -> bool:
    """Whether these are ordinary tensors that nothing is tracing."""
    if torch._C._len_torch_dispatch_stack() or torch._C._functorch.maybe_current_level() is not None:
        return False
    return all(t is None or type(t) is torch.Tensor or type(t) is torch.nn.Parameter for t in tensors)


def _executed(node: Any) -> bool:
    if node is None or node.name().endswith("AccumulateGrad"):
        return True
    try:
        return torch._C._will_engine_execute_node(node)
    except RuntimeError:  # a leaf, of which torch does not tell
        return True
