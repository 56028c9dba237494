"""What each part of the method is worth: one run with parts taken out, several seeds each, compared in pairs."""
