"""v1: hidden states through the layers, in order, at their positions, as they were given."""

from __future__ import annotations

from realm_mocks.host import Hashed, Run

from realm_harness.case import Broken
from realm_harness.guestsuite.judging import demand_of, told, well
from realm_harness.guestsuite.marks import V1, guest_case
from realm_harness.guestsuite.oracle import greedy_tokens
from realm_harness.guestsuite.subject import GuestSubject

LONG = "a prompt of more than two chunks of eight"


def check_rule(run: Run, rule: str) -> None:
    """Broken if this one rule was, whatever came of the others."""
    for finding in run.findings:
        if finding.rule == rule:
            raise Broken(told(run, finding))
    demand_of(run, run.trace.counts["realm_forward_layer"], "it never calls realm_forward_layer")


@guest_case("GUEST-LAYERS-001", "layers.order", "a layer left out is another model", versions=V1)
def test_all_layers_in_order(guest: GuestSubject) -> None:
    """Every row goes through all layers, from 0 up, before logits are asked of it."""
    for layers in (1, 2, 3, 7):
        check_rule(guest.run("abcd", LONG, layers=layers), "layer-order")


@guest_case("GUEST-LAYERS-002", "layers.position", "a wrong position turns the words round", versions=V1)
def test_positions(guest: GuestSubject) -> None:
    """Positions go on from chunk to chunk and from token to token."""
    for prompt in ("", "x", LONG, "y" * 64):
        check_rule(guest.run("abcdefgh", prompt), "position")


@guest_case("GUEST-LAYERS-003", "layers.rows", "one row mixed up is one word mixed up", versions=V1)
def test_rows_come_back_unchanged(guest: GuestSubject) -> None:
    """Hidden states come back as the host wrote them, every row of every chunk."""
    for layers in (1, 2, 5):
        check_rule(guest.run("abcdefgh", LONG, layers=layers), "hidden-chain")


@guest_case("GUEST-LAYERS-004", "layers.last-row", "the wrong row answers another question", versions=V1)
def test_logits_of_the_last_row(guest: GuestSubject) -> None:
    """The sampled logits are those of the last token that was fed."""
    for length in (7, 8, 9, 17):
        prompt = "p" * length
        run = well(guest.run(Hashed(5), prompt, max_tokens=4, layers=3))
        due = greedy_tokens(Hashed(5), prompt, 4)
        demand_of(run, run.tokens == due, f"after {length + 1} tokens it says {run.tokens}; due was {due}")
