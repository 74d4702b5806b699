"""What users do: one small file a scenario, each a class with `next_body(random)`."""
