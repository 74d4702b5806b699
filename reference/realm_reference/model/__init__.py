"""A GGUF file as a model: configuration, tokenizer, chat template, transformer, and the store of known
models.
"""
