"""How far annotators agree, field by field, with the statistics that fit the field's kind.

Choices and scales: Krippendorff's alpha (nominal; ordinal) stands first, since it takes any number of annotators
and missing values; 1 is perfect, 0 is chance. Beside it Cohen's kappa of each pair (of a scale with quadratic
weights), Fleiss' kappa with three annotators or more, and of a scale ICC(2,1) and ICC(2,k). Each turn is a unit of a
``turn_choice``; each option of a ``choices`` is a yes-or-no unit. For time segments the mean F1 of the overlap in
seconds over pairs of annotators, for texts the mean F1 of the words they share (and the mean cosine of sentence
embeddings where an encoder is given): these are similarities, not corrected for chance, so the similarity of pairs
from different items stands beside them. Every figure has a 95 % bootstrap interval over items.

Alpha is computed by ``krippendorff``, Cohen's kappa by ``scikit-learn``, Fleiss' by ``statsmodels``; the intraclass
correlation, and what a resample needs of all of them, are a few lines in ``coefficients``.
"""

from annotate.agreement.fields import (
    MEASURES,
    Agreement,
    AnnotatorAgreement,
    Confusion,
    FieldAgreement,
    GroupAgreement,
    agreement,
)
from annotate.agreement.ratings import Rating, by_people, gather
from annotate.agreement.resampling import Figure

__all__ = [
    "MEASURES",
    "Agreement",
    "AnnotatorAgreement",
    "Confusion",
    "FieldAgreement",
    "Figure",
    "GroupAgreement",
    "Rating",
    "agreement",
    "by_people",
    "gather",
]
