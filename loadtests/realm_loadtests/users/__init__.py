"""What the locust process does: whose turn it is, when, and with which line to the server."""
