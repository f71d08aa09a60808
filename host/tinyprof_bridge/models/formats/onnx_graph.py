"""Finds the weights of a llama in an ONNX graph by what the graph does with them while it runs on a prompt.

Exporters keep few names of tensors, and each writes norms, RoPE and attention differently. What does not change is how
matrix products follow one another. So each value carries, besides its numbers, its sources: the products and looked-up
tables whose results reach it without another product in between."""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Sources = frozenset[str]

INSTEAD = "give the Hugging Face folder that it was exported from"
SECONDS = 120  # limit; a prompt takes far less
ROOM = 8 << 20  # bytes of intermediate values, in addition to the bytes of the weights
WIDENING = {"Add", "Sub", "Mul", "Div", "Pow", "Where", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"}
WIDENING |= {"And", "Or", "Min", "Max", "Mod"}
# Operators that are allowed: none runs a subgraph, and _values predicts the size of each result.
KNOWN = WIDENING | {
    *("Abs", "Attention", "Cast", "CastLike", "Clip", "Concat", "Constant", "ConstantOfShape", "Cos", "CumSum", "Exp"),
    *(
        "Expand",
        "Flatten",
        "Gather",
        "GatherND",
        "Gemm",
        "Identity",
        "IsNaN",
        "MatMul",
        "Neg",
        "Not",
        "RMSNormalization",
        "Range",
    ),
    *("Reciprocal", "ReduceMean", "Reshape", "RotaryEmbedding", "Shape", "Sigmoid", "Sin", "Size", "Slice", "Softmax"),
    *("Split", "Sqrt", "Squeeze", "Swish", "Tile", "Transpose", "Trilu", "Unsqueeze"),
}


class NoLlama(Exception):
    """The graph is not a llama. The message is one line with the reason."""


@dataclass(frozen=True)
class Value:
    """Value in the graph.

    data: its numbers.
    sources: names of the products and tables that it is made of.
    constant: whether it depends on weights only, not on the prompt."""

    data: Array
    sources: Sources = frozenset()
    constant: bool = False


@dataclass(frozen=True)
class Product:
    """Product of a value with a weight matrix.

    name: as it appears in sources.
    inputs: the sources of the value.
    weights: (outputs, inputs).
    out: result, kept only for the first three products."""

    name: str
    inputs: Sources
    weights: Array
    out: Array | None


@dataclass
class Trace:
    """What happened while the graph ran.

    gathered: embeddings and other tables that were looked up, by name.
    products: in the order in which they ran.
    norms: vectors that a value was multiplied with, by the value's sources.
    eps: constants that were added, by the sources of the sum.
    pairs: sources of two values that were multiplied as matrices, as in attention.
    queries: the first layer's queries as attention gets them, after RoPE.
    gates: sources of the values that went through a sigmoid.
    outputs: of the graph."""

    gathered: dict[str, Array] = field(default_factory=dict)
    products: list[Product] = field(default_factory=list)
    norms: dict[Sources, list[Array]] = field(default_factory=lambda: defaultdict(list))
    eps: dict[Sources, set[float]] = field(default_factory=lambda: defaultdict(set))
    pairs: list[tuple[Sources, Sources]] = field(default_factory=list)
    queries: Array | None = None
    gates: set[Sources] = field(default_factory=set)
    outputs: list[Value] = field(default_factory=list)

    @property
    def embedding(self) -> str:
        """Name of the embedding: the only source of the first product."""
        return next(iter(self.products[0].inputs))

    def own(self, sources: Sources) -> Sources:
        """Returns the sources without tables other than the embedding, such as those of RoPE."""
        if not self.products:
            return sources
        return frozenset(s for s in sources if s not in self.gathered or s == self.embedding)


def check(nodes: Any) -> None:
    """Raises NoLlama if a node must not run. Call it before making an evaluator.

    nodes: of the graph."""
    for node in nodes:
        if node.op_type in ("Erf", "Gelu", "Tanh"):
            raise NoLlama(f"it has GELU, but a llama has SiLU; {INSTEAD}")
        if node.domain not in ("", "ai.onnx") or node.op_type not in KNOWN:
            name = f"{node.domain or 'ai.onnx'}.{node.op_type}"[:64]
            raise NoLlama(f"operator {name} is not supported; export the model without optimizing or quantizing it")
        for attribute in node.attribute:
            if attribute.t.data_location or attribute.type in (5, 9, 10, 11, 12):
                raise NoLlama(f"attribute {attribute.name[:64]!r} of {node.op_type} is not supported; {INSTEAD}")


def run(evaluator: Any, constants: dict[str, Array], inputs: dict[str, Array]) -> Trace:
    """Returns what happened while the graph ran.

    evaluator: onnx's ReferenceEvaluator of the graph.
    constants: the graph's weights by name.
    inputs: the graph's inputs by name.
    Raises NoLlama if the graph is not a llama, or exceeds the limits of time and memory. Its operators may raise any
    exception."""
    nodes, wanted = evaluator.nodes_, evaluator.output_names
    values = {name: Value(data, constant=True) for name, data in constants.items()}
    values |= {name: Value(data) for name, data in inputs.items()}
    limit = sum(data.nbytes for data in constants.values()) + ROOM
    uses = Counter(name for node in nodes for name in node.input) + Counter(wanted)
    held: dict[str, int] = {}
    trace = Trace()
    end = time.monotonic() + SECONDS
    for node, operator in zip(nodes, evaluator.rt_nodes_, strict=True):
        if time.monotonic() > end:
            raise NoLlama(f"its graph runs for more than {SECONDS} s; {INSTEAD}")
        given = [values[name] if name else None for name in node.input]
        data = [value.data if value else None for value in given]
        if 8 * _values(node, data) + sum(held.values()) > limit:
            raise NoLlama(f"{node.op_type} needs more memory than the model's weights; {INSTEAD}")
        out = [np.asarray(x) for x in operator.run(*data)]
        there = [value for value in given if value]
        constant = all(value.constant for value in there)
        sources = _seen(trace, node, there, out)
        for name, array in zip(node.output, out, strict=False):
            values[name] = Value(array, sources, constant)
            held[name] = 0 if constant and array.base is not None else array.nbytes
        for name in node.input:
            uses[name] -= 1
            if not uses[name] and name not in constants:
                values.pop(name, None)
                held.pop(name, None)
    trace.outputs = [values[name] for name in wanted]
    return trace


def _values(node: Any, data: list[Array | None]) -> int:
    """The number of values that an operator will return, at most."""
    arrays = [x for x in data if x is not None]
    shapes: list[tuple[int, ...]] = [x.shape for x in arrays]
    most = max((x.size for x in arrays), default=0)
    if node.op_type in WIDENING:
        return prod(np.broadcast_shapes(*shapes))
    match node.op_type:
        case "MatMul":
            a, b = ((1, *s) if len(s) == 1 else s for s in shapes)
            return prod(np.broadcast_shapes(a[:-2], b[:-2])) * a[-2] * b[-1]
        case "Gemm":
            return max(shapes[0]) * max(shapes[1])
        case "Attention":
            return prod(shapes[0]) * max(shapes[1])
        case "ConstantOfShape":
            return prod(map(int, arrays[0]))
        case "Expand":
            return prod(np.broadcast_shapes(shapes[0], tuple(map(int, arrays[1]))))
        case "Tile":
            return most * prod(map(int, arrays[1]))
        case "Range":
            first, end, step = (float(x) for x in arrays)
            return int(abs(end - first) / abs(step)) + 1
        case "Gather":
            return max(prod(shapes[0][1:]), most // min(shapes[0], default=1)) * prod(shapes[1])
        case "GatherND":
            return prod(shapes[1][:-1]) * prod(shapes[0][shapes[1][-1] :])
        case "Concat":
            return sum(x.size for x in arrays)
        case _:
            return most


def _seen(trace: Trace, node: Any, given: list[Value], out: list[Array]) -> Sources:
    """Records in `trace` what an operator did. Returns the sources of its results."""
    sources = frozenset().union(*(value.sources for value in given))
    own, first = trace.own(sources), given[0] if given else None
    constants = [value.data for value in given if value.constant and value.data.dtype.kind == "f"]
    match node.op_type:
        case "Shape" | "Size" | "ConstantOfShape":
            return frozenset()
        case "Gather" if first and first.constant and constants and first.data.ndim == 2 and not given[1].constant:
            name = f"table {len(trace.gathered)}"
            trace.gathered[name] = first.data
            return frozenset({name})
        case "MatMul" | "Gemm" if sources and given[1].constant and given[1].data.ndim == 2:
            return frozenset({_product(trace, node, given, out[0])})
        case "MatMul" if given[0].sources and given[1].sources:
            _pair(trace, given[0], given[1])
        case "Attention":
            queries = given[0].data
            if queries.ndim == 3:
                heads = next(a.i for a in node.attribute if a.name == "q_num_heads")
                queries = queries.reshape(*queries.shape[:2], heads, -1).swapaxes(1, 2)
            _pair(trace, Value(queries, given[0].sources), given[1])
            trace.pairs.append((own, trace.own(given[2].sources)))
        case "Sigmoid" | "Swish":
            trace.gates.add(own)
        case "RMSNormalization":
            trace.eps[own].add(next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5))
            trace.norms[own] += constants
        case "Mul" if constants and constants[0].size > 1:
            trace.norms[own] += constants
        case "Add" if constants and constants[0].size == 1:
            trace.eps[own].add(float(constants[0].item()))
        case "Add" if constants and len(own) == 1:
            product = next((p for p in trace.products if p.name in own), None)
            if product and constants[0].size == len(product.weights):
                raise NoLlama(f"a product has biases; {INSTEAD}")
    return sources


def _product(trace: Trace, node: Any, given: list[Value], out: Array) -> str:
    attributes = {a.name: a for a in node.attribute}
    if len(given) > 2:
        raise NoLlama(f"a product has biases; {INSTEAD}")
    if any(attributes[name].f != 1 for name in ("alpha", "beta") if name in attributes):
        raise NoLlama(f"a product is scaled; {INSTEAD}")
    inputs, weights = given[0].sources, given[1].data
    if not (node.op_type == "Gemm" and "transB" in attributes and attributes["transB"].i):
        weights = weights.T
    if not trace.products and (len(inputs) != 1 or not inputs <= trace.gathered.keys()):
        raise NoLlama(f"its first product does not follow an embedding; {INSTEAD}")
    name = f"product {len(trace.products)}"
    # only the result of the first layer's query projection is needed, which is one of the first three products
    trace.products.append(Product(name, trace.own(inputs), weights, out if len(trace.products) < 3 else None))
    return name


def _pair(trace: Trace, a: Value, b: Value) -> None:
    trace.pairs.append((trace.own(a.sources), trace.own(b.sources)))
    if trace.queries is None:
        trace.queries = a.data


@dataclass(frozen=True)
class Llama:
    """Llama found in a graph.

    tensors: by GGUF name.
    eps: epsilon of RMSNorm; None if the graph does not contain it.
    before: the first layer's queries before RoPE.
    after: the same after RoPE.
    logits: of the prompt's tokens."""

    tensors: dict[str, Array]
    eps: float | None
    before: Array
    after: Array
    logits: Array


def recognise(trace: Trace) -> Llama:
    """Returns the llama that a graph computed. Raises NoLlama if the products do not follow one another as in a llama.

    Starts at the embedding. The residual stream's sources grow by one product for each attention and feed-forward part,
    and the products that read the same sources belong together."""
    if not trace.products:
        raise NoLlama(f"it has no products with weights; {INSTEAD}")
    groups: dict[Sources, list[Product]] = {}
    for product in trace.products:
        groups.setdefault(product.inputs, []).append(product)
    stream = frozenset({trace.embedding})
    found = {"token_embd.weight": trace.gathered[trace.embedding]}
    eps: set[float] = set()
    before: Array | None = None

    def take(inputs: Sources, count: int) -> list[Product]:
        group = groups.pop(inputs, [])
        if len(group) != count:
            raise NoLlama(
                f"layer {layer} has {len(group)} products, a llama has {count} there (fused projections?); {INSTEAD}"
            )
        return group

    def norm(name: str) -> None:
        weights = [w for w in trace.norms[stream] if w.size == found["token_embd.weight"].shape[1]]
        if len(weights) != 1:
            raise NoLlama(f"{name} was not found: {len(weights)} vectors are multiplied there; {INSTEAD}")
        found[f"{name}.weight"] = weights[0].reshape(-1)
        eps.update(trace.eps[stream])

    layer = 0
    while len(groups.get(stream, [])) != 1:
        block = f"blk.{layer}."
        norm(f"{block}attn_norm")
        named = {p.name: p for p in take(stream, 3)}
        pair = next(((a, b) for a, b in trace.pairs if a != b and a | b < named.keys() and len(a) == len(b) == 1), None)
        if pair is None:
            raise NoLlama(f"the queries and keys of layer {layer} were not found; {INSTEAD}")
        (q,), (k,) = pair
        (v,) = named.keys() - {q, k}
        (o,) = take(frozenset(named), 1)
        stream |= {o.name}
        norm(f"{block}ffn_norm")
        two = take(stream, 2)
        gates = [p for p in two if frozenset({p.name}) in trace.gates]
        if len(gates) != 1:
            raise NoLlama(f"the feed-forward part of layer {layer} is not gated by SiLU; {INSTEAD}")
        (up,) = (p for p in two if p is not gates[0])
        (down,) = take(frozenset(p.name for p in two), 1)
        stream |= {down.name}
        before = named[q].out if before is None else before
        parts = {"attn_q": named[q], "attn_k": named[k], "attn_v": named[v], "attn_output": o}
        parts |= {"ffn_gate": gates[0], "ffn_down": down, "ffn_up": up}
        found |= {f"{block}{name}.weight": product.weights for name, product in parts.items()}
        layer += 1
    norm("output_norm")
    (output,) = take(stream, 1)
    found["output.weight"] = output.weights
    if groups or before is None or trace.queries is None:
        raise NoLlama(f"it has products that a llama does not have; {INSTEAD}")
    logits = [out.data for out in trace.outputs if out.sources == {output.name}]
    if len(logits) != 1:
        raise NoLlama(f"its outputs do not contain the logits; {INSTEAD}")
    if len(eps) > 1:
        raise NoLlama(f"its norms differ in epsilon, {min(eps)} and {max(eps)}; {INSTEAD}")
    return Llama(found, next(iter(eps), None), before, trace.queries, logits[0])
