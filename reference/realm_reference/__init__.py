"""The reference server: a GGUF model behind the OpenAI API, each request run by a WASM guest."""
