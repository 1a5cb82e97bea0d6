"""Gradient-boosted trees of scikit-learn written out as one ONNX operator, without a converter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, save


def export(models: Sequence[Any], features: int, path: Path) -> None:
    """Write fitted HistGradientBoostingClassifiers (two classes): features (n, k) -> probability (n, 1).

    Of several models the log-odds are averaged: one forest of all their trees. Thresholds go to float32
    rounded down, so that a float32 input falls on the side where float64 put it.
    """
    nodes: dict[str, list[Any]] = {
        name: []
        for name in (
            "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values",
            "nodes_truenodeids",
            "nodes_falsenodeids", "target_treeids", "target_nodeids", "target_ids", "target_weights",
        )
    }  # fmt: skip
    predictors = [predictor for model in models for (predictor,) in model._predictors]  # noqa: SLF001  the one way
    for tree, predictor in enumerate(predictors):
        for number, node in enumerate(predictor.nodes):
            leaf = bool(node["is_leaf"])
            nodes["nodes_treeids"].append(tree)
            nodes["nodes_nodeids"].append(number)
            nodes["nodes_featureids"].append(0 if leaf else int(node["feature_idx"]))
            nodes["nodes_modes"].append("LEAF" if leaf else "BRANCH_LEQ")
            nodes["nodes_values"].append(0.0 if leaf else _down(float(node["num_threshold"])))
            nodes["nodes_truenodeids"].append(0 if leaf else int(node["left"]))
            nodes["nodes_falsenodeids"].append(0 if leaf else int(node["right"]))
            if leaf:
                nodes["target_treeids"].append(tree)
                nodes["target_nodeids"].append(number)
                nodes["target_ids"].append(0)
                nodes["target_weights"].append(float(node["value"]) / len(models))
    base = float(np.mean([np.ravel(model._baseline_prediction)[0] for model in models]))  # noqa: SLF001
    forest = helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["sum"],
        domain="ai.onnx.ml",
        n_targets=1,
        base_values=[base],
        **nodes,
    )
    graph = helper.make_graph(
        [forest, helper.make_node("Sigmoid", ["sum"], ["probability"])],
        "scorer",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, features])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))


def _down(value: float) -> float:
    single = np.float32(value)
    return float(np.nextafter(single, np.float32(-np.inf)) if single > value else single)
