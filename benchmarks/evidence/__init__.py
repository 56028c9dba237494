"""What ``docs/evidence.md`` rests on: the small pair of models, and the experiments' files beside it."""
