"""The server's own /metrics beside what its clients saw.

The result's `server`, None where there is no such page:

- `names`: whose names its metrics bear; `url`; `scrapes`, their number
- `latencies`: for `ttft_ms`, `itl_ms`, `e2e_ms` and `queue_ms`, as far as the server has them:
  `server` {count, mean, p50 [low, high], p99 [low, high]}, a histogram's bounds round the quantile, `high`
  None above the last; `clients` {count, mean, p50, p99} or None where no client can see it; `difference` of
  the means, clients less server; `agrees`, None where it cannot be told
- `counts`: for `tokens`, `prompt_tokens`, `requests`: {server, clients, agrees}
- `over_time`: `at_s` and, None where a scrape has it not, `running`, `waiting`, `cache_share`, `resident_mb`
- `findings`: a sentence for each disagreement
"""
