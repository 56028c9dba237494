"""One set of notes an item, out of what several annotators said."""
