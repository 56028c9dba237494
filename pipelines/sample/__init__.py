"""The embedded sample: a script of short dialogues, a drawn face and a synthesised voice, all made here."""
