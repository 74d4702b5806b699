;; The smallest right guest of ABI v2: greedy, one token at a time, ASCII text. Tests spoil it line by line.
(module
  (import "env" "realm_model_info" (func $info (param i32 i32 i32) (result i32)))
  (import "env" "realm_encode" (func $encode (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "realm_decode" (func $decode (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "realm_session_open" (func $open (param i32) (result i32)))
  (import "env" "realm_session_free" (func $free (param i32) (result i32)))
  (import "env" "realm_forward" (func $forward (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "realm_emit" (func $emit (param i32 i32 i32 i32 f32 i32) (result i32)))

  ;; 0x200 ModelInfo, 0x300 the token fed, 0x400 text, 0x1000 prompt ids, 0x10000 logits, 0x20000 the request
  (memory (export "memory") 4)

  (func (export "realm_alloc") (param $len i32) (result i32)
    (select (i32.const 0x20000) (i32.const 0) (i32.le_u (local.get $len) (i32.const 0x20000))))

  ;; in place of a call that a spoiled variant leaves out
  (func $nothing (param i32 i32 i32 i32 f32 i32) (result i32) (i32.const 0))

  (func $argmax (result i32)
    (local $i i32) (local $best i32)
    (loop $next
      (if (f32.gt (f32.load (i32.add (i32.const 0x10000) (i32.shl (local.get $i) (i32.const 2))))
                  (f32.load (i32.add (i32.const 0x10000) (i32.shl (local.get $best) (i32.const 2)))))
        (then (local.set $best (local.get $i))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (i32.load (i32.const 0x200)))))
    (local.get $best))

  (func $is_stop (param $request i32) (param $token i32) (result i32)
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
    (i32.const 0))

  (func $run (param $request i32) (param $session i32) (param $n i32) (result i32)
    (local $ids i32) (local $token i32) (local $made i32) (local $result i32) (local $len i32)
    (local.set $ids (i32.const 0x1000))
    (loop $again (result i32)
      (local.set $result
        (call $forward (local.get $session) (local.get $ids) (local.get $n)
                       (i32.const 0x10000) (i32.const 1) (i32.const 0x4000)))
      (if (i32.lt_s (local.get $result) (i32.const 0)) (then (return (local.get $result)))) ;; forward failed
      (local.set $token (call $argmax))
      (if (call $is_stop (local.get $request) (local.get $token))
        (then
          (local.set $result
            (call $emit (local.get $session) (local.get $token) (i32.const 0) (i32.const 0)
                        (f32.const nan) (i32.const 1)))
          (return (select (local.get $result) (i32.const 0) (i32.lt_s (local.get $result) (i32.const 0))))))
      (i32.store (i32.const 0x300) (local.get $token))
      (local.set $len
        (call $decode (i32.load (i32.add (local.get $request) (i32.const 4))) (i32.const 0x300) (i32.const 1)
                      (i32.const 1) (i32.const 0x400) (i32.const 64)))
      (if (i32.lt_s (local.get $len) (i32.const 0)) (then (return (local.get $len)))) ;; decode failed
      (local.set $result
        (call $emit (local.get $session) (local.get $token) (i32.const 0x400) (local.get $len) (f32.const nan) (i32.const 0)))
      (if (i32.lt_s (local.get $result) (i32.const 0)) (then (return (local.get $result))))
      (if (local.get $result) (then (return (i32.const 3))))
      (local.set $made (i32.add (local.get $made) (i32.const 1)))
      (if (i32.ge_u (local.get $made) (i32.load offset=20 (local.get $request))) (then (return (i32.const 2)))) ;; full
      (local.set $ids (i32.const 0x300))
      (local.set $n (i32.const 1))
      (br $again)))

  (func (export "generate") (param $request i32) (result i32)
    (local $model i32) (local $session i32) (local $n i32) (local $result i32)
    (local.set $model (i32.load offset=4 (local.get $request)))
    (local.set $result (call $info (local.get $model) (i32.const 0x200) (i32.const 24)))
    (if (i32.lt_s (local.get $result) (i32.const 0)) (then (return (local.get $result))))
    (local.set $n
      (call $encode (local.get $model) (i32.load offset=8 (local.get $request)) (i32.load offset=12 (local.get $request))
                    (i32.const 3) (i32.const 0x1000) (i32.const 0x1000)))
    (if (i32.lt_s (local.get $n) (i32.const 0)) (then (return (local.get $n))))
    (if (i32.eqz (i32.load offset=20 (local.get $request))) (then (return (i32.const 2))))
    (local.set $session (call $open (local.get $model)))
    (if (i32.lt_s (local.get $session) (i32.const 0)) (then (return (local.get $session))))
    (local.set $result (call $run (local.get $request) (local.get $session) (local.get $n)))
    (local.set $n (call $free (local.get $session)))
    (local.get $result)))
