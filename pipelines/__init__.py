"""From files to shards to a shipped student; holds the one command, ``pride``."""
