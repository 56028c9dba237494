"""A model's drafts on the page, and which task comes next."""
