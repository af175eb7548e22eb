"""Pages from templates: everything inline, escaped, and an error where a value is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import jinja2

_FOLDER: Final = Path(__file__).parent


def template(path: Path) -> jinja2.Template:
    """The template at ``path``; it may include what lies beside it, and this folder's style."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([path.parent, _FOLDER]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(path.name)
