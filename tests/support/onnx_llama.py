"""A llama as a graph of ONNX, built without PyTorch."""

import numpy as np
from gguf import GGUFReader
from onnx import TensorProto, external_data_helper, helper, numpy_helper, save


class Graph:
    def __init__(self):
        self.nodes, self.constants = [], {}

    def __call__(self, op, *inputs, outputs=1, **attributes):
        """Adds a node; numbers among the inputs become constants. Returns the names of what it makes."""
        names = [self.constant(x) if isinstance(x, np.ndarray) else x for x in inputs]
        out = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, names, out, **attributes))
        return out[0] if outputs == 1 else out

    def constant(self, data):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.array(data, order="C")
        return name


def ints(*values):
    return np.array(values, np.int64)


def build(source, *, halves=True, gemm=False, heads=4, kv_heads=2, eps=1e-5, base=1e4, scale=1.0, length="length",
          dtype=np.float32, **changes):  # fmt: skip
    """The graph of the model in a GGUF file. changes: tensors by their names there that are others."""
    weights = {t.name.removesuffix(".weight"): np.array(t.data) for t in GGUFReader(source).tensors} | changes
    weights = {name: data.astype(dtype) for name, data in weights.items()}
    dim = weights["token_embd"].shape[1]
    size = dim // heads
    g = Graph()
    positions = np.arange(64)[:, None] * base ** (-np.arange(size // 2) * 2 / size) / scale
    last = g("Gather", g("Shape", "input_ids"), np.array(1), axis=0)
    steps = g("Range", np.array(0), last, np.array(1))
    tables = [g("Gather", table.astype(dtype), steps) for table in (np.cos(positions), np.sin(positions))]

    def product(x, name):
        w = weights[name]
        if not gemm:
            return g("MatMul", x, w.T)
        flat = g("Gemm", g("Reshape", x, ints(-1, w.shape[1])), w, transB=1)
        return g("Reshape", flat, ints(1, -1, len(w)))

    def norm(x, name):
        mean = g("ReduceMean", g("Mul", x, x), axes=[-1], keepdims=1)
        root = g("Sqrt", g("Add", mean, np.array(eps, dtype)))
        return g("Mul", g("Div", x, root), weights[name])

    def split(x, n):
        return g("Transpose", g("Reshape", x, ints(1, -1, n, size)), perm=[0, 2, 1, 3])

    def ordered(name, n):
        """Rows of queries or keys in the order that RoPE wants here."""
        if halves:
            w = weights[name]
            weights[name] = w.reshape(n, -1, 2, dim).swapaxes(1, 2).reshape(w.shape)

    def rope(x):
        cos, sin = tables
        if halves:
            a, b = g("Split", x, ints(size // 2, size // 2), axis=-1, outputs=2)
            parts = turned(a, b, cos, sin)
            return g("Concat", *parts, axis=-1)
        pairs = g("Reshape", x, ints(0, 0, 0, size // 2, 2))
        a, b = (g("Gather", pairs, np.array(i), axis=-1) for i in (0, 1))
        parts = [g("Unsqueeze", part, ints(-1)) for part in turned(a, b, cos, sin)]
        return g("Reshape", g("Concat", *parts, axis=-1), ints(0, 0, 0, size))

    def turned(a, b, cos, sin):
        return (
            g("Sub", g("Mul", a, cos), g("Mul", b, sin)),
            g("Add", g("Mul", a, sin), g("Mul", b, cos)),
        )

    def shared(x):
        """Keys or values for all heads."""
        wide = g("Tile", g("Unsqueeze", x, ints(2)), ints(1, 1, heads // kv_heads, 1, 1))
        return g("Reshape", wide, ints(1, heads, -1, size))

    square = g("Concat", *[g("Unsqueeze", last, ints(0))] * 2, axis=0)
    far = helper.make_tensor("far", TensorProto.FLOAT16 if dtype == np.float16 else TensorProto.FLOAT, [1], [-1e4])
    mask = g("Trilu", g("ConstantOfShape", square, value=far), np.array(1), upper=1)
    x = g("Gather", weights["token_embd"], "input_ids")
    for i in range(sum(name.endswith("attn_q") for name in weights)):
        block = f"blk.{i}."
        h = norm(x, block + "attn_norm")
        ordered(block + "attn_q", heads)
        ordered(block + "attn_k", kv_heads)
        q = rope(split(product(h, block + "attn_q"), heads))
        k = shared(rope(split(product(h, block + "attn_k"), kv_heads)))
        v = shared(split(product(h, block + "attn_v"), kv_heads))
        scores = g("MatMul", q, g("Transpose", k, perm=[0, 1, 3, 2]))
        scores = g("Add", g("Mul", scores, np.array(size**-0.5, dtype)), mask)
        mixed = g("Transpose", g("MatMul", g("Softmax", scores), v), perm=[0, 2, 1, 3])
        x = g("Add", x, product(g("Reshape", mixed, ints(1, -1, dim)), block + "attn_output"))
        h = norm(x, block + "ffn_norm")
        gate, up = (product(h, f"{block}ffn_{name}") for name in ("gate", "up"))
        x = g("Add", x, product(g("Mul", g("Mul", gate, g("Sigmoid", gate)), up), block + "ffn_down"))
    weights.setdefault("output", weights["token_embd"])
    logits = product(norm(x, "output_norm"), "output")
    kind = TensorProto.FLOAT16 if dtype == np.float16 else TensorProto.FLOAT
    graph = helper.make_graph(
        g.nodes,
        "llama",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, length])],
        [helper.make_tensor_value_info(logits, kind, [1, length, len(weights["output"])])],
        [numpy_helper.from_array(data, name) for name, data in g.constants.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def write(path, model, external=False):
    if external:
        external_data_helper.convert_model_to_external_data(model, location=path.name + ".data", size_threshold=256)
    save(model, path)
    return path
