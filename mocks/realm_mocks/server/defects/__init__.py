"""Planted defects by subject. Each is one small function on one hook of `Variation`.

`source` says where the defect was seen: `owner/repo#number` is an issue thread of a real server,
`realm-defects N` a number in the project's own list.
"""
