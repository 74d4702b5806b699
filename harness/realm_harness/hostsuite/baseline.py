"""One call of each import that a host can answer well, and what has to lie in memory for it.

The free memory of a probe begins at A. A text lies at A, a model's name at A+64, token ids at A+256, options
at A+512, hidden states at A+4096, and what comes back at A+65536.
"""

from __future__ import annotations

from dataclasses import dataclass

from realm_abi.contract import load_contract

from realm_harness.hostsuite.script import Script

TEXT, NAME, IDS, OPTIONS, HIDDEN, OUT = "A", "A+64", "A+256", "A+512", "A+4096", "A+65536"
WORDS = "q~?z#"
"""A text of several tokens in any vocabulary."""
TOKENS = (5, 6, 7, 8)
"""Ids that every vocabulary has."""


@dataclass(frozen=True)
class World:
    """What is known of a host's model, and what it calls itself."""

    name: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    context_length: int
    eos_token: int

    @property
    def dims(self) -> dict[str, int]:
        """The dimensions that sizes of windows follow from."""
        return {"vocab_size": self.vocab_size, "hidden_size": self.hidden_size}


def put_ids(script: Script, world: World, tokens: str, place: str = IDS) -> None:
    """Puts ordinary tokens, here called 5 to 20, at a place.

    They are spread over the vocabulary: its first ids are often special tokens that were never trained, and
    all have the same embedding.
    """
    ids = [world.vocab_size * (int(token) - 4) // 20 for token in tokens.split()]
    script.do(f"word {place} {' '.join(map(str, ids))}")


def prepare(script: Script, world: World) -> None:
    """Puts everything in its place."""
    options = load_contract().structs["GenOptions"].pack(max_tokens=1, temperature=0.0)
    script.do(f"put {TEXT} {WORDS.encode().hex()}")
    script.do(f"put {NAME} {world.name.encode()[:128].hex()}")
    script.do(f"word {IDS} {' '.join(map(str, TOKENS))}")
    script.do(f"put {OPTIONS} {options.hex()}")
    script.do(f"fill {HIDDEN} {4 * world.hidden_size}")


def sane(function: str, world: World, session: str) -> dict[str, str]:
    """Raw arguments by name. `session` is an expression for a session of the guest's."""
    hidden, vocab = str(world.hidden_size), str(world.vocab_size)
    by_name = {
        "realm_store_model": {"gguf_ptr": TEXT, "gguf_len": "64", "model_id": "0"},
        "realm_store_draft_model": {"gguf_ptr": TEXT, "gguf_len": "64", "draft_model_id": "0"},
        "realm_host_load_model_by_name": {"name_ptr": NAME, "name_len": str(len(world.name.encode()[:128]))},
        "realm_remove_model": {"model_id": "M"},
        "realm_get_tensor": {
            "model_id": "M", "name_ptr": TEXT, "name_len": "5", "out_ptr": OUT, "out_max_bytes": "64",
        },
        "realm_get_model_info": {"model_id": "M", "out_count_ptr": OUT, "out_size_ptr": f"{OUT}+8"},
        "realm_get_model_metadata": {"model_id": "M", "out_ptr": OUT, "out_max_bytes": "2048"},
        "realm_set_lora_adapter": {"model_id": "M", "id_ptr": TEXT, "id_len": "5"},
        "realm_embed_tokens": {"model_id": "M", "ids_ptr": IDS, "n_ids": "4", "out_ptr": OUT},
        "realm_forward_layer": {
            "model_id": "M", "layer": "0", "hidden_ptr": HIDDEN, "n_f32": hidden, "position": "0",
            "out_ptr": OUT,
        },
        "realm_compute_logits": {"model_id": "M", "hidden_ptr": HIDDEN, "n_f32": hidden, "out_ptr": OUT},
        "realm_encode_tokens": {
            "model_id": "M", "text_ptr": TEXT, "text_len": "5", "out_ptr": OUT, "out_max_bytes": "88",
        },
        "realm_decode_tokens": {
            "model_id": "M", "ids_ptr": IDS, "n_ids": "4", "out_ptr": OUT, "out_max_bytes": "512",
        },
        "realm_stream_token": {"text_ptr": TEXT, "text_len": "5"},
        "realm_host_generate": {
            "model_id": "M", "prompt_ptr": TEXT, "prompt_len": "5", "options_ptr": OPTIONS,
            "out_ptr": OUT, "out_max_bytes": "512",
        },
        "realm_abi_version": {},
        "realm_model_info": {"model": "M", "out_ptr": OUT, "cap_bytes": "24"},
        "realm_encode": {
            "model": "M", "text_ptr": TEXT, "text_len": "5", "flags": "0", "out_ptr": OUT, "cap": "22",
        },
        "realm_decode": {
            "model": "M", "ids_ptr": IDS, "n_ids": "4", "flags": "0", "out_ptr": OUT, "cap": "512",
        },
        "realm_model_adapter": {"model": "M", "id_ptr": TEXT, "id_len": "5"},
        "realm_session_open": {"model": "M"},
        "realm_session_fork": {"session": session},
        "realm_session_truncate": {"session": session, "length": "0"},
        "realm_session_free": {"session": session},
        "realm_forward": {
            "session": session, "ids_ptr": IDS, "n_ids": "4", "logits_ptr": OUT, "rows": "1", "cap": vocab,
        },
        "realm_draft": {"session": session, "ids_ptr": IDS, "n_ids": "4", "out_ptr": OUT, "cap": "4"},
        "realm_emit": {
            "session": "S", "token": "5", "text_ptr": TEXT, "text_len": "5", "logprob": "0", "flags": "0",
        },
    }  # fmt: skip
    return by_name[function]


def outputs(function: str, arguments: dict[str, str], world: World) -> list[str]:
    """What a success may write, as the probe wants it: `start size` or `start *unit` of the result."""
    found: list[str] = []
    declared = load_contract().imports[function]
    for param in declared.params:
        if param.kind != "out":
            continue
        start = arguments[param.raw[0]]
        if declared.result == "bytes":
            found.append(f"{start} *1")
        elif function == "realm_forward":
            found.append(f"{start} *{4 * world.vocab_size}")
        elif declared.result == "count":
            found.append(f"{start} *4")
        else:  # realm_get_model_info: one number each
            found.append(f"{start} {8 if param.element == 'u64' else 4}")
    return found


def is_size_query(function: str, arguments: dict[str, str]) -> bool:
    """Whether a call only asks how much room it needs."""
    return function in ("realm_encode", "realm_decode") and arguments["cap"] == "0"
