"""Expert annotation of dialogue clips in a real Label Studio."""
