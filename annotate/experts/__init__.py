"""Who annotates: accounts, assignment, how far they are."""
