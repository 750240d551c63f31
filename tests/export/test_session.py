"""What ONNX Runtime cannot run is one error, and nothing is printed beside it."""

import pytest
from onnx import TensorProto, helper

from heimdall_jax.errors import ExportError
from heimdall_jax.export.session import open_session


def test_an_operator_whose_name_is_no_text_is_one_error(capfd: pytest.CaptureFixture[str]) -> None:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Oper", ["x"], ["y"])], "one", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10).SerializeToString()
    with pytest.raises(ExportError, match=r"ONNX Runtime: got .*; allowed: a model it can run"):
        open_session(model.replace(b"Oper", b"\xff\xfe\xff\xfe"))
    assert capfd.readouterr() == ("", "")
