"""Make, or check in full, the goldens that hold the reference to Hugging Face transformers.

    python ci/make_goldens.py MODEL.gguf            writes reference/tests/data
    python ci/make_goldens.py MODEL.gguf --check    compares every logit, writes nothing

The data are logits.npz, tokens.json and sentencepiece.json; those of other models come from
make_family_goldens.py. Needs torch, transformers, gguf, accelerate and
sentencepiece, which the project itself does not; install them in an environment of their own. The model is
read by transformers' own GGUF support in float32; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

os.environ["HF_HUB_OFFLINE"] = "1"
_ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_ROOT / "ci"), str(_ROOT / "reference")]

from golden_texts import CONVERSATIONS, GREEDY_PROMPT, PROMPTS, corpus  # noqa: E402

DATA = _ROOT / "reference" / "tests" / "data"
_GREEDY_TOKENS = 256
_TOP = 8
_RANDOM_COLUMNS = 24


def main() -> None:
    """Read the command line and make or check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="the SmolLM2-135M-Instruct GGUF file")
    parser.add_argument("--check", action="store_true", help="compare every logit with the reference instead")
    options = parser.parse_args()
    truth = HuggingFace(options.model)
    if options.check:
        check(truth)
        return
    DATA.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(DATA / "logits.npz", **logit_goldens(truth))
    write_json("tokens.json", token_goldens(truth))
    write_json("sentencepiece.json", sentencepiece_goldens())


class HuggingFace:
    """Transformers' model and tokenizer, both from the same GGUF file."""

    def __init__(self, path: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.path = path
        self._torch = torch
        where: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        self.tokenizer = AutoTokenizer.from_pretrained(**where)
        self.own_pre_tokenizer = self.tokenizer.backend_tokenizer.pre_tokenizer
        self._model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()

    def logits(self, ids: list[int]) -> np.ndarray:
        """All logits of all positions, in one pass without a cache."""
        # [n_seq] -> [n_seq, vocab]
        with self._torch.inference_mode():
            output: np.ndarray = self._model(self._torch.tensor([ids]), use_cache=False).logits[0].numpy()
        return output

    def greedy(self, ids: list[int], count: int = _GREEDY_TOKENS) -> list[int]:
        """The next tokens by argmax; end-of-turn tokens are tokens like the others."""
        with self._torch.inference_mode():
            output = self._model.generate(
                self._torch.tensor([ids]),
                do_sample=False,
                max_new_tokens=count,
                min_new_tokens=count,
                eos_token_id=None,
                pad_token_id=0,
            )
        return [int(i) for i in output[0, len(ids) :]]

    def published_pre_tokenizer(self) -> None:
        """Split digits one by one before the byte-level split, as the model was trained (pre-tokenizer
        "smollm").

        Transformers' GGUF support leaves the digit split out, which shows where several spaces stand before
        a number.
        """
        from tokenizers import pre_tokenizers

        self.tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )

    def gguf_pre_tokenizer(self) -> None:
        """What transformers itself makes of the GGUF file."""
        self.tokenizer.backend_tokenizer.pre_tokenizer = self.own_pre_tokenizer

    def prompts(self) -> dict[str, list[int]]:
        """The ids of each golden prompt."""
        self.published_pre_tokenizer()
        return {name: self.tokenizer(text).input_ids[:length] for name, (text, length) in PROMPTS.items()}


def logit_goldens(truth: HuggingFace) -> dict[str, Any]:
    """Per position: the top columns, a fixed set of pseudo-random columns, the log of the sum of
    exponentials, the margin.
    """
    vocab_size = len(truth.tokenizer)
    columns = np.sort(np.random.default_rng(7).choice(vocab_size, _RANDOM_COLUMNS, replace=False))
    arrays: dict[str, Any] = {
        "columns": columns.astype(np.uint16),
        "about": np.array(json.dumps(about(truth.path))),
    }
    for name, ids in truth.prompts().items():
        arrays |= position_goldens(name, np.array(ids, np.uint16), truth.logits(ids), columns, _TOP)
    prompt = truth.tokenizer(GREEDY_PROMPT).input_ids
    return arrays | {
        "greedy/prompt": np.array(prompt, np.uint16),
        "greedy/tokens": np.array(truth.greedy(prompt), np.uint16),
    }


def position_goldens(name: str, ids: Any, logits: Any, columns: Any, n_top: int) -> dict[str, Any]:
    """What is kept of a prompt's logits, in the type of its ids: those of the last positions, if not all."""
    # [n_seq], [rows, vocab], [n_columns]
    top = np.argsort(-logits, axis=-1, kind="stable")[:, :n_top]
    highest = logits.max(axis=-1, keepdims=True)
    spread = np.log(np.exp((logits - highest).astype(np.float64)).sum(axis=-1)) + highest[:, 0]
    print(f"{name}: {len(logits)} of {len(ids)} positions")
    return {
        f"{name}/ids": ids,
        f"{name}/top": top.astype(ids.dtype),
        f"{name}/top_logits": np.take_along_axis(logits, top, -1),
        f"{name}/logits": logits[:, columns],
        f"{name}/logsumexp": spread,
    }


def token_goldens(truth: HuggingFace) -> dict[str, Any]:
    """Ids and decoded texts of the corpus, and the conversations as the chat template writes them."""
    tokenizer = truth.tokenizer
    cases = []
    for text in corpus():
        truth.gguf_pre_tokenizer()
        from_gguf = tokenizer(text).input_ids
        truth.published_pre_tokenizer()
        ids = tokenizer(text).input_ids
        plain = tokenizer(text, split_special_tokens=True).input_ids
        decoded = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        case = {"text": text, "ids": ids, "decoded": decoded}
        case |= {"plain": plain} if plain != ids else {}
        case |= {"transformers_gguf_ids": from_gguf} if from_gguf != ids else {}
        cases.append(case)
    chats = [
        {
            "messages": messages,
            "add_generation_prompt": prompt,
            "text": tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt),
        }
        for messages in CONVERSATIONS
        for prompt in (True, False)
    ]
    differing = sum("transformers_gguf_ids" in case for case in cases)
    print(f"tokenizer: {len(cases)} texts, {differing} where transformers' GGUF support differs")
    return {"about": about(truth.path), "cases": cases, "chats": chats}


def sentencepiece_goldens() -> dict[str, Any]:
    """A small BPE vocabulary with byte fallback, and what SentencePiece itself makes of the corpus."""
    import sentencepiece

    model = io.BytesIO()
    lines = [line for text, _ in PROMPTS.values() for line in text.split("\n") if line.strip()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=600,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=True,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = range(processor.get_piece_size())
    kinds = [
        2 if processor.is_unknown(i) else 3 if processor.is_control(i) else 6 if processor.is_byte(i) else 1
        for i in pieces
    ]
    return {
        "about": {"sentencepiece": version("sentencepiece")},
        "tokens": [processor.id_to_piece(i) for i in pieces],
        "scores": [processor.get_score(i) for i in pieces],
        "kinds": kinds,
        "cases": [{"text": text, "ids": processor.encode(text)} for text in corpus()],
    }


def check(truth: HuggingFace) -> None:
    """Print the largest difference of any logit at any position; exit 1 when it is 1e-3 or more, or a
    greedy token differs.
    """
    from realm_reference.compute.numpy import numpy_arrays
    from realm_reference.model.config import LlamaConfig
    from realm_reference.model.gguf import open_gguf
    from realm_reference.model.transformer import Transformer
    from realm_reference.model.weights import load_weights

    file, arrays = open_gguf(truth.path), numpy_arrays()
    config = LlamaConfig.from_gguf(file)
    model = Transformer(config, load_weights(file, config, arrays), arrays)
    worst = 0.0
    for name, ids in truth.prompts().items():
        difference = float(
            np.abs(truth.logits(ids) - model.forward(ids, model.new_cache(), rows=len(ids))).max()
        )
        worst = max(worst, difference)
        print(
            f"{name}: {len(ids)} positions x {model.vocab_size} logits, max abs difference {difference:.2e}"
        )
    prompt = truth.tokenizer(GREEDY_PROMPT).input_ids
    cache, chunk, tokens = model.new_cache(), prompt, []
    for _ in range(_GREEDY_TOKENS):
        tokens.append(int(model.forward(chunk, cache)[-1].argmax()))
        chunk = tokens[-1:]
    same = tokens == truth.greedy(prompt)
    print(
        f"max abs difference {worst:.2e}; {_GREEDY_TOKENS} greedy tokens {'identical' if same else 'DIFFER'}"
    )
    sys.exit(0 if worst < 1e-3 and same else 1)


def about(path: Path | None) -> dict[str, str]:
    """What the goldens were made with: the file, if there is one, and the packages."""
    packages = ("torch", "transformers", "tokenizers", "gguf", "numpy")
    model = (
        {} if path is None else {"model": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    )
    return model | {p: version(p) for p in packages}


def write_json(name: str, content: dict[str, Any]) -> None:
    """One file of goldens, in ASCII so that no editor changes the odd characters in it."""
    (DATA / name).write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
