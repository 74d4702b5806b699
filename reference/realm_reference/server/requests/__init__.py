"""What a client may ask: the tables of parameters, their checks, and the requests that come of them."""
