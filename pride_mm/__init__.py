"""PRIDE-MM: distil empathetic, multimodal dialogue models with privileged information."""
