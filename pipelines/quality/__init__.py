"""Which items are good enough to be packed: measured, judged by settings, counted and listed.

One file a measure: what it measures, and the rule that judges it. ``gate`` puts them together; it knows nothing of
packing, and packing nothing of it.
"""
