;; A whole guest of ABI v2. It always takes the likeliest token, so it answers `unsupported` to a request that asks
;; for sampling, a penalty, stop strings or logprobs. Everything else of the contract it keeps.
(module
  (import "env" "realm_model_info" (func $model_info (param i32 i32 i32) (result i32)))
  (import "env" "realm_encode" (func $encode (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "realm_decode" (func $decode (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "realm_session_open" (func $open (param i32) (result i32)))
  (import "env" "realm_session_free" (func $free (param i32) (result i32)))
  (import "env" "realm_forward" (func $forward (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "realm_emit" (func $emit (param i32 i32 i32 i32 f32 i32) (result i32)))

  ;; 0x100 ModelInfo: vocab_size, hidden_size, num_layers, context_length, bos_token, eos_token
  ;; 0x200 one token id
  ;; 0x1000 the heap: what realm_alloc gave, then the prompt's ids, a row of logits, a token's bytes, text
  (memory (export "memory") 1)
  (global $heap (mut i32) (i32.const 0x1000))
  (global $returned (mut i32) (i32.const 0)) ;; generate has returned: the next request starts an empty heap

  (global $piece (mut i32) (i32.const 0)) ;; the bytes of one token
  (global $room (mut i32) (i32.const 0)) ;; how many there may be
  (global $text (mut i32) (i32.const 0)) ;; text that is ready, and a character begun
  (global $size (mut i32) (i32.const 0)) ;; its bytes
  (global $begun (mut i32) (i32.const 0)) ;; of them, those of a character that is not complete
  (global $missing (mut i32) (i32.const 0)) ;; bytes that it still needs
  (global $low (mut i32) (i32.const 0)) ;; its next byte lies between these
  (global $high (mut i32) (i32.const 0))

  ;; ------------------------------------------------------------------------------------------------------- memory

  ;; 16-aligned bytes from the heap, grown where needed; 0 if there are none. In 64 bits, so that nothing wraps.
  (func $take (param $bytes i64) (result i32)
    (local $at i32) (local $end i64)
    (local.set $at (global.get $heap))
    (local.set $end
      (i64.and (i64.add (i64.add (i64.extend_i32_u (local.get $at)) (local.get $bytes)) (i64.const 15))
               (i64.const -16)))
    (if (i64.gt_u (local.get $end) (i64.const 0x7fffffff)) (then (return (i32.const 0))))
    (if (i64.gt_u (local.get $end) (i64.shl (i64.extend_i32_u (memory.size)) (i64.const 16)))
      (then
        (if (i32.eq (i32.const -1)
                    (memory.grow (i32.sub (i32.wrap_i64 (i64.shr_u (i64.add (local.get $end) (i64.const 0xffff))
                                                                   (i64.const 16)))
                                          (memory.size))))
          (then (return (i32.const 0))))))
    (global.set $heap (i32.wrap_i64 (local.get $end)))
    (local.get $at))

  (func (export "realm_alloc") (param $len i32) (result i32)
    (if (global.get $returned)
      (then (global.set $returned (i32.const 0)) (global.set $heap (i32.const 0x1000))))
    (call $take (i64.extend_i32_u (local.get $len))))

  ;; --------------------------------------------------------------------------------------------------------- text

  (func $put (param $byte i32)
    (i32.store8 (i32.add (global.get $text) (global.get $size)) (local.get $byte))
    (global.set $size (i32.add (global.get $size) (i32.const 1))))

  ;; U+FFFD instead of the character that was begun
  (func $replace
    (global.set $size (i32.sub (global.get $size) (global.get $begun)))
    (global.set $begun (i32.const 0))
    (global.set $missing (i32.const 0))
    (call $put (i32.const 0xef)) (call $put (i32.const 0xbf)) (call $put (i32.const 0xbd)))

  ;; a first byte: how many follow, and what the second may be: no overlong form, no surrogate, nothing past U+10FFFF
  (func $begin (param $byte i32)
    (if (i32.lt_u (local.get $byte) (i32.const 0x80)) (then (call $put (local.get $byte)) (return)))
    (if (i32.or (i32.lt_u (local.get $byte) (i32.const 0xc2)) (i32.gt_u (local.get $byte) (i32.const 0xf4)))
      (then (call $replace) (return)))
    (global.set $missing
      (i32.add (i32.const 1) (i32.add (i32.ge_u (local.get $byte) (i32.const 0xe0))
                                      (i32.ge_u (local.get $byte) (i32.const 0xf0)))))
    (global.set $low (i32.const 0x80))
    (global.set $high (i32.const 0xbf))
    (if (i32.eq (local.get $byte) (i32.const 0xe0)) (then (global.set $low (i32.const 0xa0))))
    (if (i32.eq (local.get $byte) (i32.const 0xed)) (then (global.set $high (i32.const 0x9f))))
    (if (i32.eq (local.get $byte) (i32.const 0xf0)) (then (global.set $low (i32.const 0x90))))
    (if (i32.eq (local.get $byte) (i32.const 0xf4)) (then (global.set $high (i32.const 0x8f))))
    (global.set $begun (i32.const 1))
    (call $put (local.get $byte)))

  (func $push_byte (param $byte i32)
    (if (global.get $missing)
      (then
        (if (i32.or (i32.lt_u (local.get $byte) (global.get $low)) (i32.gt_u (local.get $byte) (global.get $high)))
          (then (call $replace) (call $begin (local.get $byte)) (return)))
        (call $put (local.get $byte))
        (global.set $low (i32.const 0x80))
        (global.set $high (i32.const 0xbf))
        (global.set $missing (i32.sub (global.get $missing) (i32.const 1)))
        (global.set $begun (select (i32.add (global.get $begun) (i32.const 1)) (i32.const 0) (global.get $missing)))
        (return)))
    (call $begin (local.get $byte)))

  ;; makes room for a token of so many bytes: each of them may become a U+FFFD; 0 or an error
  (func $make_room (param $bytes i32) (result i32)
    (local $new i32)
    (global.set $piece (call $take (i64.extend_i32_u (local.get $bytes))))
    (local.set $new (call $take (i64.add (i64.const 16) (i64.mul (i64.const 3) (i64.extend_i32_u (local.get $bytes))))))
    (if (i32.or (i32.eqz (global.get $piece)) (i32.eqz (local.get $new))) (then (return (i32.const -9))))
    (memory.copy (local.get $new) (global.get $text) (global.get $size)) ;; a character begun
    (global.set $text (local.get $new))
    (global.set $room (local.get $bytes))
    (i32.const 0))

  (func $decode_token (param $request i32) (param $out i32) (param $cap i32) (result i32)
    (call $decode (i32.load offset=4 (local.get $request)) (i32.const 0x200) (i32.const 1) (i32.const 1) ;; skip_special
                  (local.get $out) (local.get $cap)))

  ;; the bytes of token 0x200 go to the text; 0 or an error
  (func $push_token (param $request i32) (result i32)
    (local $len i32) (local $i i32)
    (local.set $len (call $decode_token (local.get $request) (global.get $piece) (global.get $room)))
    (if (i32.eq (local.get $len) (i32.const -4)) ;; buffer_too_small: capacity 0 asks how long it is
      (then
        (local.set $len (call $decode_token (local.get $request) (i32.const 0) (i32.const 0)))
        (if (i32.lt_s (local.get $len) (i32.const 0)) (then (return (local.get $len))))
        (local.set $i (call $make_room (local.get $len)))
        (if (local.get $i) (then (return (local.get $i))))
        (local.set $len (call $decode_token (local.get $request) (global.get $piece) (global.get $room)))))
    (if (i32.lt_s (local.get $len) (i32.const 0)) (then (return (local.get $len))))
    (if (i32.gt_u (local.get $len) (global.get $room)) (then (return (i32.const -14))))
    (local.set $i (i32.const 0))
    (block $end
      (loop $next
        (br_if $end (i32.ge_u (local.get $i) (local.get $len)))
        (call $push_byte (i32.load8_u (i32.add (global.get $piece) (local.get $i))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (i32.const 0))

  ;; hands on a token with the characters that are complete; keeps the one that is begun
  (func $hand_on (param $session i32) (param $token i32) (param $flags i32) (result i32)
    (local $ready i32) (local $answer i32)
    (local.set $ready (i32.sub (global.get $size) (global.get $begun)))
    (local.set $answer (call $emit (local.get $session) (local.get $token) (global.get $text) (local.get $ready)
                                   (f32.const nan) (local.get $flags)))
    (memory.copy (global.get $text) (i32.add (global.get $text) (local.get $ready)) (global.get $begun))
    (global.set $size (global.get $begun))
    (if (i32.gt_s (local.get $answer) (i32.const 1)) (then (return (i32.const -14))))
    (local.get $answer))

  ;; ------------------------------------------------------------------------------------------------------- tokens

  ;; the likeliest of a row of logits, the lowest id of equals; a NaN is never larger
  (func $likeliest (param $row i32) (result i32)
    (local $i i32) (local $best i32) (local $most f32) (local $here f32)
    (local.set $most (f32.const -inf))
    (loop $next
      (local.set $here (f32.load (i32.add (local.get $row) (i32.shl (local.get $i) (i32.const 2)))))
      (if (f32.gt (local.get $here) (local.get $most))
        (then (local.set $most (local.get $here)) (local.set $best (local.get $i))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (i32.load (i32.const 0x100)))))
    (local.get $best))

  ;; is it a stop token of the request, or, unless the flag ignore_eos is set, the model's end of sequence?
  (func $stops (param $request i32) (param $token i32) (result i32)
    (local $i i32)
    (block $no
      (loop $next
        (br_if $no (i32.ge_u (local.get $i) (i32.load offset=60 (local.get $request))))
        (if (i32.eq (local.get $token)
                    (i32.load (i32.add (i32.load offset=56 (local.get $request))
                                       (i32.shl (local.get $i) (i32.const 2)))))
          (then (return (i32.const 1))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (i32.and (i32.eq (local.get $token) (i32.load offset=20 (i32.const 0x100)))
             (i32.eqz (i32.and (i32.load offset=16 (local.get $request)) (i32.const 8)))))

  ;; ----------------------------------------------------------------------------------------------------- the loop

  ;; what means nothing: an option out of its range (every comparison with NaN is false), an empty stop string
  (func $is_invalid (param $request i32) (result i32)
    (local $at i32) (local $left i32)
    (if (i32.eqz
          (i32.and
            (i32.and (f32.eq (f32.load offset=28 (local.get $request)) (f32.load offset=28 (local.get $request)))
                     (f32.ge (f32.load offset=32 (local.get $request)) (f32.const 0))) ;; top_p
            (i32.and (i32.and (f32.ge (f32.load offset=36 (local.get $request)) (f32.const 0)) ;; min_p
                              (f32.le (f32.load offset=36 (local.get $request)) (f32.const 1)))
                     (i32.and (f32.gt (f32.load offset=40 (local.get $request)) (f32.const 0)) ;; repetition_penalty
                              (f32.lt (f32.load offset=40 (local.get $request)) (f32.const inf))))))
      (then (return (i32.const 1))))
    (local.set $at (i32.load offset=64 (local.get $request)))
    (local.set $left (i32.load offset=68 (local.get $request)))
    (block $end
      (loop $next
        (br_if $end (i32.eqz (local.get $left)))
        (if (i32.eqz (i32.load offset=4 (local.get $at))) (then (return (i32.const 1))))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))
    (i32.const 0))

  ;; what this guest has no code for
  (func $is_unsupported (param $request i32) (result i32)
    (i32.or
      (i32.or (i32.load offset=68 (local.get $request)) ;; stop strings
              (i32.and (i32.load offset=16 (local.get $request)) (i32.const 2))) ;; want_logprobs
      (i32.or (i32.eqz (f32.lt (f32.load offset=28 (local.get $request)) (f32.const 1e-7))) ;; temperature
              (f32.ne (f32.load offset=40 (local.get $request)) (f32.const 1))))) ;; repetition_penalty

  ;; all n ids from $ids into the session, the last one's logits to $row; 0 or an error
  (func $prefill (param $request i32) (param $session i32) (param $ids i32) (param $n i32) (param $row i32) (result i32)
    (local $chunk i32) (local $count i32) (local $last i32) (local $answer i32)
    (local.set $chunk (i32.load offset=44 (local.get $request)))
    (if (i32.eqz (local.get $chunk)) (then (local.set $chunk (i32.const 64))))
    (loop $next
      (local.set $last (i32.le_u (local.get $n) (local.get $chunk)))
      (local.set $count (select (local.get $n) (local.get $chunk) (local.get $last)))
      (local.set $answer (call $forward (local.get $session) (local.get $ids) (local.get $count) (local.get $row)
                                        (local.get $last) (i32.load (i32.const 0x100))))
      (if (i32.lt_s (local.get $answer) (i32.const 0)) (then (return (local.get $answer))))
      (if (i32.ne (local.get $answer) (local.get $last)) (then (return (i32.const -14))))
      (local.set $ids (i32.add (local.get $ids) (i32.shl (local.get $count) (i32.const 2))))
      (local.set $n (i32.sub (local.get $n) (local.get $count)))
      (br_if $next (local.get $n)))
    (i32.const 0))

  ;; token after token from the logits in $row, the first at $position; a finish reason or an error
  (func $tokens (param $request i32) (param $session i32) (param $row i32) (param $position i32) (result i32)
    (local $made i32) (local $token i32) (local $stop i32) (local $last i32) (local $answer i32)
    (loop $again (result i32)
      (local.set $made (i32.add (local.get $made) (i32.const 1)))
      (local.set $token (call $likeliest (local.get $row)))
      (i32.store (i32.const 0x200) (local.get $token))
      (local.set $stop (call $stops (local.get $request) (local.get $token)))
      (local.set $last (i32.or (i32.eq (local.get $made) (i32.load offset=20 (local.get $request)))
                               (i32.eq (local.get $position) (i32.load offset=12 (i32.const 0x100)))))
      (if (i32.eqz (local.get $stop))
        (then
          (local.set $answer (call $push_token (local.get $request)))
          (if (i32.lt_s (local.get $answer) (i32.const 0)) (then (return (local.get $answer))))))
      (if (i32.and (i32.or (local.get $stop) (local.get $last)) (i32.ne (global.get $missing) (i32.const 0)))
        (then (call $replace)))
      (local.set $answer (call $hand_on (local.get $session) (local.get $token) (local.get $stop))) ;; flag stop_token
      (if (i32.lt_s (local.get $answer) (i32.const 0)) (then (return (local.get $answer))))
      (if (local.get $stop) (then (return (i32.const 0))))
      (if (local.get $last) (then (return (i32.const 2))))
      (if (local.get $answer) (then (return (i32.const 3))))
      (local.set $answer (call $forward (local.get $session) (i32.const 0x200) (i32.const 1) (local.get $row)
                                        (i32.const 1) (i32.load (i32.const 0x100))))
      (if (i32.lt_s (local.get $answer) (i32.const 0)) (then (return (local.get $answer))))
      (if (i32.ne (local.get $answer) (i32.const 1)) (then (return (i32.const -14))))
      (local.set $position (i32.add (local.get $position) (i32.const 1)))
      (br $again)))

  (func $run (param $request i32) (result i32)
    (local $model i32) (local $flags i32) (local $text_ptr i32) (local $len i32) (local $room i64)
    (local $n i32) (local $ids i32) (local $row i32) (local $session i32) (local $answer i32)
    (local $freed i32)
    (if (i32.lt_u (i32.load (local.get $request)) (i32.const 72)) (then (return (i32.const -1))))
    (if (call $is_invalid (local.get $request)) (then (return (i32.const -1))))
    (if (call $is_unsupported (local.get $request)) (then (return (i32.const -12))))
    (local.set $model (i32.load offset=4 (local.get $request)))
    (local.set $text_ptr (i32.load offset=8 (local.get $request)))
    (local.set $len (i32.load offset=12 (local.get $request)))
    (local.set $answer (call $model_info (local.get $model) (i32.const 0x100) (i32.const 24)))
    (if (i32.lt_s (local.get $answer) (i32.const 0)) (then (return (local.get $answer))))
    (if (i32.ne (local.get $answer) (i32.const 24)) (then (return (i32.const -14))))
    ;; add_bos is bit 0 for both; parse_special (bit 1) unless the request says plain_text (bit 2)
    (local.set $flags (i32.or (i32.and (i32.load offset=16 (local.get $request)) (i32.const 1))
                              (select (i32.const 0) (i32.const 2)
                                      (i32.and (i32.load offset=16 (local.get $request)) (i32.const 4)))))
    ;; a token is mostly longer than a byte, so this is enough but for strange vocabularies
    (local.set $room (i64.add (i64.extend_i32_u (local.get $len)) (i64.const 16)))
    (loop $encode_again
      (local.set $ids (call $take (i64.shl (local.get $room) (i64.const 2))))
      (if (i32.eqz (local.get $ids)) (then (return (i32.const -9))))
      (local.set $n (call $encode (local.get $model) (local.get $text_ptr) (local.get $len) (local.get $flags)
                                  (local.get $ids) (i32.wrap_i64 (local.get $room)))) ;; a capacity in ids
      (local.set $room (i64.shl (local.get $room) (i64.const 1)))
      (br_if $encode_again (i32.eq (local.get $n) (i32.const -4)))) ;; buffer_too_small; in the end $take has no more
    (if (i32.lt_s (local.get $n) (i32.const 0)) (then (return (local.get $n))))
    (if (i64.gt_u (i64.shl (i64.extend_i32_u (local.get $n)) (i64.const 1)) (local.get $room))
      (then (return (i32.const -14)))) ;; more than the capacity
    (if (i32.eqz (local.get $n)) (then (return (i32.const -1))))
    (if (i32.gt_u (local.get $n) (i32.load offset=12 (i32.const 0x100))) (then (return (i32.const -10))))
    (if (i32.eqz (i32.load offset=20 (local.get $request))) (then (return (i32.const 2)))) ;; max_tokens 0
    (local.set $row (call $take (i64.shl (i64.extend_i32_u (i32.load (i32.const 0x100))) (i64.const 2))))
    (if (i32.eqz (local.get $row)) (then (return (i32.const -9))))
    (local.set $answer (call $make_room (i32.const 256)))
    (if (local.get $answer) (then (return (local.get $answer))))
    (local.set $session (call $open (local.get $model)))
    (if (i32.lt_s (local.get $session) (i32.const 0)) (then (return (local.get $session))))
    (local.set $answer (call $prefill (local.get $request) (local.get $session) (local.get $ids) (local.get $n)
                                      (local.get $row)))
    (if (i32.eqz (local.get $answer))
      (then (local.set $answer (call $tokens (local.get $request) (local.get $session) (local.get $row)
                                             (local.get $n)))))
    ;; whatever happened, the session is freed; an error that came before stays the answer
    (local.set $freed (call $free (local.get $session)))
    (select (local.get $freed) (local.get $answer)
            (i32.and (i32.ge_s (local.get $answer) (i32.const 0)) (i32.lt_s (local.get $freed) (i32.const 0)))))

  (func (export "generate") (param $request i32) (result i32)
    (local $answer i32)
    (global.set $size (i32.const 0)) ;; nothing of the request before
    (global.set $begun (i32.const 0))
    (global.set $missing (i32.const 0))
    (local.set $answer (call $run (local.get $request)))
    (global.set $returned (i32.const 1))
    (local.get $answer)))
