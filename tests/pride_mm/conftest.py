"""Shapes in signatures are checked while these tests run; the hook has to come before the first import.

The student's config has no shapes, and its dataclass takes more arguments than the hook allows.
"""

from jaxtyping import install_import_hook

STUDENT = [f"pride_mm.student.{name}" for name in ("attention", "audio", "encoders", "folder", "network", "video")]
install_import_hook(["pride_mm.losses", *STUDENT], "beartype.beartype")
