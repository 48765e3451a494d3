"""Made-up results of a comparison, of which a test names what it is about."""

from __future__ import annotations

from typing import Any

from stages.lib.comparison.results import Comparison, ModelResult


def model_result(**known: Any) -> ModelResult:
    """The result of a model that is better than the class prior; everything else is empty."""
    nothing: dict[str, Any] = {
        "parameters": None,
        "trainable_parameters": None,
        "weights_mib": None,
        "flops_m": None,
        "head_width": None,
        "beats_prior": True,
        "mean_below_prior": True,
        "contrast": None,
        "single": None,
        "failed_seeds": [],
        "sensor_use": None,
        "curves": {},
        "robustness": {},
        "failures": {},
        "calibration": None,
        "confusion": [],
        "verdict": "",
    }
    return ModelResult(**nothing | known)


def comparison(**known: Any) -> Comparison:
    """A comparison of these models; everything that was not named is empty or usual."""
    usual: dict[str, Any] = {
        "split": "test",
        "confidence": 0.95,
        "margin": 0.03,
        "classes": ["cubes", "spheres"],
        "rarest_class": "cubes",
        "corrupted_groups": 0,
        "sensor_dropout": 0.0,
        "last_epoch_best": {},
        "pairs": [],
        "label_checks": {},
        "label_errors": [],
    }
    return Comparison(**usual | known)
