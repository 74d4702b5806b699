"""Calls over the WebSocket: answers, streams, several at a time, cancelling, errors that name the fault."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from realm_harness.answers import shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.prompts import HELLO, OPENING
from realm_harness.target import Target, clock_ms
from realm_harness.websocket.dialogue import ENDS, CallLog, Dialogue, ended, open_dialogue

ODD_IDS = ("\N{GRINNING FACE} \u2028", ' "\\ ', "unknown", "0", "Ab-C")
OVERTAKEN_MS = 100.0
"""What is left of an answer when another call is sent; with less it shows nothing."""

WRONG: Mapping[str, Any] = {
    "prompt": 5,
    "max_tokens": "many",
    "temperature": 9.5,
    "top_p": -0.5,
    "top_k": -1,
    "repetition_penalty": "strong",
    "stream": "yes",
}
"""A value for each parameter that no generation can be made with."""


def stream(dialogue: Dialogue, prompt: str = OPENING, tokens: int = 16, **params: object) -> CallLog:
    """A streamed answer, to its end."""
    return dialogue.ask("generate", prompt=prompt, max_tokens=tokens, stream=True, **params)


def began(log: CallLog) -> bool:
    """Whether anything of an answer has come."""
    return bool(log.replies)


def both_ended(one: CallLog, other: CallLog) -> bool:
    """Whether two calls have ended."""
    return ended(one) and ended(other)


def fence(dialogue: Dialogue) -> None:
    """A call whose end comes after all that was sent before it."""
    dialogue.ask("health")


@case("CHAT-WSCALL-001", clause_id="ws.result", reason="it is what a client shows and what it is billed for")
def test_result(target: Target) -> None:
    """A whole answer has `text` and an integer `tokens_generated`, not above max_tokens."""
    with open_dialogue(target) as dialogue:
        data = dialogue.ask("generate", prompt=HELLO, max_tokens=8).result
        demand(isinstance(data.get("text"), str), f"the result has no string `text`: {shown(data)}")
        count = data.get("tokens_generated")
        whole = isinstance(count, int) and not isinstance(count, bool)
        demand(whole, f"the result has no integer `tokens_generated`: {shown(data)}")
        demand(0 <= int(count or 0) <= 8, f"with max_tokens 8 `tokens_generated` is {count}")


@case("CHAT-WSCALL-002", clause_id="ws.cost", reason="a made-up price has been taken for a real one")
def test_cost(target: Target) -> None:
    """`cost_usd` is a number of at least 0, or it is not there."""
    with open_dialogue(target) as dialogue:
        data = dialogue.ask("generate", prompt=HELLO, max_tokens=4).result
        cost = data.get("cost_usd", 0)
        fine = isinstance(cost, int | float) and not isinstance(cost, bool) and cost >= 0
        demand(fine, f"`cost_usd` is {shown(cost)}: leave it out where it is not known")


@case("CHAT-WSCALL-003", clause_id="ws.id", reason="it is all by which a client tells its calls apart")
def test_id(target: Target) -> None:
    """Every reply carries its call's id as it was."""
    with open_dialogue(target) as dialogue:
        for id in ODD_IDS:
            dialogue.call(id, "generate", prompt=HELLO, max_tokens=2, stream=True)
            dialogue.until(lambda: bool(dialogue.strays) or all(map(ended, dialogue.logs.values())))
        demand(not dialogue.strays, f"a reply carries the id of no call: {shown(dialogue.strays[:1])}")
        for log in dialogue.logs.values():
            told = [reply.get("id") for reply in log.replies]
            demand(all(id == log.id for id in told), f"replies to {log.id!r} have the ids {shown(told)}")


@case(
    "CHAT-WSCALL-004",
    clause_id="ws.stream",
    reason="servers have ignored `stream` and sent the whole at once",
)
def test_streams(target: Target) -> None:
    """With `stream` the text comes in several messages of status "streaming"."""
    with open_dialogue(target) as dialogue:
        log = stream(dialogue)
        with_text = [piece for piece in log.pieces if piece.get("text")]
        count = log.result.get("tokens_generated")
        if not isinstance(count, int) or count < 4:
            raise Unjudged(f"the answer is too short to be streamed: {count} tokens")
        demand(len(with_text) > 1, f"{count} tokens came in {len(with_text)} streaming messages")


@case(
    "CHAT-WSCALL-005", clause_id="ws.stream-index", reason="a gap is how a client sees that it lost a piece"
)
def test_indexes(target: Target) -> None:
    """The pieces of a stream are numbered 0, 1, 2, ... in `index`."""
    with open_dialogue(target) as dialogue:
        indexes = [piece.get("index") for piece in stream(dialogue).pieces]
        demand(indexes == list(range(len(indexes))), f"the indexes are {shown(indexes)}")


@case("CHAT-WSCALL-006", clause_id="ws.stream-final", reason="clients stop reading at it")
def test_final(target: Target) -> None:
    """`is_final` is true in the last piece of a stream, false in all before it."""
    with open_dialogue(target) as dialogue:
        finals = [piece.get("is_final") for piece in stream(dialogue).pieces]
        right = finals[-1:] == [True] and all(final is False for final in finals[:-1])
        demand(right, f"`is_final` is, piece by piece: {shown(finals)}")


@case(
    "CHAT-WSCALL-007",
    clause_id="ws.stream-same",
    reason="a streamed text that differs from the whole one has lost something",
    confirm=True,
)
def test_streamed_equals_whole(target: Target) -> None:
    """At temperature 0 the pieces put together are the text of the whole answer."""
    params: dict[str, Any] = {"prompt": OPENING, "max_tokens": 16, "temperature": 0}
    with open_dialogue(target) as dialogue:
        whole = str(dialogue.ask("generate", **params).result.get("text"))
        if whole != dialogue.ask("generate", **params).result.get("text"):
            raise Unjudged("answers at temperature 0 differ from one call to the next: nothing to compare")
        streamed = dialogue.ask("generate", **params, stream=True)
        demand(streamed.text == whole, f"streamed {shown(streamed.text)}, whole {shown(whole)}")
        told = streamed.result.get("text", whole)
        demand(told == whole, f"the stream's end says {shown(told)}, the whole answer is {shown(whole)}")


@case(
    "CHAT-WSCALL-008", clause_id="ws.end-once", reason="what comes after the end is read as somebody else's"
)
def test_one_end(target: Target) -> None:
    """A call ends with one message of status complete, error or cancelled, and nothing follows it."""
    with open_dialogue(target) as dialogue:
        logs = [stream(dialogue), dialogue.ask("generate", prompt=HELLO, max_tokens=4)]
        fence(dialogue)
        fence(dialogue)
        for log in logs:
            statuses = [message.get("status") for message in log.replies]
            ends = [status for status in statuses if status in ENDS]
            demand(ends == ["complete"], f"a call ended {len(ends)} times: {shown(statuses)}")
            demand(statuses[-1] in ENDS, f"after its end a call goes on: {shown(log.replies[-1])}")


@case(
    "CHAT-WSCALL-009",
    clause_id="ws.concurrent",
    reason="a long answer has held up all others on its connection",
)
def test_at_the_same_time(target: Target) -> None:
    """A call is answered while another one on the same connection streams."""
    with open_dialogue(target) as dialogue:
        long = dialogue.call("long", "generate", prompt=OPENING, max_tokens=64, stream=True)
        dialogue.until(lambda: bool(long.pieces) or ended(long))
        short = dialogue.call("short", "health")
        dialogue.until(lambda: ended(short) and ended(long))
        left = clock_ms(long.messages[-1][0], short.sent_ns)
        if left < OVERTAKEN_MS:
            raise Unjudged(
                f"the long answer ended {left:.0f} ms after the other call: too quick to be overtaken"
            )
        demand(
            short.messages[-1][0] < long.messages[-1][0],
            f"a call sent {left:.0f} ms before the end of a stream was answered after it",
        )


@case(
    "CHAT-WSCALL-010",
    clause_id="ws.apart",
    reason="a piece under another call's id is another user's text in one's answer",
    confirm=True,
)
def test_apart(target: Target) -> None:
    """Calls that run together each get the answer that they get alone."""
    asked = {f"call-{n}": f"Chapter {n}. {OPENING}" for n in range(4)}
    params: dict[str, Any] = {"max_tokens": 16, "temperature": 0}
    with open_dialogue(target) as dialogue:
        alone = {
            id: dialogue.ask("generate", prompt=prompt, **params).result.get("text")
            for id, prompt in asked.items()
        }
        logs = {
            id: dialogue.call(id, "generate", prompt=prompt, stream=True, **params)
            for id, prompt in asked.items()
        }
        dialogue.until(lambda: all(ended(log) for log in logs.values()))
        for id, log in logs.items():
            demand(
                log.text == alone[id],
                f"{id} gets {shown(log.text)} among others and {shown(alone[id])} alone",
            )


@case("CHAT-WSCALL-011", clause_id="ws.cancel", reason="work for nobody takes the place of work for users")
def test_cancel(target: Target) -> None:
    """A call that is cancelled in its stream ends with status "cancelled", and `cancel` is answered."""
    with open_dialogue(target) as dialogue:
        long = dialogue.call("long", "generate", prompt=OPENING, max_tokens=64, stream=True)
        dialogue.until(lambda: len(long.pieces) >= 2 or ended(long))
        stop = dialogue.call("stop", "cancel", id="long")
        dialogue.until(lambda: ended(long) and ended(stop))
        demand(stop.end.get("status") == "complete", f"`cancel` is answered with {shown(stop.end)}")
        ending = long.end.get("status")
        later = sum(at > stop.messages[-1][0] for at, _ in long.messages)
        if ending == "complete" and (stop.end.get("data") or {}).get("cancelled") is not True and later < 8:
            raise Unjudged("the call had ended, or nearly, when the cancel arrived")
        went_on = f"{later} messages after `cancel` was answered"
        demand(ending == "cancelled", f"the cancelled call ends with status {ending!r}, {went_on}")


@case(
    "CHAT-WSCALL-012",
    clause_id="ws.cancel-unknown",
    reason="the call may have ended while the cancel was on its way",
)
def test_cancel_nothing(target: Target) -> None:
    """`cancel` for an id that does not run is answered, and harms nothing."""
    with open_dialogue(target) as dialogue:
        end = dialogue.ask("cancel", id="never-called").end
        demand(end.get("status") in ("complete", "error"), f"it ends with {shown(end)}")
        fence(dialogue)


@case(
    "CHAT-WSCALL-023",
    clause_id="ws.cancel-early",
    reason="a user who changes his mind at once waits for ever otherwise",
)
def test_cancel_at_once(target: Target) -> None:
    """A call whose cancel comes on its heels ends, too."""
    with open_dialogue(target) as dialogue:
        for number in range(3):
            name = f"early-{number}"
            early = dialogue.call(name, "generate", prompt=OPENING, max_tokens=64, stream=True)
            stop = dialogue.call(f"stop-{number}", "cancel", id=name)
            dialogue.until(partial(both_ended, early, stop))


@case("CHAT-WSCALL-024", clause_id="ws.id-twice", reason="one call's end has been taken for another's")
def test_id_that_runs(target: Target) -> None:
    """While a call streams, nothing but its own replies carries its id."""
    with open_dialogue(target) as dialogue:
        log = dialogue.call("same", "generate", prompt=OPENING, max_tokens=64, stream=True)
        dialogue.until(partial(began, log))
        dialogue.send({"id": "same", "function": "health"})
        # The stream's own end, which counts tokens; one without may be that of the other call.
        dialogue.until(lambda: any("tokens_generated" in str(message) for message in log.replies))
        fence(dialogue)
        statuses = [message.get("status") for message in log.replies]
        after = statuses[statuses.index("complete") + 1 :] if "complete" in statuses else statuses
        demand("streaming" not in after, f"in the middle of its stream a call is answered: {shown(statuses)}")
        if after == ["complete"]:
            raise Unjudged("the stream had ended when the other call arrived")
        demand(not after, f"the call's messages have the statuses {shown(statuses)}")


@case("CHAT-WSCALL-013", clause_id="ws.unknown-function", reason="made-up success hides every mistake")
def test_unknown_function(target: Target) -> None:
    """A call of an unknown function ends with an error that names it."""
    with open_dialogue(target) as dialogue:
        error = dialogue.ask("no_such_function").error
        demand("no_such_function" in str(error), f"the error does not name it: {shown(error)}")


@case("CHAT-WSCALL-014", clause_id="ws.missing", reason="an empty prompt is not what was meant")
def test_missing_parameter(target: Target) -> None:
    """A call without a required parameter ends with an error that names it."""
    with open_dialogue(target) as dialogue:
        error = dialogue.ask("generate", max_tokens=4).error
        demand("prompt" in str(error), f"the error does not name `prompt`: {shown(error)}")


@case(
    "CHAT-WSCALL-015",
    clause_id="ws.wrong-type",
    reason="a parameter that is silently dropped changes the answer",
)
def test_wrong_parameters(target: Target) -> None:
    """A parameter of a wrong type or out of its range ends the call with an error that names it."""
    with open_dialogue(target) as dialogue:
        for name, value in WRONG.items():
            end = dialogue.ask("generate", **{"prompt": HELLO, "max_tokens": 4, name: value}).end
            wrong = f"`{name}`: {shown(value)}"
            demand(end.get("status") == "error", f"{wrong} is accepted: {shown(end)}")
            demand(name in str(end.get("error")), f"the error for {wrong} does not name it: {shown(end)}")


@case("CHAT-WSCALL-016", clause_id="ws.model", reason="an unknown model has been served by any model at hand")
def test_unknown_model(target: Target) -> None:
    """A call for an unknown model ends with an error that names the parameter."""
    with open_dialogue(target) as dialogue:
        error = dialogue.ask("generate", prompt=HELLO, max_tokens=4, model="no-such-model").error
        demand("model" in str(error), f"the error does not name `model`: {shown(error)}")


@case("CHAT-WSCALL-017", clause_id="ws.error-shape", reason="clients decide by the code what to do")
def test_error_shape(target: Target) -> None:
    """An error has a string `code` and a string `message`, and no data beside it."""
    with open_dialogue(target) as dialogue:
        log = dialogue.ask("generate")
        for name in ("code", "message"):
            demand(
                isinstance(log.error.get(name), str), f"the error has no string `{name}`: {shown(log.error)}"
            )
        demand("data" not in log.end, f"the reply has an error and data: {shown(log.end)}")


@case("CHAT-WSCALL-018", clause_id="ws.not-json", reason="an id that nobody sent belongs to nobody's call")
def test_not_json(target: Target) -> None:
    """A message that is no JSON is answered with an error of id null, or the connection is closed."""
    for text in ("{", "hello", '["generate"]', '{"id": "x", "function": "health"'):
        with open_dialogue(target) as dialogue:
            dialogue.socket.send(text)
            got = dialogue.reply_or_close()
            if got is None:
                continue
            demand(got.get("status") == "error", f"{text!r} is answered with {shown(got)}")
            demand(got.get("id") is None, f"{text!r} has no id, and its error has {shown(got.get('id'))}")


@case(
    "CHAT-WSCALL-019",
    clause_id="ws.serves-on",
    reason="one mistake has ended all other calls of its connection",
)
def test_serves_on(target: Target) -> None:
    """After calls that were refused the connection serves on."""
    with open_dialogue(target) as dialogue:
        for _ in range(3):
            dialogue.ask("generate")
            dialogue.ask("no_such_function")
        result = dialogue.ask("generate", prompt=HELLO, max_tokens=4).result
        demand(isinstance(result.get("text"), str), f"the next answer has no text: {shown(result)}")


@case("CHAT-WSCALL-020", clause_id="ws.metadata", reason="a client can ask what there is instead of guessing")
def test_metadata_and_health(target: Target) -> None:
    """`health` and `metadata` are completed with an object each."""
    with open_dialogue(target) as dialogue:
        for function in ("health", "metadata"):
            data = dialogue.ask(function).result
            demand(bool(data), f"`{function}` says nothing")


@case("CHAT-WSCALL-021", clause_id="ws.pipeline", reason="a pipeline that is not there cannot have an answer")
def test_unknown_pipeline(target: Target) -> None:
    """A call of an unknown pipeline ends with an error that names it."""
    with open_dialogue(target) as dialogue:
        error = dialogue.ask("pipeline", pipeline="no-such-pipeline", input="x").error
        demand("pipeline" in str(error), f"the error does not name `pipeline`: {shown(error)}")


@case("CHAT-WSCALL-022", clause_id="ws.leave", reason="a closed tab has aborted the next user's request")
def test_clients_that_leave(target: Target) -> None:
    """After clients left in the middle of streams, the next ones are answered."""
    for _ in range(4):
        with open_dialogue(target) as dialogue:
            log = dialogue.call("long", "generate", prompt=OPENING, max_tokens=64, stream=True)
            dialogue.until(partial(began, log))
    with open_dialogue(target) as dialogue:
        data = dialogue.ask("generate", prompt=HELLO, max_tokens=4).result
        demand(isinstance(data.get("text"), str), f"the next answer has no text: {shown(data)}")
