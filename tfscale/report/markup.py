"""Fills the HTML templates of a report: every value is escaped unless a template made it."""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from tfscale.report import numbers


def fill(template: str, **values: Any) -> Markup:
    """Returns a template of `tfscale/report/templates` with its values filled in.

    Args:
        template: The name of the file.
        **values: What the template names. Text is escaped; `Markup`, which `fill` returns, is not.

    Raises:
        jinja2.UndefinedError: If the template uses a name that has no value.
    """
    return Markup(_environment().get_template(template).render(values))


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfscale.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=numbers.number,
        percent=numbers.percent,
        setting=numbers.setting,
        shortened=numbers.shortened,
        words=numbers.name,
    )
    # The policy of the page allows the script with this hash, and no other.
    script = files("tfscale.report").joinpath("templates/chart.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals.update(script=Markup(script), script_hash=f"sha256-{digest}")
    return environment
