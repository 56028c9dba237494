"""The student: encoders, multi-source attention, the network and its folder.

Importing this makes ``pride_student`` known to the Auto classes of ``transformers``.
"""

from transformers import AutoConfig, AutoModelForCausalLM

from pride_mm.student.config import PREDICTED, EncoderSettings, StudentConfig
from pride_mm.student.folder import load_student, save_student
from pride_mm.student.network import Student
from pride_mm.student.sources import Sources, StudentOutput

__all__ = [
    "PREDICTED",
    "EncoderSettings",
    "Sources",
    "Student",
    "StudentConfig",
    "StudentOutput",
    "load_student",
    "save_student",
]

AutoConfig.register(StudentConfig.model_type, StudentConfig, exist_ok=True)
AutoModelForCausalLM.register(StudentConfig, Student, exist_ok=True)
