"""What people wrote about a clip, as text: .txt, .md, .docx and .pdf (pictures of pages are no text)."""

import re
import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path

from pride_mm.errors import UserError

SUFFIXES = (".txt", ".md", ".docx", ".pdf")
_LARGEST = 32 * 1024 * 1024  # bytes of a document, unpacked: notes on a clip are a thousand times smaller
_HEADING = re.compile(r"^(#+ *|\d+[.)] *|)([^:]{1,80}?) *(?:: *(.*))?$")


def read_documents(paths: Iterable[Path], section: str | None = None, sections: Collection[str] = ()) -> str:
    """The text of documents, one after the other, empty where there is none.

    Args:
        paths: the documents.
        section: only what stands under the heading of this name, which is a line of its own or begins one
            (``Name: text``); case doesn't count. It ends at the next heading.
        sections: what else is a heading, beside Word's own and lines that begin with ``#``.

    Raises:
        ValueError: a document is none, is damaged, or is too large; nothing of its text is shown.
    """
    texts = [_read(path) for path in paths]
    parts = texts if section is None else [_section(text, section, sections) for text in texts]
    return "\n\n".join(part for part in parts if part)


def _read(path: Path) -> str:
    readers = {".docx": _docx, ".pdf": _pdf, ".txt": _plain, ".md": _plain}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"no document: {path.name} (allowed: {', '.join(SUFFIXES)})")
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"larger than {_LARGEST >> 20} MiB: {path.name}")
    lines = [re.sub(r"[ \t\u00a0]+", " ", line).strip() for line in reader(path).splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _plain(path: Path) -> str:
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError(f"not UTF-8: {path.name}") from None


def _docx(path: Path) -> str:
    """The paragraphs and the cells of tables, in their order."""
    try:
        from docx import Document
        from docx.text.paragraph import Paragraph
    except ImportError:
        raise UserError(_MISSING) from None
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > 8 * _LARGEST:
                raise ValueError(f"larger than {8 * _LARGEST >> 20} MiB when unpacked: {path.name}")
        lines: list[str] = []
        for block in Document(str(path)).iter_inner_content():
            if isinstance(block, Paragraph):
                style = block.style.name if block.style is not None else ""
                lines.append(f"# {block.text}" if str(style).startswith(("Heading", "Title")) else block.text)
            else:
                lines += [": ".join(dict.fromkeys(cell.text.strip() for cell in row.cells)) for row in block.rows]
        return "\n".join(lines)
    except ValueError as error:
        raise ValueError(str(error) if "larger than" in str(error) else f"not a Word document: {path.name}") from None
    except Exception as error:  # noqa: BLE001  (lxml, zipfile and docx each have their own)
        raise ValueError(f"not a Word document: {path.name} ({type(error).__name__})") from None


def _pdf(path: Path) -> str:
    try:
        import pypdf
    except ImportError:
        raise UserError(_MISSING) from None
    try:
        with pypdf.PdfReader(path) as reader:
            text = "\n".join(page.extract_text() for page in reader.pages)
    except Exception as error:  # noqa: BLE001  (a broken PDF fails in many ways)
        raise ValueError(f"not a PDF that can be read: {path.name} ({type(error).__name__})") from None
    if not text.strip():
        raise ValueError(f"a PDF without text (pictures of pages?): {path.name}")
    return text


def _section(text: str, name: str, names: Collection[str]) -> str:
    """What stands under a heading up to the next one: a marked one, or one of ``names``."""
    found: list[str] = []
    inside = False
    known = {other.lower() for other in names} | {name.lower()}
    for line in text.splitlines():
        heading = _HEADING.match(line)
        title = heading[2].strip("*_ ").lower() if heading else ""
        if heading and (heading[1].startswith("#") or title in known):
            inside = title == name.lower()
            line = heading[3] or ""
        if inside:
            found.append(line)
    return "\n".join(found).strip()


_MISSING = "Documents of Word and PDF need the extra 'documents': pip install 'pride-mm[documents]'."
