"""In which releases a symbol changed."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from tests.upstream_history.release import Release


@dataclass(frozen=True)
class History:
    """What happened to one symbol.

    Attributes:
        target: The symbol.
        since: The first release that has it; "" if none has.
        changed: The releases in which its source differs from the release before.
        signature_changed: Those of them in which its arguments or decorators differ too.
        missing: The releases after the first in which it was not found.
    """

    target: str
    since: str
    changed: tuple[str, ...]
    signature_changed: tuple[str, ...]
    missing: tuple[str, ...]


def history(target: str, releases: Sequence[Release]) -> History:
    """Follows a symbol through releases.

    The first release that has the symbol is no change, and a symbol that only moved has not
    changed. A symbol that comes back is compared with the release that had it last.

    Args:
        target: "package.module:Class.attribute" or "package.module:name".
        releases: The oldest first.
    """
    found = [(release.name, release.fingerprint(target), release) for release in releases]
    known = [(name, print_, release) for name, print_, release in found if print_ is not None]
    changed, signature_changed = [], []
    for (_, before, old), (name, after, new) in itertools.pairwise(known):
        if after != before:
            changed.append(name)
            if new.signature(target) != old.signature(target):
                signature_changed.append(name)
    names = [name for name, _, _ in found]
    since = known[0][0] if known else ""
    later = found[names.index(since) :] if known else []
    missing = tuple(name for name, print_, _ in later if print_ is None)
    return History(target, since, tuple(changed), tuple(signature_changed), missing)


def comparison(target: str, old: Release, new: Release) -> str:
    """Returns how a symbol differs in two releases, with its new fingerprints; "" if it does not.

    Args:
        target: "package.module:Class.attribute" or "package.module:name".
        old: One release.
        new: A later one.
    """
    before, after = old.fingerprint(target), new.fingerprint(target)
    if before == after:
        return ""
    a, b = (release.source(target).splitlines() for release in (old, new))
    lines = difflib.unified_diff(a, b, old.name, new.name, lineterm="")
    title = f"{target}  {before} -> {after}"
    was, now = old.signature(target), new.signature(target)
    if was or now:
        title += f"  {now}" if was == now else f"  {was} -> {now}"
    return "\n".join([title, *lines])
