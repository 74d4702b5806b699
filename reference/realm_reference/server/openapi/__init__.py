"""The OpenAPI document, made from the tables that requests are checked with."""
