"""Annotations as ELAN's tiers, and back."""
