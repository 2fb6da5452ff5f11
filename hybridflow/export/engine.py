"""From a module to an ONNX file, and the runtime that reads it: the one user of both."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hybridflow import __version__
from hybridflow.errors import ExportError, require
from hybridflow.export.columns import Input
from hybridflow.export.splines import spline_nodes, spline_rows

OPSET = 20
BATCH, ROWS = "batch", "rows"
_ML = "ai.onnx.ml"


def check_installed() -> None:
    """Raise MissingExtraError unless all that an export needs is installed."""
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, "onnx")


def traced(
    module: nn.Module,
    arguments: tuple[Any, ...],
    dynamic: tuple[Any, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Any:
    """Return the ONNX model of a module, without names, paths and traces of its source.

    Parameters
    ----------
    module : Module
    arguments : tuple
        An example; tensors of two rows or more.
    dynamic : tuple
        As ``torch.onnx.export`` takes its dynamic shapes.
    inputs, outputs : sequence of str

    Raises
    ------
    ExportError
        If an operation has no counterpart in ONNX.
    """
    from onnx import helper

    def scalar(
        s: float, dtype: int = -1, layout: str = "", device: str = "", pin_memory: bool = False
    ) -> Any:
        # The exporter's own writes every number as float32.
        from onnxscript import opset20

        return opset20.Constant(
            value=helper.make_tensor("number", dtype if dtype != -1 else 1, [], [float(s)])
        )

    def splines(x: Any, params: Any, adding: Any, even: Any, box: Any, inverse: bool) -> Any:
        from onnxscript import opset20

        return spline_nodes(opset20, x, params, adding, even, box, inverse)

    try:
        with _quiet(), torch.no_grad():
            # By hand: the exporter would try again with a fixed number of rows.
            captured = torch.export.export(module, arguments, dynamic_shapes=dynamic, strict=False)
            program = torch.onnx.export(
                captured,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=dynamic,
                input_names=list(inputs),
                output_names=list(outputs),
                verbose=False,
                # The runtime simplifies the graph in a hundredth of the exporter's time.
                optimize=False,
                custom_translation_table={
                    torch.ops.aten.scalar_tensor.default: scalar,
                    spline_rows._opoverload: splines,
                },
            )
            assert program is not None
            proto = program.model_proto
    except ExportError:
        raise
    except Exception as error:  # the exporter raises errors of its own and of all it calls
        raise ExportError(f"{_cause(error)}") from error
    _strip(proto.graph)
    del proto.functions[:]
    proto.producer_name, proto.producer_version = "hybridflow", ""
    del proto.metadata_props[:]
    return proto


def _cause(error: BaseException) -> str:
    """Return what first went wrong, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings and messages off the screen."""
    names = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _strip(graph: Any) -> None:
    """Remove what tells where the source lay."""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for value in (*graph.input, *graph.output, *graph.initializer):
        del value.metadata_props[:]
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip(attribute.g)


def read_text(proto: Any, inputs: Sequence[Input]) -> None:
    """Turn the inputs that hold codes of text into inputs of text."""
    from onnx import TensorProto, helper

    graph, nodes = proto.graph, []
    for column, value in zip(inputs, list(graph.input), strict=False):
        if column.kind != "text":
            continue
        codes = f"{value.name}/codes"
        _rename_uses(graph, value.name, codes)
        value.type.tensor_type.elem_type = TensorProto.STRING
        nodes.append(
            helper.make_node(
                "LabelEncoder",
                [value.name],
                [codes],
                domain=_ML,
                keys_strings=list(column.codes),
                values_int64s=list(column.codes.values()),
                default_int64=column.unseen,
            )
        )
    _put_first(proto, nodes)


def find_rows(proto: Any, inputs: Sequence[str]) -> None:
    """Replace the input of row numbers by the rows in which a number is missing."""
    from onnx import TensorProto, helper

    graph = proto.graph
    (place,) = [i for i, value in enumerate(graph.input) if value.name == ROWS]
    del graph.input[place]
    nodes, gone = [], []
    for name in inputs:
        nodes.append(helper.make_node("IsNaN", [name], [f"{name}/gone"]))
        gone.append(f"{name}/gone")
    while len(gone) > 1:  # pairwise, so that the chain is short
        pairs, rest = list(zip(gone[::2], gone[1::2], strict=False)), gone[len(gone) // 2 * 2 :]
        gone = []
        for one, other in pairs:
            both = f"{one}|{len(nodes)}"
            nodes.append(helper.make_node("Or", [one, other], [both]))
            gone.append(both)
        gone += rest
    nodes.append(helper.make_node("NonZero", gone, ["rows/found"]))
    axis = helper.make_tensor("rows/axis", TensorProto.INT64, [1], [0])
    nodes.append(helper.make_node("Constant", [], ["rows/axis"], value=axis))
    nodes.append(helper.make_node("Squeeze", ["rows/found", "rows/axis"], [ROWS]))
    _put_first(proto, nodes)


def name_classes(proto: Any, output: str, classes: Sequence[Any]) -> None:
    """Turn an output of codes into one of classes."""
    from onnx import TensorProto, helper

    graph = proto.graph
    (value,) = [value for value in graph.output if value.name == output]
    codes = f"{output}/codes"
    for node in graph.node:
        for k, name in enumerate(node.output):
            if name == output:
                node.output[k] = codes
        for k, name in enumerate(node.input):
            if name == output:
                node.input[k] = codes
    if all(isinstance(label, bool) for label in classes):
        kind, table = TensorProto.BOOL, list(classes)
    elif all(isinstance(label, int) for label in classes):
        kind, table = TensorProto.INT64, list(classes)
    elif all(isinstance(label, int | float) for label in classes):
        kind, table = TensorProto.DOUBLE, list(classes)
    else:
        kind, table = TensorProto.STRING, [str(label).encode() for label in classes]
    graph.initializer.append(helper.make_tensor(f"{output}/classes", kind, [len(table)], table))
    graph.node.append(helper.make_node("Gather", [f"{output}/classes", codes], [output]))
    value.type.tensor_type.elem_type = kind


def _rename_uses(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        for k, name in enumerate(node.input):
            if name == old:
                node.input[k] = new
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_uses(attribute.g, old, new)


def _put_first(proto: Any, nodes: Sequence[Any]) -> None:
    from onnx import helper

    rest = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*nodes, *rest])
    domains = {found.domain for found in proto.opset_import}
    if any(node.domain == _ML for node in nodes) and _ML not in domains:
        proto.opset_import.append(helper.make_opsetid(_ML, 3))


def finished(proto: Any, metadata: Mapping[str, str]) -> bytes:
    """Return a simplified, checked model with its metadata as the bytes of a file.

    Constants are folded and what does nothing is left out, by the runtime; all
    operations are those of the standard.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = os.path.join(folder, "simplified.onnx")
        _session(proto.SerializeToString(), options)
        simplified = onnx.load(options.optimized_model_filepath)
    _strip(simplified.graph)
    used = {node.domain for node in simplified.graph.node}
    kept = [found for found in simplified.opset_import if found.domain in {"", *used}]
    del simplified.opset_import[:]
    simplified.opset_import.extend(kept)
    simplified.ir_version = proto.ir_version
    simplified.producer_name, simplified.producer_version = "hybridflow", __version__
    simplified.graph.name = "hybridflow"
    del simplified.metadata_props[:]
    for key, value in metadata.items():
        entry = simplified.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(simplified, full_check=True)
    data: bytes = simplified.SerializeToString(deterministic=True)
    return data


def _session(model: bytes, options: Any) -> Any:
    """Return a session of the runtime.

    Raises
    ------
    ExportError
        If the runtime has no kernel for an operation.
    """
    import onnxruntime

    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own errors have no common base class
        raise ExportError(f"onnxruntime: {_cause(error)}") from error


class Session:
    """An ONNX model in the runtime, on one thread.

    Parameters
    ----------
    model : bytes

    Raises
    ------
    ExportError
        If the runtime has no kernel for an operation.
    """

    def __init__(self, model: bytes) -> None:
        import onnxruntime

        self._session = _session(model, onnxruntime.SessionOptions())
        self.outputs = [output.name for output in self._session.get_outputs()]
        self.inputs = [value.name for value in self._session.get_inputs()]

    def run(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name."""
        found = self._session.run(None, dict(columns))
        return {name: np.asarray(value) for name, value in zip(self.outputs, found, strict=True)}
