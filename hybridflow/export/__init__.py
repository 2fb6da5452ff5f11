"""Export of fitted estimators to files that onnxruntime answers from, without torch."""

from __future__ import annotations

from hybridflow.export.writing import Export, to_onnx

__all__ = ["Export", "to_onnx"]
