;; A whole guest of ABI v1. It always takes the likeliest token, so it answers 0 to a request that asks for sampling or
;; a penalty. Everything else of the contract it keeps.
(module
  (import "env" "realm_get_model_metadata" (func $metadata (param i32 i32 i32) (result i32)))
  (import "env" "realm_encode_tokens" (func $encode (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "realm_decode_tokens" (func $decode (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "realm_embed_tokens" (func $embed (param i32 i32 i32 i32) (result i32)))
  (import "env" "realm_forward_layer" (func $layer (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "realm_compute_logits" (func $logits (param i32 i32 i32 i32) (result i32)))
  (import "env" "realm_stream_token" (func $stream (param i32 i32) (result i32)))

  ;; 0x100 vocab_size, hidden_size, num_layers, max_seq_len      0x180 their names in the metadata
  ;; 0x200 one token id     0x8000 the metadata, at most 0x8000 bytes
  ;; 0x10000 the heap: what realm_alloc gave, then ids, hidden states, logits, a token's bytes, and last the whole text
  (memory (export "memory") 2)
  (data (i32.const 0x180) "\"vocab_size\"\00\00\00\00" "\"hidden_size\"\00\00\00" "\"num_layers\"\00\00\00\00"
                          "\"max_seq_len\"\00\00\00")
  (global $heap (mut i32) (i32.const 0x10000))
  (global $returned (mut i32) (i32.const 0)) ;; generate has returned: the next request starts an empty heap

  (global $model (mut i32) (i32.const 0))
  (global $hidden (mut i32) (i32.const 0)) ;; f32[8, hidden_size]
  (global $row (mut i32) (i32.const 0)) ;; f32[vocab_size]

  (global $piece (mut i32) (i32.const 0)) ;; the bytes of one token
  (global $room (mut i32) (i32.const 0)) ;; how many there may be
  (global $text (mut i32) (i32.const 0)) ;; text that is ready, and a character begun
  (global $size (mut i32) (i32.const 0)) ;; its bytes
  (global $begun (mut i32) (i32.const 0)) ;; of them, those of a character that is not complete
  (global $missing (mut i32) (i32.const 0)) ;; bytes that it still needs
  (global $low (mut i32) (i32.const 0)) ;; its next byte lies between these
  (global $high (mut i32) (i32.const 0))
  (global $start (mut i32) (i32.const 0)) ;; of the whole text
  (global $end (mut i32) (i32.const 0))

  (func (export "realm_new") (result i32) (i32.const 1))

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
      (then (global.set $returned (i32.const 0)) (global.set $heap (i32.const 0x10000))))
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
    (local $new i32) (local $length i32)
    (local.set $length (i32.sub (global.get $end) (global.get $start)))
    (global.set $piece (call $take (i64.extend_i32_u (local.get $bytes))))
    (local.set $new (call $take (i64.add (i64.const 16) (i64.mul (i64.const 3) (i64.extend_i32_u (local.get $bytes))))))
    (if (i32.or (i32.eqz (global.get $piece)) (i32.eqz (local.get $new))) (then (return (i32.const -9))))
    (memory.copy (local.get $new) (global.get $text) (global.get $size)) ;; a character begun
    (global.set $text (local.get $new))
    (global.set $room (local.get $bytes))
    (local.set $new (call $take (i64.extend_i32_u (local.get $length)))) ;; the whole text is last again
    (if (i32.eqz (local.get $new)) (then (return (i32.const -9))))
    (memory.copy (local.get $new) (global.get $start) (local.get $length))
    (global.set $start (local.get $new))
    (global.set $end (i32.add (local.get $new) (local.get $length)))
    (i32.const 0))

  ;; the bytes of token 0x200 go to the text; 0 or an error
  (func $push_token (result i32)
    (local $len i32) (local $i i32)
    (loop $again
      (local.set $len (call $decode (global.get $model) (i32.const 0x200) (i32.const 1)
                                    (global.get $piece) (global.get $room)))
      (if (i32.and (i32.eq (local.get $len) (i32.const -4)) (i32.lt_u (global.get $room) (i32.const 0x1000000)))
        (then ;; buffer_too_small: again with twice the room
          (local.set $i (call $make_room (i32.shl (global.get $room) (i32.const 1))))
          (if (local.get $i) (then (return (local.get $i))))
          (br $again))))
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

  ;; streams the characters that are complete and adds them to the whole text; keeps the one that is begun
  (func $hand_on (result i32)
    (local $ready i32) (local $answer i32)
    (local.set $ready (i32.sub (global.get $size) (global.get $begun)))
    (if (i32.gt_u (i32.add (global.get $end) (local.get $ready)) (global.get $heap))
      (then
        (if (i32.eqz (call $take (i64.extend_i32_u (local.get $ready)))) (then (return (i32.const -9))))))
    (memory.copy (global.get $end) (global.get $text) (local.get $ready))
    (global.set $end (i32.add (global.get $end) (local.get $ready)))
    (local.set $answer (call $stream (global.get $text) (local.get $ready)))
    (memory.copy (global.get $text) (i32.add (global.get $text) (local.get $ready)) (global.get $begun))
    (global.set $size (global.get $begun))
    (local.get $answer))

  ;; ---------------------------------------------------------------------------------------------------- the model

  ;; the number after a name in the metadata's `len` bytes, to be stored at $to; 0, or -14 if it is not there
  (func $read_number (param $len i32) (param $name i32) (param $to i32) (result i32)
    (local $at i32) (local $end i32) (local $i i32) (local $byte i32) (local $value i32)
    (local.set $at (i32.const 0x8000))
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (block $found
      (loop $search
        (if (i32.ge_u (local.get $at) (local.get $end)) (then (return (i32.const -14))))
        (local.set $i (i32.const 0))
        (block $differs
          (loop $compare
            (local.set $byte (i32.load8_u (i32.add (local.get $name) (local.get $i))))
            (br_if $found (i32.eqz (local.get $byte)))
            (br_if $differs (i32.ne (local.get $byte) (i32.load8_u (i32.add (local.get $at) (local.get $i)))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $compare)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $search)))
    (local.set $at (i32.add (local.get $at) (local.get $i)))
    (loop $skip ;; a colon and spaces
      (local.set $byte (i32.load8_u (local.get $at)))
      (if (i32.or (i32.eq (local.get $byte) (i32.const 0x3a)) (i32.le_u (local.get $byte) (i32.const 0x20)))
        (then
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br_if $skip (i32.lt_u (local.get $at) (local.get $end))))))
    (block $done
      (loop $digits
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $byte (i32.sub (i32.load8_u (local.get $at)) (i32.const 0x30)))
        (br_if $done (i32.gt_u (local.get $byte) (i32.const 9)))
        (local.set $value (i32.add (i32.mul (local.get $value) (i32.const 10)) (local.get $byte)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $digits)))
    (i32.store (local.get $to) (local.get $value))
    (select (i32.const 0) (i32.const -14) (local.get $value)))

  (func $read_model (result i32)
    (local $len i32) (local $i i32) (local $answer i32)
    (local.set $len (call $metadata (global.get $model) (i32.const 0x8000) (i32.const 0x8000)))
    (if (i32.lt_s (local.get $len) (i32.const 0)) (then (return (local.get $len))))
    (if (i32.gt_u (local.get $len) (i32.const 0x8000)) (then (return (i32.const -14))))
    (loop $next
      (local.set $answer (call $read_number (local.get $len)
                                            (i32.add (i32.const 0x180) (i32.shl (local.get $i) (i32.const 4)))
                                            (i32.add (i32.const 0x100) (i32.shl (local.get $i) (i32.const 2)))))
      (if (local.get $answer) (then (return (local.get $answer))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (i32.const 4))))
    (global.set $hidden (call $take (i64.shl (i64.extend_i32_u (i32.load offset=4 (i32.const 0x100))) (i64.const 5))))
    (global.set $row (call $take (i64.shl (i64.extend_i32_u (i32.load (i32.const 0x100))) (i64.const 2))))
    (select (i32.const 0) (i32.const -9) (i32.and (i32.ne (global.get $hidden) (i32.const 0))
                                                  (i32.ne (global.get $row) (i32.const 0)))))

  ;; 0 if an import that promises a number of bytes kept it, else the error
  (func $exactly (param $answer i32) (param $bytes i32) (result i32)
    (if (i32.lt_s (local.get $answer) (i32.const 0)) (then (return (local.get $answer))))
    (select (i32.const 0) (i32.const -14) (i32.eq (local.get $answer) (local.get $bytes))))

  ;; n <= 8 tokens, the first at $position, through all layers; the last one's logits to $row; 0 or an error
  (func $forward (param $ids i32) (param $n i32) (param $position i32) (result i32)
    (local $width i32) (local $values i32) (local $layer_index i32) (local $answer i32)
    (local.set $width (i32.load offset=4 (i32.const 0x100)))
    (local.set $values (i32.mul (local.get $n) (local.get $width)))
    (local.set $answer
      (call $exactly (call $embed (global.get $model) (local.get $ids) (local.get $n) (global.get $hidden))
                     (i32.shl (local.get $values) (i32.const 2))))
    (if (local.get $answer) (then (return (local.get $answer))))
    (loop $next
      (local.set $answer
        (call $exactly (call $layer (global.get $model) (local.get $layer_index)
                                    (global.get $hidden) (local.get $values) (local.get $position)
                                    (global.get $hidden)) ;; out over in: that is allowed
                       (i32.shl (local.get $values) (i32.const 2))))
      (if (local.get $answer) (then (return (local.get $answer))))
      (local.set $layer_index (i32.add (local.get $layer_index) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $layer_index) (i32.load offset=8 (i32.const 0x100)))))
    (call $exactly
      (call $logits (global.get $model)
        (i32.add (global.get $hidden) ;; the last row
                 (i32.shl (i32.mul (i32.sub (local.get $n) (i32.const 1)) (local.get $width)) (i32.const 2)))
        (local.get $width) (global.get $row))
      (i32.shl (i32.load (i32.const 0x100)) (i32.const 2))))

  ;; ----------------------------------------------------------------------------------------------------- the loop

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

  (func $stops (param $options i32) (param $token i32) (result i32)
    (local $i i32)
    (block $no
      (loop $next
        (br_if $no (i32.ge_u (local.get $i) (i32.load8_u offset=24 (local.get $options))))
        (if (i32.eq (local.get $token)
                    (i32.load (i32.add (i32.load offset=28 (local.get $options))
                                       (i32.shl (local.get $i) (i32.const 2)))))
          (then (return (i32.const 1))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (i32.const 0))

  (func $prefill (param $ids i32) (param $n i32) (result i32)
    (local $fed i32) (local $count i32) (local $answer i32)
    (loop $next
      (local.set $count (i32.sub (local.get $n) (local.get $fed)))
      (if (i32.gt_u (local.get $count) (i32.const 8)) (then (local.set $count (i32.const 8))))
      (local.set $answer (call $forward (i32.add (local.get $ids) (i32.shl (local.get $fed) (i32.const 2)))
                                        (local.get $count) (local.get $fed)))
      (if (local.get $answer) (then (return (local.get $answer))))
      (local.set $fed (i32.add (local.get $fed) (local.get $count)))
      (br_if $next (i32.lt_u (local.get $fed) (local.get $n))))
    (i32.const 0))

  ;; token after token, the first at $position; 0, 1 if the host asked to stop, or an error
  (func $tokens (param $options i32) (param $position i32) (result i32)
    (local $made i32) (local $token i32) (local $last i32) (local $answer i32)
    (loop $again (result i32)
      (local.set $made (i32.add (local.get $made) (i32.const 1)))
      (local.set $token (call $likeliest (global.get $row)))
      (i32.store (i32.const 0x200) (local.get $token))
      (if (call $stops (local.get $options) (local.get $token))
        (then ;; a stop token is not streamed; only what was held back is
          (if (i32.eqz (global.get $missing)) (then (return (i32.const 0))))
          (call $replace)
          (return (call $hand_on))))
      (local.set $last (i32.or (i32.eq (local.get $made) (i32.load (local.get $options)))
                               (i32.eq (local.get $position) (i32.load offset=12 (i32.const 0x100)))))
      (local.set $answer (call $push_token))
      (if (local.get $answer) (then (return (local.get $answer))))
      (if (i32.and (local.get $last) (i32.ne (global.get $missing) (i32.const 0))) (then (call $replace)))
      (local.set $answer (call $hand_on))
      (if (i32.or (local.get $answer) (local.get $last)) (then (return (local.get $answer))))
      (local.set $answer (call $forward (i32.const 0x200) (i32.const 1) (local.get $position)))
      (if (local.get $answer) (then (return (local.get $answer))))
      (local.set $position (i32.add (local.get $position) (i32.const 1)))
      (br $again)))

  (func $run (param $prompt i32) (param $len i32) (param $options i32) (result i32)
    (local $room i64) (local $ids i32) (local $n i32) (local $answer i32)
    (local.set $answer (call $read_model))
    (if (local.get $answer) (then (return (local.get $answer))))
    ;; no options are the defaults, which sample at a temperature of 0.7
    (if (i32.eqz (local.get $options)) (then (return (i32.const -12))))
    (if (i32.or (i32.eqz (f32.lt (f32.load offset=4 (local.get $options)) (f32.const 1e-7)))
                (f32.ne (f32.load offset=16 (local.get $options)) (f32.const 1)))
      (then (return (i32.const -12))))
    ;; a token is at least a byte, but for a beginning of sequence and the like
    (local.set $room (i64.shl (i64.add (i64.extend_i32_u (local.get $len)) (i64.const 16)) (i64.const 2)))
    (local.set $ids (call $take (local.get $room)))
    (if (i32.eqz (local.get $ids)) (then (return (i32.const -9))))
    (local.set $n (call $encode (global.get $model) (local.get $prompt) (local.get $len)
                                (local.get $ids) (i32.wrap_i64 (local.get $room)))) ;; a capacity in bytes
    (if (i32.lt_s (local.get $n) (i32.const 0)) (then (return (local.get $n))))
    (if (i32.gt_u (local.get $n) (i32.shr_u (i32.wrap_i64 (local.get $room)) (i32.const 2)))
      (then (return (i32.const -14)))) ;; more than the capacity
    (if (i32.gt_u (local.get $n) (i32.load offset=12 (i32.const 0x100))) (then (return (i32.const -10))))
    (if (i32.eqz (local.get $n)) (then (return (i32.const -1))))
    (global.set $start (global.get $heap)) ;; the text is the heap's last piece, so it can grow
    (global.set $end (global.get $start))
    (local.set $answer (call $make_room (i32.const 256)))
    (if (local.get $answer) (then (return (local.get $answer))))
    (if (i32.eqz (i32.load (local.get $options))) (then (return (i32.const 0)))) ;; max_tokens 0
    (local.set $answer (call $prefill (local.get $ids) (local.get $n)))
    (if (local.get $answer) (then (return (local.get $answer))))
    (call $tokens (local.get $options) (local.get $n)))

  (func (export "generate") (param $prompt i32) (param $len i32) (param $model_id i32) (param $options i32) (result i32)
    (local $answer i32)
    (global.set $model (local.get $model_id))
    (global.set $size (i32.const 0)) ;; nothing of the request before
    (global.set $begun (i32.const 0))
    (global.set $missing (i32.const 0))
    (local.set $answer (call $run (local.get $prompt) (local.get $len) (local.get $options)))
    (global.set $returned (i32.const 1))
    (if (i32.lt_s (local.get $answer) (i32.const 0)) (then (return (i32.const 0))))
    (if (i32.eqz (call $take (i64.const 16))) (then (return (i32.const 0)))) ;; room for the NUL
    (i32.store8 (global.get $end) (i32.const 0))
    (global.get $start)))
