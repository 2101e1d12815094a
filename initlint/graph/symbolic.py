"""The graph of torch.fx.symbolic_trace, written in the operators that a recorded run shows."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from initlint.runtime import layer, operands

aten = torch.ops.aten
Value = Any  # a node, a tuple of values, or a constant; None for numbers known only at run time

#: Functions and methods whose ATen name is another one.
_RENAMED = {
    "truediv": "div",
    "floordiv": "floor_divide",
    "iadd": "add",
    "imul": "mul",
    "isub": "sub",
    "itruediv": "div",
    "concat": "cat",
    "concatenate": "cat",
    "multiply": "mul",
    "logsigmoid": "log_sigmoid",
    "interpolate": "upsample_nearest2d",
}
#: Methods that ask for a number instead of computing a tensor.
_QUERIES = frozenset({"size", "dim", "numel", "stride", "item", "element_size", "ndimension", "get_device"})
#: Methods that change neither values nor axes.
_SAME = frozenset(
    {"contiguous", "to", "float", "half", "bfloat16", "double", "type_as", "detach", "cuda", "cpu"}
)


def lower(traced: fx.GraphModule, model: nn.Module) -> fx.Graph:
    """Rewrite a symbolic trace of `model`; tensors are named by their first name in it."""
    return _Lowering(traced, model).run()


def whole(*tensors: torch.Tensor) -> torch.Tensor:
    """Stands in the graph for a module that is not taken apart."""
    raise NotImplementedError


class _Lowering:
    def __init__(self, traced: fx.GraphModule, model: nn.Module) -> None:
        self.traced = traced
        self.graph = fx.Graph()
        self.values: dict[fx.Node, Value] = {}
        self.path = ""
        self.names: dict[int, str] = {}
        for name, tensor in (*nn.Module.named_parameters(model), *nn.Module.named_buffers(model)):
            self.names.setdefault(id(tensor), name)
        self.stored: dict[str, fx.Node] = {}

    def run(self) -> fx.Graph:
        """Visit every node in order."""
        for node in self.traced.graph.nodes:
            stack = list(node.meta.get("nn_module_stack", {}).values())
            self.path = stack[-1][0] if stack else ""
            self.values[node] = getattr(self, f"_{node.op}")(node)
        return self.graph

    # -------------------------------------------------- kinds of nodes

    def _placeholder(self, node: fx.Node) -> Value:
        return self._described(self.graph.create_node("placeholder", str(node.target), (), {}, node.name))

    def _output(self, node: fx.Node) -> Value:
        found = tuple(dict.fromkeys(operands(self._value(node.args[0]), fx.Node)))
        return self.graph.create_node("output", "output", (found,), {})

    def _get_attr(self, node: fx.Node) -> Value:
        holder: Any = self.traced
        for part in str(node.target).split("."):
            holder = getattr(holder, part)
        return self._tensor(holder, str(node.target)) if isinstance(holder, torch.Tensor) else None

    def _call_module(self, node: fx.Node) -> Value:
        self.path = str(node.target)
        module = self.traced.get_submodule(self.path)
        return self._module(module, [self._value(a) for a in node.args], self._values(node.kwargs))

    def _call_method(self, node: fx.Node) -> Value:
        return self._function(str(node.target), None, node)

    def _call_function(self, node: fx.Node) -> Value:
        target = node.target
        if target is getattr:
            return self._attribute(self._value(node.args[0]), str(node.args[1]))
        return self._function(getattr(target, "__name__", str(target)).strip("_"), target, node)

    # -------------------------------------------------- values

    def _value(self, argument: Any) -> Value:
        if isinstance(argument, fx.Node):
            return self.values[argument]
        if isinstance(argument, (list, tuple)):
            return type(argument)(self._value(item) for item in argument)
        if isinstance(argument, dict):
            return self._values(argument)
        if isinstance(argument, slice):
            return None
        return argument

    def _values(self, arguments: Mapping[str, Any]) -> dict[str, Value]:
        return {key: self._value(value) for key, value in arguments.items()}

    def _described(self, node: fx.Node, tensor: torch.Tensor | None = None) -> fx.Node:
        node.meta.update(module=self.path, site=None)
        if tensor is not None:
            node.meta.update(shape=tuple(tensor.shape), dtype=tensor.dtype)
        return node

    def _tensor(self, tensor: torch.Tensor, name: str) -> fx.Node:
        name = self.names.get(id(tensor), name)
        known = self.stored.get(name)
        if known is None:
            known = self.stored[name] = self.graph.create_node("get_attr", name, (), {})
            self._described(known, None if nn.parameter.is_lazy(tensor) else tensor)
        return known

    def _call(self, name: str | Callable[..., Any], *args: Value) -> fx.Node:
        """A call of an ATen operator, of the overload that takes this kind of second operand."""
        target: Any = name
        if isinstance(name, str):
            packet = getattr(aten, name)
            overloads = packet.overloads()
            scalar = len(args) > 1 and not isinstance(args[1], fx.Node)
            wanted = ("Scalar", "int", "default") if scalar else ("Tensor", "default", "int")
            target = getattr(packet, next((o for o in wanted if o in overloads), overloads[0]))
        return self._described(self.graph.create_node("call_function", target, args, {}))

    def _attribute(self, value: Value, name: str) -> Value:
        if isinstance(value, fx.Node) and name in ("T", "mT", "H", "mH"):
            return self._call("t", value)
        return value if isinstance(value, fx.Node) and name in ("data", "real") else None

    # -------------------------------------------------- functions and methods

    def _function(self, name: str, target: Any, node: fx.Node) -> Value:
        args, kwargs = [self._value(a) for a in node.args], self._values(node.kwargs)
        if target is operator.getitem:
            return self._item(args[0], args[1])
        if name in _QUERIES or not [*operands([args, kwargs], fx.Node)]:
            return None
        if name in _SAME:
            return args[0]
        if name == "linear":
            return self._call(aten.linear.default, *_ordered(args, kwargs, "input", "weight", "bias"))
        if name == "embedding" and target is not None:
            ids, weight = _ordered(args, kwargs, "input", "weight")[:2]
            return self._call(aten.embedding.default, weight, ids)
        if name == "einsum":
            factors = args[1] if isinstance(args[1], (list, tuple)) else args[1:]
            return self._call(aten.einsum.default, args[0], list(factors))
        if name in ("view", "reshape", "permute", "expand", "repeat", "flip") and len(args) > 1:
            sizes = args[1] if isinstance(args[1], (list, tuple)) else args[1:]
            return self._call(name, args[0], list(sizes))
        if name in ("chunk", "split", "unbind"):
            return self._pieces(name, args)
        aten_name = _RENAMED.get(name, name.rstrip("_"))
        if not hasattr(aten, aten_name):
            return self._call(target if callable(target) else whole, *operands([args, kwargs], fx.Node))
        given = (*args, *(v for k, v in kwargs.items() if k not in ("inplace", "training", "dtype")))
        return self._call(aten_name, *given)

    def _item(self, value: Value, index: Value) -> Value:
        if isinstance(value, (tuple, list)):
            return value[index] if isinstance(index, int) and -len(value) <= index < len(value) else None
        if not isinstance(value, fx.Node):
            return None
        picked = [*operands([index], fx.Node)]
        return self._call("index", value, picked) if picked else self._call("slice", value)

    def _pieces(self, name: str, args: list[Value]) -> Value:
        """The results of a split that the trace takes one by one."""
        pieces = self._call(name, *args)
        count = len(args[1]) if len(args) > 1 and isinstance(args[1], (list, tuple)) else None
        if name == "chunk" and len(args) > 1 and isinstance(args[1], int):
            count = args[1]
        if count is None:
            return pieces
        return tuple(self._call(operator.getitem, pieces, i) for i in range(count))

    # -------------------------------------------------- modules

    def _module(self, module: Any, args: list[Value], kwargs: dict[str, Value]) -> Value:
        x = args[0] if args else next(iter(kwargs.values()), None)
        weight, bias = self._own(module, "weight"), self._own(module, "bias")
        known = layer(module)
        match known.operator:
            case "identity":
                return x
            case "linear":
                return self._call(aten.linear.default, x, weight, bias)
            case "bilinear":
                return self._call(aten.bilinear.default, x, args[1], weight, bias)
            case "convolution" | "convolution_transpose" as name:
                return self._convolution(module, x, weight, bias, transposed=name != "convolution")
            case "embedding":
                return self._call(aten.embedding.default, weight, x)
            case "batch_norm" | "instance_norm" as name:
                return self._channel_norm(name, module, x, weight, bias)
            case "layer_norm":
                return self._call(aten.layer_norm.default, x, list(module.normalized_shape), weight, bias)
            case "group_norm":
                return self._call(aten.group_norm.default, x, module.num_groups, weight, bias)
            case "rms_norm":
                return self._call(aten.rms_norm.default, x, list(module.normalized_shape), weight)
            case "prelu":
                return self._call(aten.prelu.default, x, weight)
            case "lstm" | "gru" | "rnn_tanh" as name:
                return self._recurrent(name, module, x)
            case "attention":
                return self._attention(module, *_ordered(args, kwargs, "query", "key", "value"))
            case name if name and not known.role:
                return self._call(name, x)
        own = [
            self._tensor(t, f"{self.path}.{n}")
            for n, t in (*module.named_parameters(), *module.named_buffers())
        ]
        return self._call(whole, *operands([args, kwargs], fx.Node), *own)

    def _own(self, module: nn.Module, name: str) -> fx.Node | None:
        """A tensor of a module; the original that has its shape, where it is parametrised."""
        value = getattr(module, name, None)
        if not isinstance(value, torch.Tensor):
            return None
        if id(value) in self.names:
            return self._tensor(value, f"{self.path}.{name}")
        originals = [t for n, t in module.named_parameters() if name in n and t.shape == value.shape]
        return self._tensor(originals[-1] if originals else value, f"{self.path}.{name}")

    def _convolution(self, module: Any, x: Value, weight: Value, bias: Value, *, transposed: bool) -> fx.Node:
        padding = [0] * len(module.kernel_size) if isinstance(module.padding, str) else list(module.padding)
        settings = (list(module.stride), padding, list(module.dilation), transposed)
        rest = (list(module.output_padding), module.groups)
        return self._call(aten.convolution.default, x, weight, bias, *settings, *rest)

    def _channel_norm(self, name: str, module: Any, x: Value, weight: Value, bias: Value) -> fx.Node:
        mean, variance = self._own(module, "running_mean"), self._own(module, "running_var")
        rest = (module.training, module.momentum or 0.0, module.eps, False)
        return self._call(getattr(aten, name).default, x, weight, bias, mean, variance, *rest)

    def _recurrent(self, name: str, module: nn.RNNBase, x: Value) -> Value:
        weights = [self._tensor(getattr(module, n), f"{self.path}.{n}") for n in module._flat_weights_names]
        settings = (module.bias, module.num_layers, module.dropout, module.training, module.bidirectional)
        node = self._call(getattr(aten, name).input, x, [], weights, *settings, module.batch_first)
        output, *states = (self._call(operator.getitem, node, i) for i in range(3 if name == "lstm" else 2))
        return output, tuple(states) if len(states) > 1 else states[0]

    def _attention(self, module: nn.MultiheadAttention, query: Value, key: Value, value: Value) -> Value:
        bias, fused = self._own(module, "in_proj_bias"), self._own(module, "in_proj_weight")
        sources = [source if source is not None else query for source in (query, key, value)]
        if fused is not None and all(source is query for source in sources):
            pieces = self._call(
                aten.chunk.default, self._call(aten.linear.default, query, fused, bias), 3, -1
            )
            projected = [self._call(operator.getitem, pieces, i) for i in range(3)]
        else:
            weights = [fused or self._own(module, f"{name}_proj_weight") for name in "qkv"]
            pairs = zip(sources, weights, strict=True)
            projected = [self._call(aten.linear.default, source, weight, bias) for source, weight in pairs]
        attended = self._call(aten.scaled_dot_product_attention.default, *projected)
        self.path = f"{self.path}.out_proj"
        output = module.out_proj
        return self._call(
            aten.linear.default, attended, *(self._own(output, n) for n in ("weight", "bias"))
        ), None


def _ordered(args: list[Value], kwargs: dict[str, Value], *names: str) -> list[Value]:
    """Positional and keyword arguments in the order of `names`."""
    return [*args, *(kwargs.get(name) for name in names[len(args) :])][: len(names)]
