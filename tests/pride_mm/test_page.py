"""A page is whole, escaped and the same each time; it opens offline."""

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from pride_mm.page import svg, write_page

TEMPLATE = (
    '{% extends "page.html.j2" %}{% block title %}{{ title }}{% endblock %}'
    "{% block body %}<p>{{ text }}</p>{{ picture }}{% endblock %}"
)


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "templates" / "mine.html.j2"
    path.parent.mkdir()
    path.write_text(TEMPLATE)
    return path


def drawn() -> Markup:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1], [1, 0], label="<b>&")
    return svg(figure)


def test_words_are_escaped_and_pictures_are_not(tmp_path: Path, template: Path) -> None:
    write_page(tmp_path / "page.html", template, title="T", text="<script>alert(1)</script> & 'x'", picture=drawn())
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp;" in page
    assert "<script>alert" not in page
    assert page.count("<svg") == page.count("</svg>") == 1


def test_it_opens_offline(tmp_path: Path, template: Path) -> None:
    write_page(tmp_path / "page.html", template, title="T", text="x", picture=drawn())
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']*|@import|url\((?!["']?(?:#|data:))""", page)


def test_a_picture_is_the_same_each_time() -> None:
    first, second = drawn(), drawn()
    assert first == second
    assert first.startswith("<svg")


def test_a_value_that_is_missing_stops_it_and_leaves_nothing(tmp_path: Path, template: Path) -> None:
    with pytest.raises(UndefinedError, match="'text' is undefined"):
        write_page(tmp_path / "page.html", template, title="T", picture="")
    assert not (tmp_path / "page.html").exists()
