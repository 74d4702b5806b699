"""A run as a whole: settings, the look before, the locust process, the result written."""
