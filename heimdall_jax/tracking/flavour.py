"""A model as the folder that MLflow loads."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def save_onnx_flavour(onnx_path: Path, manifest: Mapping[str, Any], folder: Path, run_id: str, model_id: str) -> None:
    """Write a model as a folder that MLflow loads as `onnx` and as `pyfunc`, its manifest in `extra_files`."""
    import onnx

    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as aside:
        # About a type of MLflow's own, shown to the user.
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
        from mlflow.models import Model, ModelSignature
        from mlflow.onnx import save_model

        manifest_path = Path(aside) / "manifest.json"
        manifest_path.write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        save_model(
            onnx.load(onnx_path, load_external_data=False),
            folder,
            mlflow_model=Model(run_id=run_id, model_id=model_id),
            signature=ModelSignature(inputs=_schema(manifest["inputs"]), outputs=_schema(manifest["outputs"])),
            pip_requirements=["onnxruntime", "numpy"],
            onnx_execution_providers=["CPUExecutionProvider"],
            save_as_external_data=False,
            extra_files=[str(manifest_path)],
        )


def _schema(tensors: Sequence[Mapping[str, Any]]) -> Any:
    """MLflow's schema of a manifest's inputs or outputs; optional inputs stay out, for MLflow has no such thing."""
    from mlflow.types import Schema, TensorSpec
    from numpy import dtype

    return Schema(
        [
            TensorSpec(
                dtype(tensor["dtype"]),
                [size if isinstance(size, int) else -1 for size in tensor["shape"]],
                tensor["name"],
            )
            for tensor in tensors
            if not tensor.get("optional", False)
        ]
    )
