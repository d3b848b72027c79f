"""Program: checks manifests against the schemas of Kubernetes, JobSet and Kubeflow Trainer.

    .venv-engines/bin/python tests/engines/kubernetes/schemas.py MANIFEST.yaml ...

Prints a line for each fault, and nothing if there is none. It runs in the environment of `make
engines`, which has the schemas: kubernetes-validate those of Kubernetes, kubeflow-trainer-api the
models of TrainJob, TrainingRuntime and JobSet. The models drop a field that they do not know, so
what they keep is compared with what they were given. The pod templates inside are also checked by
the schema of a Job, which is stricter than the models.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from kubeflow_trainer_api import models

VERSIONS = ("1.29", "1.37")
"""Of Kubernetes: the oldest that the manifests need, and the newest that has a schema here."""
_MODELS = {
    "JobSet": models.JobsetV1alpha2JobSet,
    "TrainJob": models.TrainerV1alpha1TrainJob,
    "TrainingRuntime": models.TrainerV1alpha1TrainingRuntime,
}
_API_VERSIONS = {
    "JobSet": "jobset.x-k8s.io/v1alpha2",
    "TrainJob": "trainer.kubeflow.org/v1alpha1",
    "TrainingRuntime": "trainer.kubeflow.org/v1alpha1",
}


def faults(document: dict[str, Any]) -> Iterator[str]:
    """Yields what is wrong with a document."""
    kind = document["kind"]
    if kind not in _MODELS:
        yield from _kubernetes_faults(document)
        return
    if document["apiVersion"] != _API_VERSIONS[kind]:
        yield f"{kind}: apiVersion must be {_API_VERSIONS[kind]}, not {document['apiVersion']}"
    try:
        model = _MODELS[kind].from_dict(document)
        assert model is not None
    except ValueError as error:  # pydantic's error is one
        yield f"{kind}: {' '.join(str(error).split())}"
        return
    yield from _dropped(document, model.to_dict(), kind)
    spec = (
        document["spec"] if kind == "JobSet" else document["spec"].get("template", {}).get("spec")
    )
    for job in (spec or {}).get("replicatedJobs", []):
        template = job["template"]
        inside = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job["name"]}}
        if kind == "TrainingRuntime":
            for container in template["spec"]["template"]["spec"]["containers"]:
                assert "command" not in container  # it comes from the TrainJob
        yield from _kubernetes_faults({**inside, "spec": template["spec"]})


def _kubernetes_faults(document: dict[str, Any]) -> Iterator[str]:
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            place = ".".join(str(part) for part in error.path)
            yield f"{document['kind']} of Kubernetes {version}: {place}: {error.message}"


def _dropped(given: Any, kept: Any, place: str) -> Iterator[str]:
    """Yields each field that a model does not know or changes."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(kept, dict) or key not in kept:
                yield f"{place}.{key}: the model has no such field"
            else:
                yield from _dropped(value, kept[key], f"{place}.{key}")
    elif isinstance(given, list):
        for index, value in enumerate(given):
            if not isinstance(kept, list) or index >= len(kept):
                yield f"{place}[{index}]: the model drops it"
            else:
                yield from _dropped(value, kept[index], f"{place}[{index}]")
    elif given != kept and str(given) != str(kept):
        yield f"{place}: the model makes {kept!r} of {given!r}"


def main() -> int:
    """Prints the faults of all files. Returns 1 if there is one."""
    found = 0
    for path in sys.argv[1:]:
        for document in yaml.safe_load_all(Path(path).read_text("utf-8")):
            for fault in faults(document):
                found += 1
                print(f"{path}: {fault}")
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main())
