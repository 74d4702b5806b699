;; The smallest right guest of ABI v1, for 2 layers of width 16: greedy, chunks of 8, ASCII text. Tests spoil it.
(module
  (import "env" "realm_encode_tokens" (func $encode (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "realm_decode_tokens" (func $decode (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "realm_embed_tokens" (func $embed (param i32 i32 i32 i32) (result i32)))
  (import "env" "realm_forward_layer" (func $layer (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "realm_compute_logits" (func $logits (param i32 i32 i32 i32) (result i32)))
  (import "env" "realm_stream_token" (func $stream (param i32 i32) (result i32)))

  ;; 0x300 the token fed, 0x1000 prompt ids, 0x8000 hidden, 0x10000 logits, 0x20000 text, 0x40000 the request
  (memory (export "memory") 8)
  (global $end (mut i32) (i32.const 0x20000))

  (func (export "realm_new") (result i32) (i32.const 0))
  (func (export "realm_alloc") (param $len i32) (result i32) (i32.const 0x40000))

  (func $argmax (result i32)
    (local $i i32) (local $best i32)
    (loop $next
      (if (f32.gt (f32.load (i32.add (i32.const 0x10000) (i32.shl (local.get $i) (i32.const 2))))
                  (f32.load (i32.add (i32.const 0x10000) (i32.shl (local.get $best) (i32.const 2)))))
        (then (local.set $best (local.get $i))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (i32.const VOCAB))))
    (local.get $best))

  ;; n tokens from ids through all layers at a position, then the logits of the last; < 0 is an error
  (func $forward (param $model i32) (param $ids i32) (param $n i32) (param $position i32) (result i32)
    (local $i i32) (local $result i32)
    (local.set $result (call $embed (local.get $model) (local.get $ids) (local.get $n) (i32.const 0x8000)))
    (if (i32.lt_s (local.get $result) (i32.const 0)) (then (return (local.get $result))))
    (loop $next
      (local.set $result
        (call $layer (local.get $model) (local.get $i) (i32.const 0x8000) (i32.mul (local.get $n) (i32.const 16))
                     (local.get $position) (i32.const 0x8000)))
      (if (i32.lt_s (local.get $result) (i32.const 0)) (then (return (local.get $result)))) ;; layer failed
      (local.set $i (i32.add (local.get $i) (i32.const 1))) ;; next layer
      (br_if $next (i32.lt_u (local.get $i) (i32.const 2))))
    (call $logits (local.get $model)
      (i32.add (i32.const 0x8000) (i32.mul (i32.sub (local.get $n) (i32.const 1)) (i32.const 64)))
      (i32.const 16) (i32.const 0x10000)))

  (func (export "generate") (param $prompt i32) (param $len i32) (param $model i32) (param $options i32) (result i32)
    (local $n i32) (local $fed i32) (local $chunk i32) (local $token i32) (local $made i32) (local $ids i32)
    (local.set $n (call $encode (local.get $model) (local.get $prompt) (local.get $len) (i32.const 0x1000) (i32.const 0x4000)))
    (if (i32.lt_s (local.get $n) (i32.const 0)) (then (return (i32.const 0))))
    (loop $prefill
      (local.set $chunk (i32.sub (local.get $n) (local.get $fed)))
      (if (i32.gt_u (local.get $chunk) (i32.const 8)) (then (local.set $chunk (i32.const 8))))
      (local.set $ids (i32.add (i32.const 0x1000) (i32.shl (local.get $fed) (i32.const 2))))
      (if (i32.lt_s (call $forward (local.get $model) (local.get $ids) (local.get $chunk) (local.get $fed)) (i32.const 0))
        (then (return (i32.const 0))))
      (local.set $fed (i32.add (local.get $fed) (local.get $chunk)))
      (br_if $prefill (i32.lt_u (local.get $fed) (local.get $n))))
    (block $done
      (loop $again
        (local.set $token (call $argmax))
        (br_if $done (i32.eq (local.get $token) (i32.const EOS)))
        (i32.store (i32.const 0x300) (local.get $token))
        (local.set $len (call $decode (local.get $model) (i32.const 0x300) (i32.const 1) (global.get $end) (i32.const 64)))
        (if (i32.lt_s (local.get $len) (i32.const 0)) (then (return (i32.const 0)))) ;; decode failed
        (local.set $ids (call $stream (global.get $end) (local.get $len)))
        (if (i32.lt_s (local.get $ids) (i32.const 0)) (then (return (i32.const 0))))
        (global.set $end (i32.add (global.get $end) (local.get $len)))
        (br_if $done (local.get $ids)) ;; stopped
        (local.set $made (i32.add (local.get $made) (i32.const 1)))
        (br_if $done (i32.ge_u (local.get $made) (i32.load (local.get $options))))
        (if (i32.lt_s (call $forward (local.get $model) (i32.const 0x300) (i32.const 1) (local.get $fed)) (i32.const 0))
          (then (return (i32.const 0))))
        (local.set $fed (i32.add (local.get $fed) (i32.const 1)))
        (br $again)))
    (i32.store8 (global.get $end) (i32.const 0))
    (i32.const 0x20000)))
