"""Three decoders of pictures that give the same full-size frames by bit; what each gets wrong is said in its file.

Each has ``decode(source, indices, frames)``: the frames at ``indices`` of a clip that shows ``frames`` of
them, and ``suits(container, video)``: whether it gives the frames that a player shows. Letters: ``F``
frames, ``h`` and ``w`` the clip's height and width.
"""
