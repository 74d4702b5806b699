"""Pipelines: named steps over models and templates, read from YAML or JSON and run one after the other."""

from realm_reference.pipelines.definition import Pipeline, Sampling, Step
from realm_reference.pipelines.document import PipelineError, Problem
from realm_reference.pipelines.library import load_folder
from realm_reference.pipelines.reading import parse_pipeline, read_pipeline
from realm_reference.pipelines.running import (
    BadInput,
    Generate,
    PipelineFailed,
    Result,
    StepFailed,
    StepResult,
    Usage,
    fields_of,
    run_pipeline,
)

__all__ = [
    "BadInput",
    "Generate",
    "Pipeline",
    "PipelineError",
    "PipelineFailed",
    "Problem",
    "Result",
    "Sampling",
    "Step",
    "StepFailed",
    "StepResult",
    "Usage",
    "fields_of",
    "load_folder",
    "parse_pipeline",
    "read_pipeline",
    "run_pipeline",
]
