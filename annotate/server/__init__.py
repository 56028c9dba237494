"""Label Studio on this machine: starting it, its database, its secrets."""
