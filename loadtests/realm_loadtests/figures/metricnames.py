"""What servers call their metrics: data, so that a further server is a further entry.

A name may be written with `:` or `_` after its first word (SGLang changed from one to the other). Where a
server has had several, the first that it has counts. Latencies are histograms in seconds; `e2e` is given only
where nothing but generations is in it. Sources: docs.vllm.ai/en/latest/usage/metrics.html,
docs.sglang.ai/references/production_metrics.html, the README of llama.cpp's tools/server, the metrics
reference of text-generation-inference.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Final

LATENCIES: Final = ("ttft", "itl", "e2e", "queue")
COUNTS: Final = ("tokens", "prompt_tokens", "requests")
GAUGES: Final = ("running", "waiting", "cache_share", "resident_bytes")

NAMES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "Realm": {
        "ttft": ("realm_time_to_first_token_seconds",),
        "itl": ("realm_inter_token_seconds",),
        "queue": ("realm_queue_seconds",),
        "tokens": ("realm_usage_output_tokens_total",),
        "prompt_tokens": ("realm_usage_input_tokens_total",),
        "requests": ("realm_usage_requests_total",),
        "running": ("realm_requests_running",),
        "waiting": ("realm_requests_waiting",),
        "cache_share": ("realm_kv_cache_usage_ratio",),
        "resident_bytes": ("realm_memory_usage_bytes",),
    },
    "vLLM": {
        "ttft": ("vllm:time_to_first_token_seconds",),
        "itl": ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
        "e2e": ("vllm:e2e_request_latency_seconds",),
        "queue": ("vllm:request_queue_time_seconds",),
        "tokens": ("vllm:generation_tokens_total",),
        "prompt_tokens": ("vllm:prompt_tokens_total",),
        "requests": ("vllm:request_success_total",),
        "running": ("vllm:num_requests_running",),
        "waiting": ("vllm:num_requests_waiting",),
        "cache_share": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        "resident_bytes": ("process_resident_memory_bytes",),
    },
    "SGLang": {
        "ttft": ("sglang:time_to_first_token_seconds",),
        "itl": ("sglang:inter_token_latency_seconds",),
        "e2e": ("sglang:e2e_request_latency_seconds",),
        "queue": ("sglang:queue_time_seconds",),
        "tokens": ("sglang:generation_tokens_total",),
        "prompt_tokens": ("sglang:prompt_tokens_total",),
        "requests": ("sglang:num_requests_total",),
        "running": ("sglang:num_running_reqs",),
        "waiting": ("sglang:num_queue_reqs",),
        "cache_share": ("sglang:token_usage",),
        "resident_bytes": ("process_resident_memory_bytes",),
    },
    "llama.cpp": {
        "tokens": ("llamacpp:tokens_predicted_total",),
        "prompt_tokens": ("llamacpp:prompt_tokens_total",),
        "running": ("llamacpp:requests_processing",),
        "waiting": ("llamacpp:requests_deferred",),
        "cache_share": ("llamacpp:kv_cache_usage_ratio",),
    },
    "text-generation-inference": {
        "e2e": ("tgi_request_duration",),
        "queue": ("tgi_request_queue_duration",),
        "tokens": ("tgi_request_generated_tokens_sum",),
        "prompt_tokens": ("tgi_request_input_length_sum",),
        "requests": ("tgi_request_success",),
        "running": ("tgi_batch_current_size",),
        "waiting": ("tgi_queue_size",),
    },
}
"""Server -> quantity -> its names for it."""


def plain(name: str) -> str:
    """A name in the one spelling that is compared."""
    return name.replace(":", "_")


def only_known(page: str) -> str:
    """The samples of a page that are named here; without them the page has nothing for us."""
    return "".join(f"{line}\n" for line in page.splitlines() if line.startswith(_BEGINNINGS))


_BEGINNINGS: Final = tuple(
    spelling
    for server in NAMES.values()
    for name in itertools.chain(*server.values())
    for spelling in (name, plain(name))
)
