"""Who may do how much: keys, limits and the ledger of one server, and turns on its threads."""
