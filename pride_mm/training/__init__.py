"""Training: the only room, beside the teacher's, where privileged fields are read."""
