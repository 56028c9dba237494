"""The teacher: a larger model that has read the notes."""
