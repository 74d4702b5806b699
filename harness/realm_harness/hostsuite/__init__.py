"""The host suite: any host that can load a guest module, held to the contract by guests that attack it.

The probes (wasm/probes) do what their prompt says and watch their own memory; so a host that is started once
with a probe answers any number of cases by chat completions. The cases of `grid` are made from the contract,
the others stand in `chapters`.
"""
