"""A blind study: experts say in Label Studio which of two answers is better, and do not know whose they are."""
