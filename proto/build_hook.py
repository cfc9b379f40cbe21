"""Compiles the .proto files into Python before a wheel or an editable install is made.

The proto path, the proto package and the Python package path are the same, so
the generated code lies beside its source and no import is ever rewritten.
"""

from __future__ import annotations

import importlib.resources
import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProtoBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs the protobuf compiler over every file of this folder."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile all, or stop the build with the compiler's own message."""
        from grpc_tools import protoc

        proto_root = Path(self.root) / "proto"
        sources = sorted(str(path) for path in proto_root.rglob("*.proto"))
        well_known = str(importlib.resources.files("grpc_tools") / "_proto")
        # googleapis-common-protos ships google/api/*.proto beside its modules.
        annotation_module = importlib.util.find_spec("google.api.field_behavior_pb2")
        assert annotation_module is not None
        assert annotation_module.origin is not None
        annotations = str(Path(annotation_module.origin).parents[2])
        outputs = ("python", "grpc_python", "mypy", "mypy_grpc")
        status = protoc.main(
            [
                "protoc",
                f"-I{proto_root}",
                f"-I{well_known}",
                f"-I{annotations}",
                *(f"--{output}_out={proto_root}" for output in outputs),
                *sources,
            ]
        )
        if status != 0:
            raise RuntimeError(f"the protobuf compiler ended with status {status}")
