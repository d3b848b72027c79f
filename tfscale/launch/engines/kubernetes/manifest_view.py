"""A manifest and what Kubernetes makes of it, for the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfscale.launch.engines.kubernetes.controllers import Document, Pod, job_set_of, pods_of


@dataclass(frozen=True)
class View:
    """A manifest, and what Kubernetes makes of it.

    Attributes:
        documents: The documents.
        kinds: The documents by their kind.
        pods: The pods of the first start.
        later: The pods of the second start.
        spec: The specification of the JobSet; empty for an Indexed Job.
        grace_seconds: Seconds that the workers were promised to save in.
    """

    documents: Sequence[Document]
    kinds: Mapping[str, Document]
    pods: tuple[Pod, ...]
    later: tuple[Pod, ...]
    spec: Document
    grace_seconds: float

    @property
    def job_specs(self) -> dict[str, Document]:
        """The specification of the Job of each role."""
        return {pod.role: pod.job_spec for pod in self.pods}

    @property
    def training(self) -> tuple[str, ...]:
        """The roles whose end is the end of the job."""
        if not self.spec:
            return tuple(self.job_specs)
        targets = self.spec.get("successPolicy", {}).get("targetReplicatedJobs", [])
        return tuple(role for role in self.job_specs if role in targets or not targets)


def view_of(documents: Sequence[Document], grace_seconds: float) -> View:
    """Returns what there is to see in the manifest of one job."""
    kinds = {document["kind"]: document for document in documents}
    return View(
        documents=documents,
        kinds=kinds,
        pods=pods_of(documents),
        later=pods_of(documents, restart=1),
        spec={} if "Job" in kinds else job_set_of(documents)["spec"],
        grace_seconds=grace_seconds,
    )
