"""Arrays and the functions on them; nothing here knows what a model is."""
