"""One look for every report: a self-contained HTML page that opens offline, on screen and in print.

Everything put into a page is escaped unless it is a picture made by ``svg``.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pride_mm.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEMPLATES = Path(__file__).parent / "templates"


def write_page(path: Path, template: Path, **context: Any) -> None:
    """Render ``template`` (it may extend ``page.html.j2``) with ``context`` and write it whole."""
    environment = Environment(
        loader=FileSystemLoader([template.parent, _TEMPLATES]), autoescape=True, undefined=StrictUndefined
    )
    write_text(path, environment.get_template(template.name).render(**context))


def svg(figure: "Figure") -> Markup:
    """A matplotlib figure as inline SVG, the same bytes for the same figure; closes the figure."""
    import matplotlib
    from matplotlib import pyplot

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "pride", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :])
