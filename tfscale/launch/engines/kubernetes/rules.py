"""What a manifest must fulfil besides its schema. Checked before each submission.

A schema knows that an address is text. It does not know that no pod has this name, and Kubernetes
runs such a job until its workers give up. Each rule has a name, and looks at the pods that the
controllers make of the manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from tfscale.launch.engines.kubernetes import address_rules, policy_rules
from tfscale.launch.engines.kubernetes.controllers import Document
from tfscale.launch.engines.kubernetes.manifest_view import View, view_of

RULES: Mapping[str, Callable[[View], Iterator[str]]] = {
    "names": address_rules.names,
    "same_name": address_rules.same_name,
    "indexed": address_rules.indexed,
    "resolution": address_rules.resolution,
    "variables": address_rules.variables,
    "cluster": address_rules.cluster,
    "trainer": policy_rules.trainer,
    "restart_count": policy_rules.restart_count,
    "restart_policy": policy_rules.restart_policy,
    "preemption": policy_rules.preemption,
    "restart_strategy": policy_rules.restart_strategy,
    "roles": policy_rules.roles,
    "grace": policy_rules.grace,
    "volumes": policy_rules.volumes,
    "resources": policy_rules.resources,
}
"""The rules by their names."""


def check_manifest(documents: Sequence[Document], grace_seconds: float) -> None:
    """Checks all rules.

    Args:
        documents: The manifest of one job.
        grace_seconds: Seconds that the workers were promised to save in.

    Raises:
        ValueError: If one is broken. Names the rule, the place and the cure.
    """
    broken = list(broken_rules(documents, grace_seconds))
    if broken:
        shown = "; ".join(f"{rule}: {text}" for rule, text in broken)
        raise ValueError(
            f"the manifest breaks {len(broken)} rule(s), nothing was submitted. {shown}"
        )


def broken_rules(documents: Sequence[Document], grace_seconds: float) -> Iterator[tuple[str, str]]:
    """Yields each broken rule: its name, and a sentence with place and cure."""
    view = view_of(documents, grace_seconds)
    for name, rule in RULES.items():
        for text in rule(view):
            yield name, text
